import { Controller, Get, Header, Session, type Type } from '@nestjs/common';
import type { SessionData } from 'express-session';
import { SkipSingleSession } from 'nestjs-single-session';
import { page, type PageFacts } from './page.js';
import { script } from './page-script.js';
import { style } from './page-style.js';

/** The page at `/`. It is not skipped, so a browser whose session has ended is redirected and told why. */
export function pageController(facts: PageFacts): Type {
  const html = page(facts);

  @Controller()
  class PageController {
    /** Begins a cookie session, as a login page with a CSRF token does: two clicks on "Log in" have it in common. */
    @Get()
    @Header('Content-Type', 'text/html; charset=utf-8')
    page(@Session() session: SessionData): string {
      session.visited = true;
      return html;
    }

    @Get('demo.css')
    @SkipSingleSession()
    @Header('Content-Type', 'text/css; charset=utf-8')
    style(): string {
      return style;
    }

    @Get('demo.js')
    @SkipSingleSession()
    @Header('Content-Type', 'text/javascript; charset=utf-8')
    script(): string {
      return script;
    }
  }
  return PageController;
}

import { Get, Header, HttpStatus, Req, Res, type Type } from '@nestjs/common';
import { setHeader, type SessionResponse } from '../http/response.js';
import { Mounted, type ControllerSettings } from './mounted.js';
import { page } from './page/page.js';
import { script } from './page/page-script.js';
import { style } from './page/page-style.js';
import { PermissionGuard } from './permission.guard.js';

const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src 'self' data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  // Text never becomes markup, not even by a mistake of the script.
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join('; ');

type Redirecting = SessionResponse & { status(code: number): unknown };

/** The page for administrators: nothing in it but what the REST API answers. */
export function pageController({ path, guards }: ControllerSettings): Type {
  @Mounted({ path: `${path}/ui`, guards }, PermissionGuard)
  class SingleSessionPageController {
    @Get()
    @Header('Content-Type', 'text/html; charset=utf-8')
    @Header('Content-Security-Policy', CONTENT_SECURITY_POLICY)
    @Header('Referrer-Policy', 'no-referrer')
    page(@Req() { url }: { url: string }, @Res({ passthrough: true }) response: Redirecting): string {
      // The page names its parts relative to itself.
      if (!url.split('?', 1)[0]!.endsWith('/')) return page;
      setHeader(response, 'Location', '../ui');
      response.status(HttpStatus.PERMANENT_REDIRECT);
      return 'The page is at /ui.';
    }

    @Get('app.js')
    @Header('Content-Type', 'text/javascript; charset=utf-8')
    script(): string {
      return script;
    }

    @Get('app.css')
    @Header('Content-Type', 'text/css; charset=utf-8')
    style(): string {
      return style;
    }
  }
  return SingleSessionPageController;
}

import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Req, UseGuards, type ExecutionContext } from '@nestjs/common';
import { AuthGuard, PassportStrategy } from '@nestjs/passport';
import type { FastifyReply } from 'fastify';
import { Strategy } from 'passport';
import { startApplication, type TestApplication } from '../support/application.js';
import { Browser } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

interface Request {
  session: { state?: string };
}

/** The first half of OAuth. */
class LeavingStrategy extends Strategy {
  override authenticate(request: unknown): void {
    (request as Request).session.state = 'of this browser';
    this.redirect('https://provider.example/authorize');
  }
}

@Injectable()
class Leaving extends PassportStrategy(LeavingStrategy, 'leaving') {
  validate(): void {}
}

/** As in the README. */
@Injectable()
class RedirectingGuard extends AuthGuard('leaving') {
  getResponse(context: ExecutionContext) {
    const reply = context.switchToHttp().getResponse<FastifyReply>();
    return {
      set statusCode(code: number) {
        reply.code(code);
      },
      setHeader: (name: string, value: string) => reply.header(name, value),
      end: () => reply.send(),
    };
  }
}

@Controller()
class LeavingController {
  @UseGuards(RedirectingGuard)
  @Get('leave')
  leave(): void {}

  @Get('state')
  state(@Req() { session }: Request): object {
    return { state: session.state };
  }
}

let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, {
    controllers: [LeavingController],
    providers: [Leaving],
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

it('on Fastify, a strategy that redirects does so through the response that its guard gives it, and what it put into the cookie session is there afterwards', async () => {
  const browser = new Browser(application.url);
  const { status, headers } = await browser.get('/leave');
  expect([status, headers.get('location')]).toEqual([302, 'https://provider.example/authorize']);
  expect((await browser.get('/state')).body).toEqual({ state: 'of this browser' });
});

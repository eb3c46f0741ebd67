import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Get,
  Sse,
  UseGuards,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import { of, tap, type Observable } from 'rxjs';
import { startApplication, type TestApplication } from '../support/application.js';
import { TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

/** Answers from memory what it has answered before, as a CacheInterceptor does. */
class Caching implements NestInterceptor {
  private readonly answers = new Map<string, unknown>();
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const key = context.getHandler().name;
    if (key !== 'cached') return next.handle();
    if (this.answers.has(key)) return of(this.answers.get(key));
    return next.handle().pipe(tap((answer) => this.answers.set(key, answer)));
  }
}

const JwtGuard = AuthGuard('jwt');

/** A guard of the application that runs after the one that authenticates. */
class Passing implements CanActivate {
  canActivate(): boolean {
    return true;
  }
}

abstract class Inherited {
  @UseGuards(JwtGuard, Passing)
  @Get('inherited')
  inherited(): string {
    return 'a secret';
  }
}

@Controller('one')
class RoutesController extends Inherited {
  @UseGuards(JwtGuard)
  @Get('cached')
  cached(): string {
    return 'a secret';
  }

  @UseGuards(JwtGuard)
  @Sse('stream')
  stream(): Observable<object> {
    return of({ data: 'a secret' });
  }
}

@UseGuards(JwtGuard)
@Controller('two')
class GuardedController extends Inherited {
  @Get('of-class')
  ofClass(): string {
    return 'a secret';
  }
}

const PATHS = ['/one/cached', '/one/stream', '/one/inherited', '/two/of-class', '/two/inherited'];

let url: string;
let application: TestApplication;

beforeAll(async () => {
  url = await freshDatabase();
  application = await startApplication(url, {
    controllers: [RoutesController, GuardedController],
    session: null,
    serializer: false,
    configure: (app) => void app.useGlobalInterceptors(new Caching()),
  });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(url);
});

describe('a route whose own guard authenticates, which is later than the global guard', () => {
  it.each(PATHS)(
    'refuses an evicted token before any interceptor or stream: %s [lesson 25]',
    async (path) => {
      const old = new TokenClient(application.url);
      await old.login('alice');
      const answered = await old.get(path);
      expect(answered.status).toBe(200);

      const current = new TokenClient(application.url);
      await current.login('alice');
      const refused = await old.get(path);
      expect([refused.status, refused.body]).toEqual([
        401,
        expect.objectContaining({ code: 'SESSION_ENDED' }),
      ]);
      expect((await current.get(path)).status).toBe(200);
    },
  );
});

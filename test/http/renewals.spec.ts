import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Get,
  Injectable,
  Post,
  Req,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import pg from 'pg';
import {
  CurrentSession,
  SingleSessionEvents,
  SingleSessionLogin,
  SingleSessionLogout,
  SingleSessionService,
} from '../../src/index.js';
import { startApplication, type TestApplication, type TestUser } from '../support/application.js';
import { Browser, TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { newUser } from '../support/sessions.js';
import { until } from '../support/store.js';

@Injectable()
class TokenToCookieGuard extends AuthGuard('jwt') {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    const passed = (await super.canActivate(context)) as boolean;
    await super.logIn(context.switchToHttp().getRequest());
    return passed;
  }
}

@Injectable()
class SignedInGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    return context.switchToHttp().getRequest<{ user?: unknown }>().user !== undefined;
  }
}

@Controller('renew')
class RenewController {
  @UseGuards(SignedInGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post('from-cookie')
  fromCookie(@CurrentSession() session: CurrentSession): object {
    return { session };
  }

  @UseGuards(AuthGuard('jwt'))
  @SingleSessionLogin({ credential: 'token' })
  @Post('token')
  token(@CurrentSession() session: CurrentSession): object {
    return { session };
  }

  @UseGuards(TokenToCookieGuard)
  @SingleSessionLogin({ credential: 'cookie' })
  @Post('cookie')
  cookie(@CurrentSession() session: CurrentSession): object {
    return { session };
  }
}

let databaseUrl: string;
let application: TestApplication;
let database: pg.Client;
/** Looks at the others: inside a transaction pg_stat_activity shows what it showed first. */
let observer: pg.Client;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { controllers: [RenewController] });
  database = new pg.Client({ connectionString: databaseUrl });
  observer = new pg.Client({ connectionString: databaseUrl });
  await Promise.all([database.connect(), observer.connect()]);
});

afterAll(async () => {
  await database?.end();
  await observer?.end();
  await application?.close();
  await dropDatabase(databaseUrl);
});

async function evicted(username: string): Promise<{ loser: TokenClient; winner: TokenClient }> {
  const [loser, winner] = [new TokenClient(application.url), new TokenClient(application.url)];
  await loser.login(username);
  await winner.login(username);
  return { loser, winner };
}

async function waitingForLocks(count: number): Promise<void> {
  await until(async () => {
    const { rows } = await observer.query(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    );
    return rows[0].n === count;
  });
}

describe('a login that takes a token of ours for a password', () => {
  it.each(['token', 'cookie'])(
    'is refused to an evicted token at renew/%s, with the reason, and the winner goes on [P2, P3]',
    async (path) => {
      const { loser, winner } = await evicted('alice');
      const refused = await loser.post(`/renew/${path}`);
      expect(refused.status).toBe(401);
      expect(refused.body).toMatchObject({ code: 'SESSION_ENDED', reason: 'superseded' });
      expect(refused.headers.get('www-authenticate')).toBe('Bearer error="invalid_token"');
      expect((await winner.get()).status).toBe(200);
    },
  );

  it('is refused when a login that queued before it has ended the token meanwhile [P2, P3]', async () => {
    const [old, winner] = [new TokenClient(application.url), new TokenClient(application.url)];
    await old.login('bob');
    await database.query('BEGIN');
    await database.query("SELECT FROM user_session_slots WHERE user_id = '2' FOR UPDATE");
    const login = winner.login('bob');
    await waitingForLocks(1);
    const renewal = old.post('/renew/token');
    await waitingForLocks(2);
    await database.query('COMMIT');
    expect((await login).status).toBe(200);
    expect((await renewal).status).toBe(401);
    expect((await winner.get()).status).toBe(200);
  });

  it('is refused when the session has expired, although its token has not [P2]', async () => {
    const client = new TokenClient(application.url);
    await client.login('alice');
    await database.query(
      "UPDATE user_session SET expires_at = now() - interval '1 second' WHERE user_id = '1'",
    );
    expect((await client.post('/renew/token')).status).toBe(401);
  });

  it('renews a live token once, and a copy of the old one is refused', async () => {
    const client = new TokenClient(application.url);
    await client.login('alice');
    expect((await client.post('/renew/token')).status).toBe(201);
    expect((await client.post('/renew/token')).status).toBe(401);
  });
});

describe("a browser that asks for a token where there is no room, with onLimit: 'reject'", () => {
  let rejecting: TestApplication;
  let user: TestUser;
  let browser: Browser;

  beforeEach(async () => {
    rejecting = await startApplication(databaseUrl, {
      users: application.users,
      options: { onLimit: 'reject' },
      controllers: [RenewController],
    });
    user = newUser(rejecting);
    browser = new Browser(rejecting.url);
    await browser.login(user.username);
  });
  afterEach(() => rejecting.close());

  it('gets 409 and keeps its session: it is not refused as ended, which would lock its user out', async () => {
    const events: string[] = [];
    rejecting.app.get(SingleSessionEvents).all.subscribe(({ type }) => events.push(type));
    const refused = await browser.post('/renew/from-cookie');
    expect([refused.status, refused.body.code]).toEqual([409, 'SESSION_LIMIT_REACHED']);
    expect(events).toEqual(['limit-reached']);
    expect((await browser.get('/me')).body.user?.username).toBe(user.username);
    await browser.post('/logout');
    expect((await new Browser(rejecting.url).login(user.username)).status).toBe(200);
  });

  it('gets 401 with the reason when that session has ended while it waited', async () => {
    await database.query('BEGIN');
    await database.query('SELECT FROM user_session_slots WHERE user_id = $1 FOR UPDATE', [String(user.id)]);
    const ending = rejecting.app.get(SingleSessionService).endUser(user.id);
    await waitingForLocks(1);
    const asked = browser.post('/renew/from-cookie');
    await waitingForLocks(2);
    await database.query('COMMIT');
    expect(await ending).toEqual({ ended: 1 });
    const refused = await asked;
    expect([refused.status, refused.body.code, refused.body['reason']]).toEqual([
      401,
      'SESSION_ENDED',
      'admin',
    ]);
    expect((await browser.get('/me')).body.user).toBeNull();
  });
});

describe('a limit that differs between two requests of one user', () => {
  it('refuses the session that it is too low for, and leaves the others alone', async () => {
    const users = new Map<string, number>();
    const limited = await startApplication(databaseUrl, {
      options: { maxSessions: (user: TestUser) => users.get(String(user.roles[0])) ?? 3 },
    });
    try {
      const clients = [1, 2, 3].map(() => new TokenClient(limited.url));
      for (const client of clients) await client.login('worker');
      users.set('service', 1);
      expect((await clients[0]!.get()).status).toBe(401);
      users.delete('service');
      expect((await clients[0]!.get()).status).toBe(401);
      expect((await clients[1]!.get()).status).toBe(200);
      expect((await clients[2]!.get()).status).toBe(200);
    } finally {
      await limited.close();
    }
  });
});

describe('a class', () => {
  it('cannot be a login or a logout: that would take all its routes out of the guard', () => {
    @Controller()
    class Everything {
      @Get()
      secret(@Req() request: object): object {
        return request;
      }
    }
    expect(() => (SingleSessionLogout() as ClassDecorator)(Everything)).toThrow(/on the method.*Everything/);
    expect(() => (SingleSessionLogin() as ClassDecorator)(Everything)).toThrow(/on the method.*Everything/);
  });
});

describe('a client that is gone before its login is admitted', () => {
  it("does not keep the slot, which onLimit: 'reject' would deny to everybody else", async () => {
    const rejecting = await startApplication(databaseUrl, { options: { onLimit: 'reject', maxSessions: 1 } });
    try {
      await database.query("DELETE FROM user_session WHERE user_id = '1'");
      await database.query("UPDATE user_session_slots SET active = '{}' WHERE user_id = '1'");
      await database.query('BEGIN');
      await database.query("SELECT FROM user_session_slots WHERE user_id = '1' FOR UPDATE");
      const abort = new AbortController();
      const gone = fetch(`${rejecting.url}/login`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ username: 'alice', password: 'alice' }),
        signal: abort.signal,
      }).catch(() => 'aborted');
      await waitingForLocks(1);
      abort.abort();
      expect(await gone).toBe('aborted');
      // The server hears of it with its next turn; the login itself is still waiting for the lock.
      await fetch(`${rejecting.url}/skipped`);
      await database.query('COMMIT');
      await until(async () => (await new Browser(rejecting.url).login('alice')).status === 200);
    } finally {
      await rejecting.close();
    }
  });
});

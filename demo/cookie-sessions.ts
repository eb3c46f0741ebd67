import { createHash } from 'node:crypto';
import { Logger } from '@nestjs/common';
import connectPgSimple from 'connect-pg-simple';
import session, { type CookieOptions, type SessionData, type Store } from 'express-session';
import { SessionStoreUnavailableException } from 'nestjs-single-session';
import pg from 'pg';

const PATIENCE_MS = 5000;
const TWO_WEEKS_MS = 14 * 24 * 60 * 60 * 1000;

declare module 'express-session' {
  interface SessionData {
    /** The id of the session that nestjs-single-session admitted. */
    singleSession?: string;
    /** The browser has seen the page. */
    visited?: boolean;
  }
}

/** What the cookie sessions of both platforms have in common, and what ends their store. */
export interface CookieSessions {
  secret: string;
  store: Store;
  cookie: CookieOptions;
  close(): Promise<void>;
}

/** Cookie sessions in PostgreSQL, shared by all processes, as many applications have them. */
export function createCookieSessions({ url, secret }: { url: string; secret: string }): CookieSessions {
  const pool = createPool(url);
  // The cookie and its row end together after two weeks, so a request has no expiry to write.
  const store = new CookieSessionStore({ pool, tableName: 'cookie_session', disableTouch: true });
  const cookie = { httpOnly: true, sameSite: 'lax', secure: 'auto', maxAge: TWO_WEEKS_MS } as const;
  return { secret, store, cookie, close: () => close(store, pool) };
}

type Done = (error?: unknown) => void;
type Found = (error: unknown, data?: SessionData | null) => void;

/**
 * connect-pg-simple with two additions. The table keeps a digest of the session id, so a copy of the table
 * holds nothing that can be used. A database that does not answer gives 503 instead of 500, as the package's guard does.
 */
class CookieSessionStore extends connectPgSimple(session) {
  override get(id: string, done: Found): void {
    super.get(digest(id), (error, data) => done(unavailable(error), data));
  }

  override set(id: string, data: SessionData, done?: Done): void {
    super.set(digest(id), data, (error) => done?.(unavailable(error)));
  }

  override destroy(id: string, done?: Done): void {
    super.destroy(digest(id), (error) => done?.(unavailable(error)));
  }
}

function digest(id: string): string {
  return createHash('sha256').update(id).digest('base64url');
}

function unavailable(error: unknown): SessionStoreUnavailableException | null {
  return error ? new SessionStoreUnavailableException(error) : null;
}

function createPool(url: string): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max: 5,
    connectionTimeoutMillis: PATIENCE_MS,
    query_timeout: PATIENCE_MS,
  });
  const logger = new Logger('CookieSessions');
  // An error of an idle connection ends the process where nobody listens for it.
  pool.on('error', (error) => logger.warn(`A database connection was lost: ${error.message}`));
  return pool;
}

async function close(store: CookieSessionStore, pool: pg.Pool): Promise<void> {
  // Its timer would otherwise ask a pool that has ended.
  store.close();
  await pool.end();
}

import { inspect } from 'node:util';
import type { LoggerService } from '@nestjs/common';
import { MemoryStore, type SessionData } from 'express-session';
import type { Logger as TypeOrmLogger } from 'typeorm';

/** Long enough that nothing else begins like it. */
export const PREFIX = 16;

/** A value as a log would show it, whole. */
export const inWords = (value: unknown): string => inspect(value, { depth: 6, maxStringLength: null });

/** Keeps cookie sessions, and notes their ids as secrets: whoever knows one and the signing key has the session. */
export class ListeningStore extends MemoryStore {
  constructor(private readonly secrets: Set<string>) {
    super();
  }

  override set(sid: string, session: SessionData, callback?: (error?: unknown) => void): void {
    this.secrets.add(sid);
    super.set(sid, session, callback);
  }
}

/** Keeps everything that Nest and TypeORM log, on every level. */
export class LogSink {
  private readonly logged: string[] = [];
  private readonly note = (...parts: unknown[]): void => void this.logged.push(inWords(parts));

  readonly nest: LoggerService = {
    log: this.note,
    warn: this.note,
    error: this.note,
    debug: this.note,
    verbose: this.note,
    fatal: this.note,
  };

  readonly typeOrm: TypeOrmLogger = {
    logQuery: (text, parameters) => this.note(text, parameters),
    logQueryError: (error, text, parameters) => this.note(error, text, parameters),
    logQuerySlow: (_, text, parameters) => this.note(text, parameters),
    logSchemaBuild: (message) => this.note(message),
    logMigration: (message) => this.note(message),
    log: (_, message) => this.note(message),
  };

  get text(): string {
    return this.logged.join('\n');
  }
}

/** A cookie as the browser holds it, without its name. */
export const cookieValue = (cookie: string): string => decodeURIComponent(cookie).replace(/^[^=]+=/, '');

import { createHash, randomBytes } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { ANSWER_WITHIN_MS, answered } from '../session/answered.js';
import { Signal, type Changes, type SignalListener } from '../session/signal.js';
import { A_MINUTE_MS, ThrottledLogger } from '../session/throttled-logger.js';
import { rest } from '../session/time-limit.js';
import { ListeningConnection } from './listening-connection.js';
import { decode, encodeChanges, encodeHello } from './notification.js';
import { PrimaryDatabase } from './primary-database.js';
import { tableNames } from './table-names.js';

const START_WITHIN_MS = 5_000;
const HELLOS = 3;
const HELLO_WITHIN_MS = 500;
const SHORTEST_BACK_OFF_MS = 100;
const LONGEST_BACK_OFF_MS = 5_000;
const LONGEST_BEAT_MS = 5_000;

// A notification has nothing to lose in a crash, so its commit, which all others wait for, does not wait for the disk.
const NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";

/** LISTEN and NOTIFY of PostgreSQL: listens on a connection of its own, tells through the pool, which works also when that one is down. */
export class PostgresSignal extends Signal {
  private readonly logger = new ThrottledLogger(A_MINUTE_MS);
  private readonly database: PrimaryDatabase;
  private readonly channel: string;
  private readonly name = randomBytes(6).toString('hex');
  private readonly beatMs: number;
  private readonly answerWithinMs: number;
  private readonly stopping = new AbortController();
  private running: Promise<void> | undefined;
  private connection: ListeningConnection | undefined;
  private hasHeard = false;
  private onHello: () => void = () => undefined;

  constructor(
    private readonly dataSource: DataSource,
    maxStalenessMs: number,
  ) {
    super();
    this.database = new PrimaryDatabase(dataSource);
    this.channel = channelOf(dataSource);
    this.beatMs = Math.min(LONGEST_BEAT_MS, maxStalenessMs / 4);
    this.answerWithinMs = Math.min(ANSWER_WITHIN_MS, Math.max(1_000, maxStalenessMs));
  }

  async start(listener: SignalListener): Promise<void> {
    const settled = new Promise<void>((resolve) => {
      this.running = this.run(listener, resolve).finally(resolve);
    });
    await answered(settled, START_WITHIN_MS).catch(() => undefined);
  }

  async tell(changes: Changes): Promise<void> {
    await this.notify(encodeChanges(this.name, changes)).catch((error: Error) =>
      this.complain(
        'Other processes were not told that sessions ended; they learn it by themselves when what they remember is too old.',
        error,
      ),
    );
  }

  async stop(): Promise<void> {
    this.stopping.abort();
    await this.connection?.close();
    await this.running;
  }

  private async run(listener: SignalListener, onSettled: () => void): Promise<void> {
    for (let failures = 0; !this.isStopping(); failures++) {
      const hearing = (): void => {
        failures = 0;
        onSettled();
      };
      const error = await this.listen(listener, hearing).catch((reason: Error) => reason);
      listener.deaf();
      await this.connection?.close();
      onSettled();
      if (this.isStopping()) return;
      if (error instanceof NotHeardError && !this.hasHeard) return this.giveUp();
      this.complain(
        'Changes by other processes cannot be heard now; until they can, each check asks the database.',
        error,
      );
      await rest(backOff(failures), this.stopping.signal);
    }
  }

  /** Goes on until the connection is lost. */
  private async listen(listener: SignalListener, onHearing: () => void): Promise<never> {
    const connection = new ListeningConnection(this.dataSource, (text) => this.hear(text, listener));
    this.connection = connection;
    await connection.open(this.channel, this.answerWithinMs);
    await this.hearOneself(connection);
    listener.hearing();
    this.hasHeard = true;
    for (;;) {
      listener.proven(await connection.prove(this.answerWithinMs));
      onHearing();
      await connection.rest(this.beatMs);
    }
  }

  // Behind a pooler that hands connections around, LISTEN succeeds and nothing is ever heard. No question may be under way
  // meanwhile: its answer might come by the connection that listened.
  private async hearOneself(connection: ListeningConnection): Promise<void> {
    const heard = new Promise<boolean>((resolve) => (this.onHello = () => resolve(true)));
    for (let hello = 0; hello < HELLOS; hello++) {
      await connection.orLost(answered(this.notify(encodeHello(this.name))));
      if (await Promise.race([heard, connection.rest(HELLO_WITHIN_MS).then(() => false)])) return;
    }
    await connection.prove(this.answerWithinMs);
    // A database that stood still meanwhile delivers before it answers this. It may do better the next time.
    const isLate = await Promise.race([heard, Promise.resolve(false)]);
    throw isLate
      ? new Error('an own notification came late')
      : new NotHeardError('an own notification did not come back');
  }

  private hear(text: string, listener: SignalListener): void {
    const { from, isHello, changes } = decode(text);
    if (isHello && from === this.name) this.onHello();
    // What it said itself it has forgotten already.
    if (!isHello && from !== this.name) listener.heard(changes);
  }

  private giveUp(): void {
    this.logger.warn(
      'not heard',
      'freshness: a notification that this process sent to itself did not arrive, so it could not hear of sessions that other processes end. ' +
        "Each check asks the database, as with freshness: 'strong'. The usual cause is a pooler such as PgBouncer in transaction mode, which breaks LISTEN. " +
        "Give the module a data source that goes past it: TypeOrmModule.forRoot({ name: 'sessions', url: <the database itself>, ... }) and " +
        "SingleSessionModule.forRoot({ dataSource: 'sessions' }); or write freshness: 'strong'.",
    );
  }

  private async notify(payload: string): Promise<void> {
    await this.database.run(NOTIFY, [this.channel, payload]);
  }

  private complain(what: string, { message }: Error): void {
    this.logger.warn(what, `${what} ${message}`);
  }

  private isStopping(): boolean {
    return this.stopping.signal.aborted;
  }
}

class NotHeardError extends Error {}

/** Jittered, so that processes which lost the database together do not come back together. */
const backOff = (failures: number): number =>
  Math.min(LONGEST_BACK_OFF_MS, SHORTEST_BACK_OFF_MS * 2 ** failures) * (0.5 + Math.random() / 2);

/** One for each table of sessions: applications that share a database do not hear each other. */
export function channelOf(dataSource: DataSource): string {
  const table = tableNames(dataSource).sessions.sql;
  return `nestjs-single-session:${createHash('sha256').update(table).digest('hex').slice(0, 16)}`;
}

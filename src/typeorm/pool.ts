import type { Client, ClientConfig, Pool as PoolOfPg } from 'pg';
import type { DataSource } from 'typeorm';
import { ANSWER_WITHIN_MS } from '../session/answered.js';
import { A_MINUTE_MS, ThrottledLogger } from '../session/throttled-logger.js';
import { timeLimit } from '../session/time-limit.js';

/** A pool of `pg`, with what its types leave out. */
interface Pool extends PoolOfPg {
  Client: new (config: ClientConfig) => Client;
  options: PoolOfPg['options'] & ClientConfig;
}

/**
 * The pool that TypeORM holds for the primary.
 * @throws Error when the data source is not connected
 */
function poolOf({ driver }: DataSource): Pool {
  const { master } = driver as unknown as { master?: Pool };
  if (master === undefined) throw new Error('the data source is not connected');
  return master;
}

/** A connection beside the pool, made as the pool makes its own; `more` goes before. */
export function newClient(dataSource: DataSource, more: ClientConfig): Client {
  const { Client, options } = poolOf(dataSource);
  return new Client(copyOf(options, more));
}

/** For each pool that recovers. */
const loggers = new WeakMap<Pool, ThrottledLogger>();

/**
 * Makes the pool one that recovers by itself from whatever happens to its connections. To be said before each use: an
 * application that destroys its data source and initializes it again, with a new password say, has another pool.
 */
export function makePoolRecover(dataSource: DataSource): void {
  const pool = poolOf(dataSource);
  if (loggers.has(pool)) return;
  loggers.set(pool, new ThrottledLogger(A_MINUTE_MS));
  surviveLostConnections(pool);
  limitConnecting(pool);
}

/**
 * Warns when the pool has given no connection for so long, unless it is called off with what it gives back. Whoever waits
 * reports that the database does not answer; this says that it is the pool that is full.
 */
export function warnOfFullPool(dataSource: DataSource, afterMs: number): () => void {
  const pool = poolOf(dataSource);
  return timeLimit(afterMs, () => {
    if (pool.waitingCount === 0) return;
    loggers
      .get(pool)
      ?.warn(
        'full',
        `The pool gave no connection within ${afterMs} ms: all ${pool.options.max} are taken, and ${pool.waitingCount} wait for one. ` +
          'See what keeps them: slow queries, a database that does not answer, a query runner that is never released, or a transaction inside which this module is called, since the call needs a second connection. Or write a larger `poolSize` in TypeOrmModule.forRoot().',
      );
  });
}

/**
 * Keeps a process alive whose database is shut down in the moment in which it takes a new connection. An 'error' event
 * that nobody hears ends a process, and TypeORM listens a moment after the pool has given it the connection: too late for
 * an error that is read together with the greeting (https://github.com/brianc/node-postgres/issues/2762). What is lost is
 * noticed without it: by the query that fails, and by the pool, which gives out no connection that had an error.
 */
function surviveLostConnections(pool: Pool): void {
  pool.on('connect', (client) => client.on('error', () => undefined));
}

/**
 * Gives up a new connection that is not greeted in time. Without a limit, which neither `pg` nor TypeORM has of its own,
 * a database that is reached and says nothing, as behind a proxy while it moves, takes all places of the pool for ever,
 * also when it is back. `connectTimeoutMS` of the application is left as it is. It would limit the waiting for a place,
 * too, which is the application's own affair; so this is a limit of the connection, and not an option of the pool.
 */
function limitConnecting(pool: Pool): void {
  const { Client } = pool;
  pool.Client = class extends Client {
    constructor(config: ClientConfig) {
      const connectionTimeoutMillis = config.connectionTimeoutMillis ?? ANSWER_WITHIN_MS;
      super(copyOf(config, { connectionTimeoutMillis }));
    }
  };
}

// The pool hides its password from being copied.
const copyOf = (config: ClientConfig, more: ClientConfig): ClientConfig => ({
  ...config,
  password: config.password,
  ...more,
});

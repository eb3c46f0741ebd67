import { readFileSync } from 'node:fs';
import os from 'node:os';
import { DataSource } from 'typeorm';
import { POOL_SIZE } from './application.js';
import { median } from './figures.js';
import { ratio, type Effort, type Rates } from './load.js';

// As seen from bench/dist, where this file runs.
const LOCK_FILE = new URL('../../package-lock.json', import.meta.url);

interface LockFile {
  packages: Record<string, { version: string } | undefined>;
}

/** A table of results. */
export interface Table {
  title: string;
  columns: string[];
  rows: string[][];
}

export const rateOf = (rates: Rates): string => Math.round(median(rates)).toLocaleString('en-US');
export const ratioOf = (own: Rates, others: Rates): string => ratio(own, others).toFixed(2);

/** The tables with what they were measured on, as Markdown. */
export async function report(tables: Table[], effort: Effort, databaseUrl: string): Promise<string> {
  const configuration = await configurationOf(effort, databaseUrl);
  return [
    '# Benchmarks',
    'Written by `npm run bench -- --write`. Rates are medians of the slices. Ratios, and the milliseconds that are added, are medians of the values within each round.',
    '"By hand" is what people write themselves with a TypeORM repository: `find`, `delete` and `insert` at a login, and one `findOne` for each request, to see whose session it is and whether it has expired. It does not hold the limit when logins arrive together. "existsBy" asks only whether the row is there, the least that a repository can be asked. "Round trip" is a guard that runs `SELECT 1`. "Again" is a second process without a guard: it shows by how much equal processes differ.',
    ...tables.flatMap(({ title, columns, rows }) => [`## ${title}`, table(columns, rows)]),
    '## Configuration',
    table(['what', 'value'], configuration),
    '',
  ].join('\n\n');
}

function table(columns: string[], rows: string[][]): string {
  const lines = [columns, columns.map((_, i) => (i === 0 ? '---' : '--:')), ...rows];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

async function configurationOf(
  { rounds, sliceSeconds, warmUpSeconds }: Effort,
  databaseUrl: string,
): Promise<string[][]> {
  const { packages: installed } = JSON.parse(readFileSync(LOCK_FILE, 'utf8')) as LockFile;
  const packages = ['@nestjs/core', 'typeorm', 'pg', 'express', 'express-session', 'autocannon'];
  return [
    ['date', new Date().toISOString().slice(0, 10)],
    [
      'machine',
      `${os.availableParallelism()} cores (${os.cpus()[0]?.model.trim() ?? 'unknown'}), ${Math.round(os.totalmem() / 2 ** 30)} GB; load, servers and database share it`,
    ],
    ['Node', process.version],
    ['PostgreSQL', await describeDatabase(databaseUrl)],
    ['packages', packages.map((name) => `${name} ${installed[`node_modules/${name}`]?.version}`).join(', ')],
    [
      'servers',
      `one process for each variant, all alive, loaded by turns; a pool of ${POOL_SIZE} connections; cookie sessions in a MemoryStore`,
    ],
    [
      'rounds',
      `${rounds}, each with a slice of ${sliceSeconds} s for each variant, in rotating order, after ${warmUpSeconds} s of warm-up for each; ${2.5 * sliceSeconds} s for logins with scrypt`,
    ],
  ];
}

async function describeDatabase(url: string): Promise<string> {
  const dataSource = await new DataSource({ type: 'postgres', url }).initialize();
  const [row] = (await dataSource.query(
    "SELECT current_setting('server_version') AS version, current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit",
  )) as [{ version: string; fsync: string; commit: string }];
  await dataSource.destroy();
  return `${row.version}, fsync ${row.fsync}, synchronous_commit ${row.commit}`;
}

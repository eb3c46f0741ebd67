// npm run bench [-- guard | login | propagation | cut-off | scale] [--quick] [--write]
//   scale    only when it is named: it fills a database with ten million sessions, which takes minutes; see docs/scaling.md
//   --quick  short slices, to see that it runs; no figures to quote
//   --write  also writes docs/benchmarks.md
import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { format, resolveConfig } from 'prettier';
import { DataSource } from 'typeorm';
import { benchCutOff } from './cut-off.js';
import { benchGuard } from './guard.js';
import type { Effort } from './load.js';
import { benchLogin } from './login.js';
import { benchPropagation } from './propagation.js';
import { report, type Table } from './report.js';
import { benchScale } from './scale.js';

type DevPostgresModule = typeof import('../tools/dev-postgres.mjs');

// As seen from bench/dist, where this file runs.
const DEV_POSTGRES = '../../tools/dev-postgres.mjs';
const DOCUMENT = fileURLToPath(new URL('../../docs/benchmarks.md', import.meta.url));

const BENCHES = {
  guard: benchGuard,
  login: benchLogin,
  propagation: benchPropagation,
  'cut-off': benchCutOff,
  scale: benchScale,
};
const ONLY_WHEN_NAMED = 'scale';
const FULL: Effort = { rounds: 5, sliceSeconds: 0.4, warmUpSeconds: 2 };
const QUICK: Effort = { rounds: 3, sliceSeconds: 0.2, warmUpSeconds: 0.5 };

const { values, positionals } = parseArgs({
  options: { quick: { type: 'boolean' }, write: { type: 'boolean' } },
  allowPositionals: true,
});
const unknown = positionals.find((name) => !(name in BENCHES));
if (unknown !== undefined)
  throw new Error(`There is no bench "${unknown}", only ${Object.keys(BENCHES).join(', ')}.`);
const chosen = (Object.keys(BENCHES) as (keyof typeof BENCHES)[]).filter((name) =>
  positionals.length === 0 ? name !== ONLY_WHEN_NAMED : positionals.includes(name),
);
const effort = values.quick ? QUICK : FULL;

const { startDevPostgres } = (await import(DEV_POSTGRES)) as DevPostgresModule;
const postgres = await startDevPostgres();
try {
  await onDatabase(postgres.url, `CREATE DATABASE bench_${process.pid}`);
  const url = new URL(postgres.url);
  url.pathname = `/bench_${process.pid}`;
  const tables: Table[] = [];
  for (const name of chosen) tables.push(await BENCHES[name](url.href, effort));
  await publish(await report(tables, effort, url.href));
} finally {
  await onDatabase(postgres.url, `DROP DATABASE IF EXISTS bench_${process.pid} WITH (FORCE)`);
  await postgres.stop();
}

async function publish(markdown: string): Promise<void> {
  const formatted = await format(markdown, { ...(await resolveConfig(DOCUMENT)), parser: 'markdown' });
  console.log(formatted);
  if (!values.write) return;
  await mkdir(fileURLToPath(new URL('.', `file://${DOCUMENT}`)), { recursive: true });
  await writeFile(DOCUMENT, formatted);
}

async function onDatabase(url: string, statement: string): Promise<void> {
  const dataSource = await new DataSource({ type: 'postgres', url }).initialize();
  await dataSource.query(statement).finally(() => dataSource.destroy());
}

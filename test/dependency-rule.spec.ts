import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';

// .dependency-cruiser.cjs is run on a small tree in which each file has one import. What is forbidden must be
// found, by the rule that is there for it, and what is allowed must not.

const require = createRequire(import.meta.url);
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const config = join(root, '.dependency-cruiser.cjs');
const files = '{src,migrations,demo,bench,test,tools}/**/*.{ts,mjs}'; // as in package.json#scripts.depcheck

/** [the file that imports, what it imports, the rule that forbids it] */
const forbidden: [file: string, statement: string, rule: string][] = [
  ['src/session/a1.ts', "import '../typeorm/leaf.js'", 'src/session: from the repository'],
  ['src/session/a2.ts', "import '../http/leaf.js'", 'src/session: from the repository'],
  ['src/session/a3.ts', "import '../admin/leaf.js'", 'src/session: from the repository'],
  ['src/session/a4.ts', "import '../leaf.js'", 'src/session: from the repository'],
  ['src/session/a5.ts', "import '../../migrations/leaf.js'", 'src/session: from the repository'],
  ['src/session/a6.ts', "import type { leaf } from '../http/leaf.js'", 'src/session: from the repository'],
  ['src/session/a7.ts', "export * from '../http/leaf.js'", 'src/session: from the repository'],
  ['src/session/a8.ts', "void import('../http/leaf.js')", 'src/session: from the repository'],
  ['src/session/b1.ts', "import 'typeorm'", 'src/session: from npm'],
  ['src/session/b2.ts', "import '@nestjs/core'", 'src/session: from npm'],
  ['src/session/b3.ts', "import '@nestjs/typeorm'", 'src/session: from npm'],
  ['src/session/b4.ts', "import type { leaf } from 'pg'", 'src/session: from npm'],
  ['src/session/b5.ts', "import type { leaf } from 'express'", 'src/session: from npm'],

  ['src/typeorm/a1.ts', "import '../http/leaf.js'", 'src/typeorm: from the repository'],
  ['src/typeorm/a2.ts', "import '../admin/leaf.js'", 'src/typeorm: from the repository'],
  ['src/typeorm/a3.ts', "import '../leaf.js'", 'src/typeorm: from the repository'],
  ['src/typeorm/a4.ts', "import '../../migrations/leaf.js'", 'src/typeorm: from the repository'],
  ['src/typeorm/b1.ts', "import '@nestjs/core'", 'src/typeorm: from npm'],
  ['src/typeorm/b2.ts', "import 'rxjs'", 'src/typeorm: from npm'],
  ['src/typeorm/b3.ts', "import 'pg'", 'src/typeorm: only types'],

  ['src/http/a1.ts', "import '../typeorm/leaf.js'", 'src/http: from the repository'],
  ['src/http/a2.ts', "import '../admin/leaf.js'", 'src/http: from the repository'],
  ['src/http/a3.ts', "import '../leaf.js'", 'src/http: from the repository'],
  ['src/http/b1.ts', "import 'typeorm'", 'src/http: from npm'],
  ['src/http/b2.ts', "import type { leaf } from 'pg'", 'src/http: from npm'],
  ['src/http/b3.ts', "import type { leaf } from 'express'", 'src/http: from npm'],
  ['src/http/b4.ts', "import '@nestjs/passport'", 'src/http: from npm'],
  ['src/http/b5.ts', "import type { leaf } from 'fastify'", 'src/http: from npm'],

  ['src/admin/a1.ts', "import '../typeorm/leaf.js'", 'src/admin: from the repository'],
  ['src/admin/a2.ts', "import '../http/leaf.js'", 'src/admin: from the repository'],
  ['src/admin/a3.ts', "import '../leaf.js'", 'src/admin: from the repository'],
  ['src/admin/b1.ts', "import 'typeorm'", 'src/admin: from npm'],
  ['src/admin/b2.ts', "import '@nestjs/typeorm'", 'src/admin: from npm'],

  ['migrations/a1.ts', "import '../src/session/leaf.js'", 'migrations: from the repository'],
  ['migrations/a2.ts', "import '../src/http/leaf.js'", 'migrations: from the repository'],
  ['migrations/a3.ts', "import '../src/leaf.js'", 'migrations: from the repository'],
  ['migrations/b1.ts', "import '@nestjs/common'", 'migrations: from npm'],

  ['src/parlour/a1.ts', "import '../session/leaf.js'", 'src: no unknown room'],
  ['src/a1.ts', "import '../test/leaf.js'", 'src: no way out'],
  ['src/a2.ts', "import '../demo/leaf.js'", 'src: no way out'],
  ['src/a3.ts', "import '../bench/leaf.js'", 'src: no way out'],
  ['src/a4.ts', "import '../tools/leaf.js'", 'src: no way out'],
  ['src/a5.ts', "import '../dist/src/index.js'", 'src: no way out'],
  ['migrations/c1.ts', "import '../tools/leaf.js'", 'src: no way out'],
  ['src/b1.ts', "import 'supertest'", 'src: no development dependency'],
  ['src/b2.ts', "import type { leaf } from 'express-session'", 'src: no development dependency'],
  ['src/b3.ts', "import 'undeclared'", 'src: nothing undeclared'],
  ['src/b4.ts', "import 'absent'", 'src: nothing undeclared'],

  ['demo/a1.ts', "import '../src/leaf.js'", 'users: by its own name'],
  ['demo/a2.ts', "import '../migrations/leaf.js'", 'users: by its own name'],
  ['demo/a3.ts', "import '../dist/src/index.js'", 'users: by its own name'],
  ['bench/a1.ts', "import '../src/leaf.js'", 'users: by its own name'],
  ['bench/a2.mjs', "import '../dist/src/index.js'", 'users: by its own name'],
  ['test/e2e/a1.ts', "import '../../src/leaf.js'", 'users: by its own name'],
  ['test/e2e/a2.ts', "import type { leaf } from '../../src/session/leaf.js'", 'users: by its own name'],

  ['src/session/c1.ts', "import './back-to-c1.js'", 'no cycle'],
  ['src/session/c2.ts', "import type { leaf } from './back-to-c2.js'", 'no cycle'],
  ['demo/c3.ts', "import './back-to-c3.js'", 'no cycle'],
];

/** What closes the cycles. */
const wayBack: [file: string, statement: string][] = [
  ['src/session/back-to-c1.ts', "import './c1.js'"],
  ['src/session/back-to-c2.ts', "import type { leaf } from './c2.js'"],
  ['demo/back-to-c3.ts', "import './c3.js'"],
];

/** [the file that imports, what it imports] */
const allowed: [file: string, statement: string][] = [
  ['src/session/y1.ts', "import '@nestjs/common'"],
  ['src/session/y2.ts', "import 'rxjs'"],
  ['src/session/y3.ts', "import 'node:crypto'"],
  ['src/session/y4.ts', "import './leaf.js'"],
  ['src/typeorm/y1.ts', "import '../session/leaf.js'"],
  ['src/typeorm/y2.ts', "import 'typeorm'"],
  ['src/typeorm/y3.ts', "import '@nestjs/typeorm'"],
  ['src/typeorm/y4.ts', "import type { leaf } from 'pg'"],
  ['src/http/y1.ts', "import '../session/leaf.js'"],
  ['src/http/y2.ts', "import '@nestjs/core'"],
  ['src/http/y3.ts', "import 'rxjs'"],
  ['src/admin/y1.ts', "import '../session/leaf.js'"],
  ['src/admin/y2.ts', "import '../http/single-session.guard.js'"],
  ['src/admin/y3.ts', "import '../http/response.js'"],
  ['migrations/y1.ts', "import '../src/typeorm/leaf.js'"],
  ['migrations/y2.ts', "import 'typeorm'"],
  ['src/y1.ts', "import './typeorm/leaf.js'"],
  ['src/y2.ts', "import '@nestjs/typeorm'"],
  ['demo/y1.ts', "import 'nestjs-single-session'"],
  ['demo/y2.ts', "import 'express'"],
  ['demo/y3.ts', "import './leaf.js'"],
  ['bench/y1.ts', "import 'nestjs-single-session/migrations'"],
  ['bench/y2.ts', "import '../tools/leaf.js'"],
  ['test/e2e/y1.ts', "import 'nestjs-single-session'"],
  ['test/e2e/y2.ts', "import '../leaf.js'"],
  ['test/y1.ts', "import '../src/leaf.js'"],
];

const rooms = ['src', 'src/session', 'src/typeorm', 'src/http', 'src/admin', 'migrations'];
const leaves = [...rooms, 'test', 'demo', 'bench', 'tools'].map((folder) => `${folder}/leaf.ts`);
const packages = [
  '@nestjs/common',
  '@nestjs/core',
  '@nestjs/passport',
  '@nestjs/typeorm',
  'express',
  'express-session',
  'fastify',
  'pg',
  'rxjs',
  'supertest',
  'typeorm',
  'undeclared',
];

interface Violation {
  from: string;
  rule: { name: string };
  /** Of a cycle only one file is named in `from`. */
  cycle?: { name: string }[];
}

let tree: string;
let found: Violation[];

beforeAll(() => {
  tree = mkdtempSync(join(tmpdir(), 'dependency-rule-'));
  writePackageJson();
  for (const name of packages)
    write(`node_modules/${name}/package.json`, JSON.stringify({ name, main: 'index.js' }));
  for (const name of packages) write(`node_modules/${name}/index.js`, 'export const leaf = 1;');
  for (const file of [...leaves, 'src/http/single-session.guard.ts', 'src/http/response.ts'])
    write(file, 'export const leaf = 1;');
  for (const file of ['dist/src/index.js', 'dist/migrations/index.js']) write(file, 'export const leaf = 1;');
  for (const [file, statement] of [...forbidden, ...wayBack, ...allowed]) {
    write(file, `${statement};\nexport const leaf = 1;`);
  }
  found = cruise(tree);
});

afterAll(() => rmSync(tree, { recursive: true, force: true }));

/** The real one, so that what counts as a peer here is one; and `express`, which only the demo may import. */
function writePackageJson(): void {
  const real = require('../package.json') as { devDependencies: Record<string, string> };
  const devDependencies = { ...real.devDependencies, express: '*' };
  write('package.json', JSON.stringify({ ...real, devDependencies }));
}

function write(file: string, text: string): void {
  const path = join(tree, file);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

function cruise(cwd: string): Violation[] {
  const program = join(root, 'node_modules/dependency-cruiser/bin/dependency-cruise.mjs');
  const options = ['--config', config, '--output-type', 'json', files];
  const json = execFileSync(process.execPath, [program, ...options], {
    cwd,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  });
  return (JSON.parse(json) as { summary: { violations: Violation[] } }).summary.violations;
}

function rulesBrokenBy(file: string): string[] {
  const concerns = ({ from, cycle = [] }: Violation) =>
    from === file || cycle.some(({ name }) => name === file);
  return found.filter(concerns).map(({ rule }) => rule.name);
}

describe('the dependency rule', () => {
  it.each(forbidden)('%s must not: %s', (file, _statement, rule) => {
    expect(rulesBrokenBy(file)).toContain(rule);
  });

  it.each(allowed)('%s may: %s', (file) => {
    expect(rulesBrokenBy(file)).toEqual([]);
  });

  it('has no line that nothing above would miss', () => {
    const { forbidden: rules } = require('../.dependency-cruiser.cjs') as { forbidden: { name: string }[] };
    const shown = new Set(forbidden.map(([, , rule]) => rule));
    expect(rules.map(({ name }) => name).filter((name) => !shown.has(name))).toEqual([]);
  });

  it('holds in this repository', () => {
    expect(cruise(root)).toEqual([]);
  });
});

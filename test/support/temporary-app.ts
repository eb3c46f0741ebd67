import { execFile } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { repository } from './processes.js';

const run = promisify(execFile);
const modules = join(repository, 'node_modules');

/** The package as it would be published, unpacked. */
export interface PackedPackage {
  /** The paths in the tarball. */
  files: string[];
  manifest: Record<string, unknown> & {
    peerDependencies: Record<string, string>;
    dependencies: Record<string, string>;
  };
  /** Where it was unpacked. */
  dir: string;
}

/** What an application has beside the peers of the package. */
const APPLICATION_PACKAGES = [
  '@fastify/cookie',
  '@fastify/session',
  '@nestjs/apollo',
  '@nestjs/event-emitter',
  '@nestjs/graphql',
  '@nestjs/jwt',
  '@nestjs/microservices',
  '@nestjs/platform-express',
  '@nestjs/platform-fastify',
  '@nestjs/platform-socket.io',
  '@nestjs/platform-ws',
  '@nestjs/websockets',
  'connect-pg-simple',
  'express-session',
  'fastify',
  'passport-jwt',
  'passport-local',
  'passport-oauth2',
  'socket.io',
  'ws',
];
const TYPE_PACKAGES = [
  'connect-pg-simple',
  'express',
  'express-session',
  'node',
  'passport',
  'passport-jwt',
  'passport-local',
  'passport-oauth2',
  'pg',
  'ws',
];

/** A directory outside of the repository, so that nothing in it is found by looking further up. */
export function temporaryDirectory(): { dir: string; remove: () => void } {
  const dir = mkdtempSync(join(tmpdir(), 'single-session-'));
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

/**
 * Runs `npm pack` and unpacks the tarball. Without its scripts: `prepack` would build, and so take `dist` away from
 * under the specs that run beside this one. `npm test` has built it just before.
 */
export async function packPackage(dir: string): Promise<PackedPackage> {
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', dir], {
    cwd: repository,
  });
  const [{ filename, files }] = JSON.parse(stdout) as [{ filename: string; files: { path: string }[] }];
  await run('tar', ['-xzf', join(dir, filename), '-C', dir]);
  const unpacked = join(dir, 'package');
  const manifest = JSON.parse(
    readFileSync(join(unpacked, 'package.json'), 'utf8'),
  ) as PackedPackage['manifest'];
  return { files: files.map(({ path }) => path), manifest, dir: unpacked };
}

/**
 * A fresh application with the package installed.
 *
 * The tarball is unpacked into node_modules, as npm does, but the other packages are links into the repository: an
 * `npm install` would need a registry and most of a minute. The links are few on purpose: the package finds its peers
 * and nothing else that the repository happens to have.
 */
export class TemporaryApp {
  constructor(
    readonly dir: string,
    packed: PackedPackage,
    type: 'module' | 'commonjs',
  ) {
    this.write('package.json', JSON.stringify({ name: 'application', private: true, type }));
    cpSync(packed.dir, join(dir, 'node_modules', 'nestjs-single-session'), { recursive: true });
    const { peerDependencies, dependencies } = packed.manifest;
    for (const needed of [Object.keys(peerDependencies), Object.keys(dependencies), APPLICATION_PACKAGES])
      for (const name of needed) this.link(name);
    for (const name of TYPE_PACKAGES) this.link(`@types/${name}`);
  }

  write(file: string, text: string): void {
    const path = join(this.dir, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }

  /** Compiles `src` into `dist` as a strict application does. Resolves to what the compiler complains about: nothing, or its messages. */
  async compile(options: object = {}): Promise<string> {
    const compilerOptions = { ...COMPILER_OPTIONS, ...options };
    this.write('tsconfig.json', JSON.stringify({ compilerOptions, include: ['src'] }));
    const tsc = join(modules, 'typescript', 'bin', 'tsc');
    return run(process.execPath, [tsc, '-p', this.dir, '--pretty', 'false'], { cwd: this.dir }).then(
      () => '',
      ({ stdout }: { stdout: string }) => stdout,
    );
  }

  private link(name: string): void {
    const path = join(this.dir, 'node_modules', name);
    const target = join(modules, name);
    if (!existsSync(target)) throw new Error(`${name} is not in the repository's node_modules: run npm ci.`);
    mkdirSync(dirname(path), { recursive: true });
    symlinkSync(target, path, 'dir');
  }
}

/** What `nest new` writes, and more of what refuses. */
const COMPILER_OPTIONS = {
  module: 'nodenext',
  moduleResolution: 'nodenext',
  resolvePackageJsonExports: true,
  esModuleInterop: true,
  isolatedModules: true,
  declaration: true,
  removeComments: true,
  emitDecoratorMetadata: true,
  experimentalDecorators: true,
  allowSyntheticDefaultImports: true,
  target: 'ES2023',
  types: ['node'],
  sourceMap: true,
  skipLibCheck: true,
  strict: true,
  strictPropertyInitialization: false,
  noImplicitOverride: true,
  useDefineForClassFields: false,
  rootDir: 'src',
  outDir: 'dist',
};

// Jest loads Nest 12 (ESM only) through Node's vm modules: package.json#scripts.test passes --experimental-vm-modules.
const [major, minor] = process.versions.node.split('.').map(Number);

// Only Node >= 24.9 lets Jest require() an ES module from CommonJS. Before that, the few ESM-only packages
// that CommonJS dependencies require (fastify -> cookie@2) must be turned into CommonJS.
const canRequireEsm = major > 24 || (major === 24 && minor >= 9);
const esmOnly = ['cookie'].join('|');

const swc = (moduleType) => [
  '@swc/jest',
  {
    jsc: {
      target: 'es2022',
      parser: { syntax: 'typescript', decorators: true },
      transform: { legacyDecorator: true, decoratorMetadata: true, useDefineForClassFields: false },
      keepClassNames: true,
    },
    module: { type: moduleType },
    sourceMaps: 'inline',
  },
];

const project = {
  testEnvironment: 'node',
  roots: ['<rootDir>/src', '<rootDir>/migrations', '<rootDir>/test'],
  testRegex: '(\\.|-)spec\\.ts$',
  moduleFileExtensions: ['ts', 'js', 'mts', 'mjs', 'json'],
  extensionsToTreatAsEsm: ['.ts'],
  moduleNameMapper: {
    '^(\\.{1,2}/.*)\\.js$': '$1',
    // In-process tests run the source, so that a test and what it imports share the same classes.
    '^nestjs-single-session$': '<rootDir>/src/index.ts',
    '^nestjs-single-session/migrations$': '<rootDir>/migrations/index.ts',
  },
  transform: {
    '^.+\\.ts$': swc('es6'),
    ...(canRequireEsm ? {} : { [`/node_modules/(?:.+/)?(?:${esmOnly})/.+\\.js$`]: swc('commonjs') }),
  },
  transformIgnorePatterns: [canRequireEsm ? '/node_modules/' : `/node_modules/(?!(?:.+/)?(?:${esmOnly})/)`],
  setupFiles: ['<rootDir>/test/support/no-reuse.ts'],
  globalSetup: '<rootDir>/test/global-setup.mjs',
  globalTeardown: '<rootDir>/test/global-teardown.mjs',
};

// Specs that serve HTTP run on both platforms, and test/support/platform.ts tells them on which; *.express.spec.ts and
// *.fastify.spec.ts are about what only one of them has. All others run once, as does what starts no server or, for the
// README and the package, servers of its own on both.
const onBoth = [
  '/test/(http|admin|wiring)/.+\\.spec\\.ts$',
  '/test/e2e/(?!(history|environment|package|readme)\\.).+\\.spec\\.ts$',
];

/** @type {import('jest').Config} */
export default {
  projects: [
    {
      ...project,
      displayName: 'express',
      globals: { PLATFORM: 'express' },
      testPathIgnorePatterns: ['/node_modules/', '\\.fastify\\.spec\\.ts$'],
    },
    {
      ...project,
      displayName: 'fastify',
      globals: { PLATFORM: 'fastify' },
      testRegex: onBoth,
      testPathIgnorePatterns: ['/node_modules/', '\\.express\\.spec\\.ts$'],
    },
  ],
  collectCoverageFrom: ['src/**/*.ts', 'migrations/**/*.ts'],
  coverageProvider: 'v8',
  testTimeout: 30_000,
  maxWorkers: 2,
};

import config from './jest.config.mjs';

// The tests once more, on Nest 11 and on the oldest of the other peers that package.json admits: test/nest-11/package.json
// names them. Whatever is not named there is what the other tests have.
const peers = '^(@nestjs/[^/]+|pg|rxjs|typeorm)(/.*)?$';

const notHere = [
  // They start processes, which find their packages without Jest.
  '<rootDir>/test/e2e/',
  // They know neither Nest nor TypeORM.
  '<rootDir>/test/session/',
  '<rootDir>/test/support/',
  '<rootDir>/test/dependency-rule',
  // TypeORM 0.3 makes no GIN index in synchronize().
  '<rootDir>/test/typeorm/migrations',
];

/** @type {import('jest').Config} */
export default {
  ...config,
  projects: config.projects.map((project) => ({
    ...project,
    displayName: `${project.displayName}, Nest 11`,
    moduleNameMapper: { ...project.moduleNameMapper, [peers]: '<rootDir>/test/nest-11/node_modules/$1$2' },
    testPathIgnorePatterns: [...project.testPathIgnorePatterns, ...notHere],
  })),
};

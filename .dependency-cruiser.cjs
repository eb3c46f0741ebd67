// The dependency rule. Arrows point inwards: http, admin -> session <- typeorm. `npm run depcheck` runs it.
//
// Each folder of src is a room with a list of what it may import; whatever is not on the list is forbidden.
// test/dependency-rule.spec.ts shows that each line bites.

const NODE_BUILTIN = 'node-builtin';

/** folder: what it may import from the repository (paths) and from npm (package names) */
const rooms = {
  'src/session': {
    from: [],
    npm: ['@nestjs/common', 'rxjs', 'lru-cache', NODE_BUILTIN],
  },
  'src/typeorm': {
    from: ['src/session/'],
    npm: ['typeorm', '@nestjs/typeorm', '@nestjs/common', NODE_BUILTIN],
    types: ['pg'],
  },
  'src/http': {
    from: ['src/session/'],
    npm: ['@nestjs/common', '@nestjs/core', 'rxjs', NODE_BUILTIN],
  },
  'src/admin': {
    // Its controllers are HTTP like any: they read a request and answer what went wrong with the words of http/.
    from: [
      'src/session/',
      'src/http/([^/]*guard|execution-context|never-cached|request|request-state|response|stream-end|origin|to-exception)[.]ts$',
    ],
    npm: ['@nestjs/common', '@nestjs/core', 'class-transformer', 'class-validator', 'rxjs', NODE_BUILTIN],
  },
  migrations: {
    from: ['src/typeorm/'],
    npm: ['typeorm', NODE_BUILTIN],
  },
};

const REPOSITORY = '^(src|migrations|test|demo|bench|tools|dist)/';
const SOURCE = '^(src|migrations)/';
const USERS_OF_THE_PACKAGE = '^(demo|bench|test/e2e)/';

const inNodeModules = (names) => `node_modules/(@types/)?(${names.map((name) => `${name}/`).join('|')})`;
const anyOf = (patterns) => patterns.join('|');

function roomRules([room, { from, npm, types = [] }]) {
  const packages = npm.filter((name) => name !== NODE_BUILTIN);
  const everything = [...packages, ...types];
  return [
    {
      name: `${room}: from the repository`,
      comment: `${room}/ may import ${from.join(', ') || 'nothing'} and itself.`,
      severity: 'error',
      from: { path: `^${room}/` },
      to: { path: REPOSITORY, pathNot: anyOf([`^${room}/`, ...from.map((path) => `^${path}`)]) },
    },
    {
      name: `${room}: from npm`,
      comment: `${room}/ may import ${[...npm, ...types.map((name) => `types of ${name}`)].join(', ')}.`,
      severity: 'error',
      from: { path: `^${room}/` },
      to: { pathNot: anyOf([REPOSITORY, inNodeModules(everything)]), dependencyTypesNot: ['core'] },
    },
    ...(types.length === 0
      ? []
      : [
          {
            name: `${room}: only types`,
            comment: `${room}/ may import only types of ${types.join(', ')}.`,
            severity: 'error',
            from: { path: `^${room}/` },
            to: { path: inNodeModules(types), dependencyTypesNot: ['type-only'] },
          },
        ]),
  ];
}

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    ...Object.entries(rooms).flatMap(roomRules),
    {
      name: 'src: no unknown room',
      comment: 'A new folder in src needs a line in the table above.',
      severity: 'error',
      from: { path: '^src/[^/]+/', pathNot: anyOf(Object.keys(rooms).map((room) => `^${room}/`)) },
      to: {},
    },
    {
      name: 'src: no way out',
      comment: 'What is published must not import what is not.',
      severity: 'error',
      from: { path: SOURCE },
      to: { path: '^(test|demo|bench|tools|dist)/' },
    },
    {
      name: 'src: no development dependency',
      comment: 'A consumer does not have it. Make it a peer or a dependency, or do without.',
      severity: 'error',
      from: { path: SOURCE },
      to: { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['npm', 'npm-peer', 'npm-optional'] },
    },
    {
      name: 'src: nothing undeclared',
      comment: 'A package that package.json does not name may be absent at the consumer.',
      severity: 'error',
      from: { path: SOURCE },
      to: {
        dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'unknown'],
        dependencyTypesNot: ['npm', 'npm-peer', 'npm-dev'],
      },
    },
    {
      name: 'users: by its own name',
      comment: 'demo, bench and test/e2e use the package as a stranger does: import it by its own name.',
      severity: 'error',
      from: { path: USERS_OF_THE_PACKAGE },
      to: { path: '^(src|migrations|dist)/', dependencyTypes: ['local'] },
    },
    {
      name: 'no cycle',
      comment: 'Not even one of types: two files that need each other are one file, or lack a third.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
  ],
  options: {
    doNotFollow: { path: '(^|/)(node_modules|dist)/' },
    exclude: { path: '^((demo|bench)/dist|test/nest-11/node_modules)/' },
    tsPreCompilationDeps: true,
    combinedDependencies: false,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
    },
  },
};

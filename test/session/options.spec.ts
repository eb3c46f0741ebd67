import { inspect } from 'node:util';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from '@jest/globals';
import { SingleSessionModule } from '../../src/single-session.module.js';
import { resolveOptions, type SingleSessionOptions } from '../../src/single-session.options.js';
import { resolveExtras } from '../../src/single-session.extras.js';

const DAY = 86_400_000;
const resolve = (options: unknown): unknown => resolveOptions(options as SingleSessionOptions);
const fn = (): never => {
  throw new Error('must not be called at start');
};

describe('options that are right', () => {
  it('may be none: a limit of one, the newest wins', () => {
    const defaults = {
      maxSessions: 1,
      onLimit: 'evict',
      exempt: { usernames: [], roles: [] },
      logoutEverywhere: true,
      unregistered: 'reject',
      idleTimeout: undefined,
      maxAge: 14 * DAY,
      retention: 30 * DAY,
      storm: { threshold: 10, windowMs: 60_000 },
      freshness: 'strong',
    };
    expect(resolveOptions({})).toMatchObject(defaults);
    expect(
      resolveOptions({ maxSessions: undefined, exempt: undefined, idleTimeout: undefined } as never),
    ).toMatchObject(defaults);
  });

  it.each([
    { maxSessions: 1 },
    { maxSessions: 1_000 },
    { maxSessions: Infinity },
    { maxSessions: fn },
    { maxSessions: fn, onLimit: 'reject' },
    { onLimit: 'reject' },
    { exempt: {} },
    { exempt: { usernames: [], roles: [] } },
    { exempt: { usernames: ['a'], roles: ['b'], when: fn } },
    { identify: fn },
    { logoutEverywhere: false },
    { unregistered: 'adopt' },
    { idleTimeout: 1 },
    { idleTimeout: 14 * DAY - 1 },
    { idleTimeout: 1, maxAge: 2, retention: 1 },
    { retention: 100 * 365 * DAY },
    { storm: { threshold: 1 } },
    { storm: { threshold: 1_000_000 } },
    { storm: { windowMs: 1 } },
    { findUser: fn },
    { freshness: 'strong' },
    { freshness: { maxStalenessMs: 100 } },
    { freshness: { maxStalenessMs: 3_600_000 } },
    { freshness: { maxStalenessMs: 2_000 }, idleTimeout: 8_000 },
    { freshness: { maxStalenessMs: 2_000 }, maxAge: 2_000 },
    JSON.parse('{ "maxSessions": 3, "exempt": { "roles": ["service"] } }') as object,
    Object.freeze(Object.assign(Object.create(null) as object, { maxSessions: 2 })),
    // As of a test runner that gives each file an Object of its own.
    runInNewContext('({ maxSessions: 2 })') as object,
  ])('are taken: %p', (options) => {
    expect(resolve(options)).toMatchObject(options);
  });

  it('are copied: changing them later changes nothing, and the copy cannot be changed [S18]', () => {
    const given = {
      exempt: { usernames: ['a'], roles: ['b'] },
      storm: { threshold: 2 },
      freshness: { maxStalenessMs: 500 },
    };
    const options = resolveOptions(given);
    given.exempt.usernames.push('x');
    given.exempt.roles = ['y'];
    expect(options.exempt).toEqual({ usernames: ['a'], roles: ['b'] });
    const { exempt, storm, freshness } = options;
    for (const part of [options, exempt, exempt.usernames, exempt.roles, storm, freshness])
      expect(Object.isFrozen(part)).toBe(true);
  });

  it('have guards of their own: what becomes of the list before the start is nothing to them [S18]', () => {
    const guards = [{ canActivate: () => false }];
    const extras = resolveExtras({ admin: { roles: ['a'], guards }, selfService: { guards } });
    guards.length = 0;
    for (const mounted of [extras.admin, extras.selfService]) expect(mounted?.guards).toHaveLength(1);
  });

  it('of the caller are never changed, deeply frozen or not [S18]', () => {
    const given = (): SingleSessionOptions => ({
      maxSessions: 2,
      exempt: { usernames: ['a'], roles: ['b'], when: fn },
      identify: fn,
      idleTimeout: 5,
    });
    const frozen = deepFrozen(given());
    resolveOptions(frozen);
    SingleSessionModule.forRoot(frozen);
    SingleSessionModule.forRootAsync(deepFrozen({ useFactory: () => frozen, isGlobal: false }));
    const open = given();
    resolveOptions(open);
    SingleSessionModule.forRoot(open);
    expect(open).toEqual(given());
  });
});

function deepFrozen<Value extends object>(value: Value): Value {
  for (const inner of Object.values(value))
    if (typeof inner === 'object' && inner !== null) deepFrozen(inner);
  return Object.freeze(value);
}

/** What is wrong, and what the message must name. */
const WRONG: [string, unknown, RegExp][] = [
  ['a key that we do not know', { maxSession: 1 }, /"maxSession".*maxSessions/s],
  ['an empty key', { '': 1 }, /unknown option ""/],
  ['an option of a later version', { refresh: {} }, /"refresh"/],
  ['a storm that is a number', { storm: 10 }, /storm must be an object/],
  ['a storm of nothing', { storm: { threshold: 0 } }, /storm\.threshold must be a whole number of logins/],
  ['a storm of half a login', { storm: { threshold: 1.5 } }, /storm\.threshold must be/],
  ['a storm that nobody lives to see', { storm: { threshold: 1_000_001 } }, /storm\.threshold must be/],
  ['a storm without end', { storm: { windowMs: Infinity } }, /storm\.windowMs must be/],
  ['an unknown member of storm', { storm: { window: 1 } }, /unknown option "storm\.window"/],
  ['another one', { admin: { roles: ['admin'] } }, /"admin"/],
  ['an unknown key inside exempt', { exempt: { users: ['a'] } }, /"exempt\.users"/],
  ['__proto__ from JSON', JSON.parse('{"__proto__":{"exempt":true}}'), /"__proto__"/],
  ['constructor from JSON', JSON.parse('{"constructor":{"prototype":{"x":1}}}'), /"constructor"/],
  ['__proto__ inside exempt', JSON.parse('{"exempt":{"__proto__":{"when":1}}}'), /"exempt\.__proto__"/],
  ['an extra in what a factory returns', { isGlobal: true }, /"isGlobal".*beside useFactory/],
  ['another one', { dataSource: 'x' }, /"dataSource".*beside useFactory/],
  ['another one', { enforceGlobally: false }, /"enforceGlobally".*beside useFactory/],
  ...[0, -1, 1.5, NaN, -Infinity, 1_001, '1', '2', true, false, null, [], [1], {}, 1n].map(
    (value): [string, unknown, RegExp] => [
      `maxSessions: ${inspect(value)}`,
      { maxSessions: value },
      /maxSessions/,
    ],
  ),
  ...['Evict', 'evict ', '', 'kick', true, null, ['evict'], 0].map((value): [string, unknown, RegExp] => [
    `onLimit: ${JSON.stringify(value)}`,
    { onLimit: value },
    /onLimit.*'evict' or 'reject'/,
  ]),
  ...['worker', true, null, [], ['worker'], fn, 0, new Set(['worker']), new Map([['roles', ['a']]])].map(
    (value): [string, unknown, RegExp] => [
      `exempt: ${Object.prototype.toString.call(value)}`,
      { exempt: value },
      /exempt/,
    ],
  ),
  ...['usernames', 'roles'].flatMap((key) =>
    [
      'service',
      '',
      null,
      {},
      [1],
      ['a', ''],
      [['a']],
      [null],
      [/a/],
      /a/,
      new Set(['a']),
      fn,
      true,
      Object.assign([], { length: 2 }),
    ].map((value): [string, unknown, RegExp] => [
      `exempt.${key}: ${Object.prototype.toString.call(value)} ${JSON.stringify(value)}`,
      { exempt: { [key]: value } },
      new RegExp(
        `exempt\\.${key} must be an array of strings: \\['${key === 'roles' ? 'service' : 'batch-worker'}'\\]`,
      ),
    ]),
  ),
  ...[true, 'x', null, {}, []].map((value): [string, unknown, RegExp] => [
    `exempt.when: ${JSON.stringify(value)}`,
    { exempt: { when: value } },
    /exempt\.when must be a function/,
  ]),
  ...['id', null, {}, 7].map((value): [string, unknown, RegExp] => [
    `identify: ${JSON.stringify(value)}`,
    { identify: value },
    /identify must be a function/,
  ]),
  ...['name', null, {}, true].map((value): [string, unknown, RegExp] => [
    `findUser: ${JSON.stringify(value)}`,
    { findUser: value },
    /findUser must be a function/,
  ]),
  ...['false', 0, 1, null, 'yes', {}].map((value): [string, unknown, RegExp] => [
    `logoutEverywhere: ${JSON.stringify(value)}`,
    { logoutEverywhere: value },
    /logoutEverywhere must be exactly true or false/,
  ]),
  ...['Adopt', true, null, 'ignore'].map((value): [string, unknown, RegExp] => [
    `unregistered: ${JSON.stringify(value)}`,
    { unregistered: value },
    /unregistered.*'reject' or 'adopt'/,
  ]),
  ...['idleTimeout', 'maxAge', 'retention'].flatMap((key) =>
    [0, -1, 1.5, NaN, Infinity, '1000', '14d', null, true, new Date(), 100 * 365 * DAY + 1, 10n].map(
      (value): [string, unknown, RegExp] => [
        `${key}: ${typeof value} ${String(value)}`,
        { [key]: value },
        new RegExp(`${key} must be a whole number of milliseconds`),
      ],
    ),
  ),
  ...['weak', 0, 500, null, true, fn, [500]].map((value): [string, unknown, RegExp] => [
    `freshness: ${String(value)}`,
    { freshness: value },
    /freshness must be 'strong' or { maxStalenessMs: 2_000 }/,
  ]),
  ...[undefined, 0, 99, 500.5, NaN, Infinity, 3_600_001, '2000', null, true, 2_000n].map(
    (value): [string, unknown, RegExp] => [
      `freshness.maxStalenessMs: ${typeof value} ${String(value)}`,
      { freshness: { maxStalenessMs: value } },
      /freshness\.maxStalenessMs must be a whole number of milliseconds, from 100 to 3600000/,
    ],
  ),
  [
    'an unknown part of freshness',
    { freshness: { maxStalenessMs: 500, max: 1 } },
    /unknown option "freshness\.max"/,
  ],
  [
    'a memory in which a session in use would become idle',
    { freshness: { maxStalenessMs: 2_001 }, idleTimeout: 8_000 },
    /maxStalenessMs.*a quarter of idleTimeout/,
  ],
  ['an idle timeout that the age always beats', { idleTimeout: 1_000, maxAge: 1_000 }, /idleTimeout.*maxAge/],
  ['an idle timeout beyond the default age', { idleTimeout: 15 * DAY }, /idleTimeout.*maxAge/],
  ['reject without a limit', { onLimit: 'reject', maxSessions: Infinity }, /reject.*Infinity/],
  ...[null, 'x', 7, [], true, fn].map((value): [string, unknown, RegExp] => [
    `${String(value)} instead of options`,
    value,
    /options|forRoot/,
  ]),
];

describe('options that are wrong', () => {
  it.each(WRONG)(
    'stop the start with a message that names them: %s [lesson 9; P8]',
    (_, options, message) => {
      expect(() => resolve(options)).toThrow(message);
      expect(() => resolve(options)).toThrow(/SingleSessionModule|maxSessions must be/);
    },
  );

  it.each([
    ['1000', '"1000"'],
    [1n, '1n'],
    [{ days: 1 }, 'an object'],
    [[1, { days: 1 }], '[ 1, [Object] ]'],
    [
      Array.from({ length: 7 }, () => 'a'.repeat(30)),
      `[ ${`'${'a'.repeat(30)}', `.repeat(5)}... 2 more items ]`,
    ],
  ])('say in one line what it was, and of a long list its beginning: %p', (value, words) => {
    const message = `such as 30 * 60_000; it was ${words}.`;
    expect(() => resolve({ maxAge: value })).toThrow(message);
  });

  it('stop forRoot itself, not only a later moment', () => {
    expect(() => SingleSessionModule.forRoot({ maxSessions: 0 })).toThrow(/maxSessions/);
    expect(() => SingleSessionModule.forRoot({ exempt: { roles: 'service' as never } })).toThrow(
      /exempt\.roles/,
    );
  });

  it('pollute nothing [S18]', () => {
    for (const json of [
      '{"__proto__":{"polluted":1}}',
      '{"exempt":{"__proto__":{"polluted":1}}}',
      '{"constructor":{"prototype":{"polluted":1}}}',
    ])
      expect(() => resolve(JSON.parse(json))).toThrow(/unknown option/);
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });
});

describe('what shapes the module', () => {
  it.each([{}, { dataSource: 'x', isGlobal: true, enforceGlobally: false }, { dataSource: undefined }])(
    'may be %p',
    (extras) => {
      expect(() => resolveExtras(extras)).not.toThrow();
    },
  );

  it.each([
    { dataSource: '' },
    { dataSource: 7 },
    { dataSource: {} },
    { dataSource: null },
    { isGlobal: 'true' },
    { isGlobal: 0 },
    { enforceGlobally: null },
    { enforceGlobally: 1 },
  ])('may not be %p, given to forRoot or beside a factory', (extras) => {
    const key = Object.keys(extras)[0]!;
    expect(() => SingleSessionModule.forRoot(extras as never)).toThrow(key);
    expect(() => SingleSessionModule.forRootAsync({ useFactory: () => ({}), ...extras } as never)).toThrow(
      key,
    );
  });

  it.each([
    ['ops', 'ops'],
    ['ops', 'OPS'],
    [undefined, 'admin/sessions'],
    ['sessions/mine', undefined],
    ...['summary', 'policy', 'exemptions', 'actions', 'ui', 'ui/app.js', 'ui/app.css'].map((route) => [
      'ops',
      `ops/${route}`,
    ]),
    ['account/events', 'account'],
  ])('may not have admin at %p and selfService at %p, where one hides routes of the other', (path, own) => {
    const given = {
      admin: { roles: ['admin'], ...(path && { path }) },
      selfService: own === undefined ? true : { path: own },
    };
    for (const call of [
      () => SingleSessionModule.forRoot(given),
      () => SingleSessionModule.forRootAsync({ useFactory: () => ({}), ...given }),
    ])
      expect(call).toThrow(/admin\.path.*selfService\.path.*selfService: { path: 'sessions\/mine' }/s);
  });

  it.each([
    ['sessions', 'sessions/mine'],
    ['ops', 'ops/mine'],
    ['sessions/mine/admin', 'sessions/mine'],
  ])('may have admin at %p and selfService at %p', (path, own) => {
    const given = { admin: { roles: ['admin'], path }, selfService: { path: own } };
    expect(() => SingleSessionModule.forRoot(given)).not.toThrow();
  });

  it('may have one path twice where one of the two is not mounted', () => {
    for (const given of [
      { admin: { path: 'ops' }, selfService: { path: 'ops' } },
      { admin: { roles: ['admin'], path: 'sessions/mine' }, selfService: false },
    ])
      expect(() => SingleSessionModule.forRoot(given)).not.toThrow();
  });

  it('beside a factory is refused when it belongs into it, instead of doing nothing [P8]', () => {
    for (const options of [{ maxSessions: 3 }, { exempt: { roles: ['service'] } }, { useFactroy: fn }])
      expect(() => SingleSessionModule.forRootAsync({ useFactory: () => ({}), ...options } as never)).toThrow(
        Object.keys(options)[0]!,
      );
  });

  it.each([
    undefined,
    null,
    'x',
    [],
    fn,
    {},
    { useFactory: undefined },
    { useFactory: { maxSessions: 1 } },
    { useClass: 'Options' },
    { imports: [], inject: [] },
  ])('beside no factory, as in forRootAsync(%p), is refused with the call to make [P8]', (options) => {
    expect(() => SingleSessionModule.forRootAsync(options as never)).toThrow(
      /SingleSessionModule\.forRootAsync\(\).*forRootAsync\({.*useFactory: \(.*\) => \(/s,
    );
  });

  it('may stand beside a class that makes the options, or one that is made already', () => {
    class Options {
      create(): object {
        return {};
      }
    }
    for (const given of [{ useClass: Options }, { useExisting: Options }])
      expect(() => SingleSessionModule.forRootAsync(given)).not.toThrow();
  });
});

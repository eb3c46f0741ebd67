import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import pg from 'pg';
import { LARGEST_LIMIT } from '../../src/session/policy.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { person, Process, SIGNATURE } from './administrators.js';

const { builtins, getTypeParser, setTypeParser } = pg.types;
type Parse = (text: string) => unknown;

/** What an application may have told the driver: it counts for all statements of the process, ours included. */
const PARSERS: [string, Parse][] = [
  ['texts', String],
  ['numbers', (text) => Date.parse(text)],
  ['objects that convert', (text) => ({ valueOf: () => Date.parse(text) })],
];

let url: string;
let process: Process;

beforeAll(async () => {
  url = await freshDatabase();
  process = await Process.open(url);
});
afterAll(async () => {
  await process?.close();
  await dropDatabase(url);
});

describe.each(PARSERS)('when the driver makes %s of times, and big integers of int8', (_, parse) => {
  const given = new Map<number, Parse>();
  const set = (type: number, as: Parse): void => {
    given.set(type, getTypeParser(type) as Parse);
    setTypeParser(type, as);
  };
  beforeEach(() => {
    set(builtins.TIMESTAMPTZ, parse);
    set(builtins.INT8, BigInt);
    set(builtins.NUMERIC, Number.parseFloat);
  });
  afterEach(() => {
    for (const [type, as] of given) setTypeParser(type, as);
  });

  const lately = (time: unknown): void => {
    expect(time).toBeInstanceOf(Date);
    expect(Math.abs(Number(time) - Date.now())).toBeLessThan(60_000);
  };

  it('a session that ended says when, to whoever asks for it and to whoever listens', async () => {
    const [ended] = await endOne();
    lately(ended!.endedAt);
    const [verdict] = await process.bench.store.verify([{ id: ended!.id, limit: 1 }]);
    expect(verdict).toMatchObject({ live: false, reason: 'logout', endedAt: ended!.endedAt });
  });

  async function endOne() {
    const sessionId = await process.logins()(person('lea'));
    const target = { scope: 'session', sessionId } as const;
    return process.bench.store.end({ target, reason: 'logout', by: null, limit: LARGEST_LIMIT });
  }

  it('the list has times', async () => {
    await endOne();
    await process.logins()(person('max'));
    for (const state of ['active', 'ended'] as const) {
      const { items } = await process.store.list({ state, limit: 1 });
      lately(items[0]!.createdAt);
      lately(items[0]!.lastSeenAt);
      expect(items[0]!.expiresAt).toBeInstanceOf(Date);
      expect(items[0]!.endedAt instanceof Date).toBe(state === 'ended');
    }
  });

  it('a cut-off and its record have times and ids that are texts', async () => {
    const cutOff = await process.cutOff();
    lately(cutOff.at);
    await process.count(cutOff);
    const { items } = await process.store.actions({ limit: 1 });
    expect(items).toMatchObject([{ id: cutOff.actionId, at: cutOff.at, ended: expect.any(Number) }]);
    expect([cutOff.id, cutOff.actionId]).toEqual([expect.any(String), expect.any(String)]);
  });

  it('an exemption has times', async () => {
    const expiresAt = new Date(Date.now() + 3_600_000);
    const added = await process.store.addExemption({ kind: 'role', value: 'bot', expiresAt }, SIGNATURE);
    lately(added.addedAt);
    expect(added.expiresAt).toEqual(expiresAt);
    expect(await process.store.exemptions()).toEqual([added]);
    expect(await process.store.exemptionsOf({ username: 'r2', roles: ['bot'] })).toEqual([added]);
  });
});

describe('when the driver makes of times what is none', () => {
  const given = getTypeParser(builtins.TIMESTAMPTZ) as Parse;
  const MESSAGE = /pg\.types\.setTypeParser\(\).*timestamptz.*Let it give a Date, or the text as it is/;
  afterEach(() => setTypeParser(builtins.TIMESTAMPTZ, given));

  it.each<[string, Parse]>([
    ['an empty object', () => ({})],
    ['nothing', () => undefined],
    ['a time without its zone', (text) => `${text.slice(0, 19)}+01`],
    ['the day alone', (text) => `${text.slice(0, 10)}T00:00-12:00`],
  ])('such as %s, the start stops and says what to write', async (_, parse) => {
    setTypeParser(builtins.TIMESTAMPTZ, parse);
    await expect(process.bench.store.prepare()).rejects.toThrow(MESSAGE);
  });

  it.each(PARSERS)('but not for %s', async (_, parse) => {
    setTypeParser(builtins.TIMESTAMPTZ, parse);
    await expect(process.bench.store.prepare()).resolves.toBeUndefined();
  });

  it('after the start, sessions are checked all the same, and what tells of times says what to write', async () => {
    setTypeParser(builtins.TIMESTAMPTZ, () => ({}));
    const id = await process.logins()(person('ida'));
    expect(await process.states([id])).toEqual(['live']);
    await expect(process.cutOff()).rejects.toThrow(MESSAGE);
    expect(await process.states([id])).toEqual(['cut-off']);
  });
});

describe('when the driver makes something else', () => {
  const TEXT_ARRAY = 1009;
  const given = new Map<number, Parse>();
  const set = (type: number, as: Parse): void => {
    given.set(type, getTypeParser(type) as Parse);
    setTypeParser(type, as);
  };
  afterEach(() => {
    for (const [type, as] of given) setTypeParser(type, as);
  });

  it.each<[string, number, Parse]>([
    ['bool', builtins.BOOL, String],
    ['bool', builtins.BOOL, () => false],
    ['uuid', builtins.UUID, (text) => ({ text })],
    ['uuid', builtins.UUID, (text) => Buffer.from(text.replaceAll('-', ''), 'hex').toString()],
    ['int4', builtins.INT4, BigInt],
    ['text[]', TEXT_ARRAY, String],
  ])('of %s, the start stops and names the type', async (name, type, parse) => {
    set(type, parse);
    await expect(process.bench.store.prepare()).rejects.toThrow(
      `Values of type ${name} are not read as the driver reads them by itself. Was pg.types.setTypeParser() given a parser for ${name}`,
    );
  });

  it('but not for what reads the same', async () => {
    set(builtins.BOOL, (text) => (text === 't' ? 1 : 0));
    set(builtins.UUID, (text) => text.toUpperCase());
    await expect(process.bench.store.prepare()).resolves.toBeUndefined();
  });
});

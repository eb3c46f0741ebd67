import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { someone, StoreBench, until } from '../support/store.js';

let url: string;
let bench: StoreBench;
let warn: jest.SpiedFunction<Logger['warn']>;

beforeEach(async () => {
  url = await freshDatabase();
  bench = await StoreBench.open(url, {}, { poolSize: 1 });
  warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
});
afterEach(async () => {
  warn.mockRestore();
  await bench.close();
  await dropDatabase(url);
});

it('a pool that the application has used up is named in the log, once for all that wait; then it is as before', async () => {
  const sessions = bench.sessions();
  const user = someone();
  const id = await sessions.login(user);
  const ofTheApplication = bench.dataSource.createQueryRunner();
  await ofTheApplication.connect();
  const refused = await Promise.allSettled([sessions.isLive(id), sessions.login(user)]);
  expect(refused.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  await until(() => warn.mock.calls.length > 0);
  await expect(sessions.isLive(id)).rejects.toThrow('no answer within');
  await ofTheApplication.release();
  expect(await sessions.isLive(id)).toBe(true);
  expect(warn.mock.calls).toEqual([[expect.stringMatching(/all 1 are taken, and 2 wait .*poolSize/)]]);
}, 20_000);

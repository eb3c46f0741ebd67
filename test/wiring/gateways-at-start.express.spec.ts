import { afterAll, beforeAll, expect, it, jest } from '@jest/globals';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

/** What the start asked about. */
const judged = jest.fn((_classes: readonly unknown[]) => 'a gateway that nothing guards');

// The tests run on Nest 12, where there is nothing to complain of: gateways.express.spec.ts has the judgement itself.
jest.unstable_mockModule('../../src/http/gateways.check.js', () => ({ gatewayComplaint: judged }));
const { startApplication } = await import('../support/application.js');

let databaseUrl: string;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
});
afterAll(() => dropDatabase(databaseUrl));

it('a complaint about a gateway stops the start, which has asked about every provider', async () => {
  await expect(startApplication(databaseUrl)).rejects.toThrow('a gateway that nothing guards');
  const names = judged.mock.calls
    .flatMap(([classes]) => classes)
    .map((item) => (item as Function | null)?.name);
  expect(names).toContain('SingleSessionService');
});

it('nobody is asked where the application puts the guard itself: enforceGlobally: false', async () => {
  judged.mockClear();
  const application = await startApplication(databaseUrl, { options: { enforceGlobally: false } });
  await application.close();
  expect(judged).not.toHaveBeenCalled();
});

import type { Password, Variant } from './application.js';
import { compare, type Effort, type Load, warmUp } from './load.js';
import { rateOf, ratioOf, type Table } from './report.js';
import { startServers, stopServers } from './servers.js';

const VARIANTS: Variant[] = ['none', 'module', 'by-hand'];
const CONNECTIONS = [1, 16];
const PASSWORDS: Record<Password, string> = { cheap: 'SHA-256, no user table', usual: 'scrypt, user table' };
const USERS = { 'many users': 2000, 'one hot user': 1 };

/** What an admission costs: logins into cookie sessions that are kept in memory, with nothing around them and as applications do it. */
export async function benchLogin(databaseUrl: string, effort: Effort): Promise<Table> {
  const rows = [
    ...(await benchPassword('cheap', USERS, CONNECTIONS, databaseUrl, effort)),
    // There are some forty in a second.
    ...(await benchPassword('usual', { 'many users': 2000 }, [16], databaseUrl, {
      ...effort,
      sliceSeconds: 2.5 * effort.sliceSeconds,
    })),
  ];
  return {
    title: 'bench/login: logins per second',
    columns: [
      'password',
      'accounts',
      'connections',
      'no module',
      'this module',
      'by hand',
      'module / none',
      'by hand / none',
    ],
    rows,
  };
}

async function benchPassword(
  password: Password,
  accounts: Record<string, number>,
  connectionCounts: number[],
  databaseUrl: string,
  effort: Effort,
): Promise<string[][]> {
  const servers = await startServers(VARIANTS, 'cookie', databaseUrl, password);
  const rows: string[][] = [];
  try {
    await warmUp(servers, () => loginsOf(2000, 16), effort);
    for (const [name, users] of Object.entries(accounts))
      for (const connections of connectionCounts) {
        const results = await compare(servers, () => loginsOf(users, connections), effort);
        const measured = VARIANTS.map((variant) => results.get(variant)!);
        const [none, ...limited] = measured;
        rows.push([
          PASSWORDS[password],
          name,
          String(connections),
          ...measured.map(rateOf),
          ...limited.map((rates) => ratioOf(rates, none!)),
        ]);
      }
  } finally {
    await stopServers(servers);
  }
  return rows;
}

function loginsOf(users: number, connections: number): Load {
  return {
    connections,
    fresh: true,
    request: (count) => {
      const username = `user${count % users}`;
      return {
        path: '/login',
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ username, password: username }),
      };
    },
  };
}

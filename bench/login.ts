import type { Variant } from './application.js';
import { compare, type Effort, type Load, slice } from './load.js';
import { rateOf, ratioOf, type Table } from './report.js';
import { startServers, stopServers } from './servers.js';

const VARIANTS: Variant[] = ['none', 'module', 'by-hand'];
const CONNECTIONS = [1, 16];
const USERS = { 'many users': 2000, 'one hot user': 1 };

/** What an admission costs: logins with a cheap password check into cookie sessions that are kept in memory. */
export async function benchLogin(databaseUrl: string, effort: Effort): Promise<Table> {
  const servers = await startServers(VARIANTS, 'cookie', databaseUrl);
  const rows: string[][] = [];
  try {
    for (const server of servers) await slice(server.url, loginsOf(2000, 16), effort.warmUpSeconds);
    for (const [name, users] of Object.entries(USERS)) {
      for (const connections of CONNECTIONS) {
        const results = await compare(servers, () => loginsOf(users, connections), effort);
        const [none, module, byHand] = VARIANTS.map((variant) => results.get(variant)!);
        rows.push([
          name,
          String(connections),
          ...[none, module, byHand].map((one) => rateOf(one!)),
          ...[module, byHand].map((one) => ratioOf(one!)),
        ]);
      }
    }
  } finally {
    await stopServers(servers);
  }
  return {
    title: 'bench/login: logins per second',
    columns: [
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

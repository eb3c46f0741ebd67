import type { CredentialKind, Variant } from './application.js';
import { compare, type Effort, type Load, slice } from './load.js';
import { rateOf, ratioOf, type Table } from './report.js';
import { type BenchServer, startServers, stopServers } from './servers.js';

const VARIANTS: Variant[] = ['none', 'module', 'by-hand'];
const KINDS: CredentialKind[] = ['cookie', 'jwt'];
const CONNECTIONS = [1, 16, 64];
const KIND_NAMES = { cookie: 'cookie, in memory', jwt: 'JWT' };

/** What a check costs: one route with the strong guard, with one made by hand, and with none. */
export async function benchGuard(databaseUrl: string, effort: Effort): Promise<Table> {
  const rows: string[][] = [];
  for (const kind of KINDS) {
    const servers = await startServers(VARIANTS, kind, databaseUrl);
    try {
      rows.push(...(await benchKind(kind, servers, effort)));
    } finally {
      await stopServers(servers);
    }
  }
  return {
    title: 'bench/guard: requests per second of one route',
    columns: [
      'credential',
      'connections',
      'no guard',
      'this module',
      'by hand',
      'module / none',
      'by hand / none',
    ],
    rows,
  };
}

async function benchKind(kind: CredentialKind, servers: BenchServer[], effort: Effort): Promise<string[][]> {
  const headers = new Map<BenchServer, Record<string, string>[]>();
  for (const server of servers) headers.set(server, await signInAll(server.url, kind));
  // Each connection is a user of its own, with a session of its own.
  const loadOf =
    (connections: number) =>
    (server: BenchServer): Load => ({
      connections,
      request: (connection) => ({ path: '/me', headers: headers.get(server)![connection]! }),
    });
  for (const server of servers) await slice(server.url, loadOf(16)(server), effort.warmUpSeconds);
  const rows: string[][] = [];
  for (const connections of CONNECTIONS) {
    const results = await compare(servers, loadOf(connections), effort);
    const [none, module, byHand] = VARIANTS.map((variant) => results.get(variant)!);
    rows.push([
      KIND_NAMES[kind],
      String(connections),
      ...[none, module, byHand].map((one) => rateOf(one!)),
      ...[module, byHand].map((one) => ratioOf(one!)),
    ]);
  }
  return rows;
}

function signInAll(url: string, kind: CredentialKind): Promise<Record<string, string>[]> {
  const most = Math.max(...CONNECTIONS);
  return Promise.all(Array.from({ length: most }, (_, number) => signIn(url, `user${number + 1}`, kind)));
}

async function signIn(url: string, username: string, kind: CredentialKind): Promise<Record<string, string>> {
  const answer = await fetch(`${url}/login`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ username, password: username }),
  });
  const { accessToken } = (await answer.json()) as { accessToken?: string };
  if (!answer.ok) throw new Error(`${username} could not sign in: ${answer.status}`);
  return kind === 'jwt'
    ? { authorization: `Bearer ${accessToken}` }
    : { cookie: answer.headers.getSetCookie()[0]!.split(';', 1)[0]! };
}

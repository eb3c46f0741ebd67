import type { CredentialKind, Variant } from './application.js';
import { added, compare, type Effort, type Load, type Rates, warmUp } from './load.js';
import { rateOf, ratioOf, type Table } from './report.js';
import { type BenchServer, startServers, stopServers } from './servers.js';

const VARIANTS = [
  'none',
  'again',
  'module',
  'bounded',
  'by-hand',
  'exists-by',
  'round-trip',
] as const satisfies Variant[];
const OURS = ['module', 'bounded'] as const satisfies Variant[];
const ASKING = [...OURS, 'by-hand', 'exists-by', 'round-trip'] as const satisfies Variant[];
const KINDS: CredentialKind[] = ['cookie', 'jwt'];
const CONNECTIONS = [1, 16, 64];
const KIND_NAMES = { cookie: 'cookie, in memory', jwt: 'JWT' };

/** What a check costs: one route with the strong guard, the bounded one, one made by hand, and none. */
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
      'no guard, per second',
      'again / none',
      'strong / none',
      'bounded / none',
      'by hand / none',
      'existsBy / none',
      'round trip / none',
      'strong / by hand',
      'bounded / by hand',
      'strong adds, ms',
      'bounded adds, ms',
      'by hand adds, ms',
      'existsBy adds, ms',
      'round trip adds, ms',
    ],
    rows,
  };
}

async function benchKind(kind: CredentialKind, servers: BenchServer[], effort: Effort): Promise<string[][]> {
  const headers = new Map<BenchServer, Record<string, string>[]>();
  for (const server of servers) headers.set(server, await signInAll(server, kind));
  // Each connection is a user of its own, with a session of its own.
  const loadOf =
    (connections: number) =>
    (server: BenchServer): Load => ({
      connections,
      request: (connection) => ({ path: '/me', headers: headers.get(server)![connection]! }),
    });
  await warmUp(servers, loadOf(16), effort);
  const rows: string[][] = [];
  for (const connections of CONNECTIONS) {
    const results = await compare(servers, loadOf(connections), { ...effort, rouseSeconds: 0.05 });
    const of = (variant: Variant): Rates => results.get(variant)!;
    const none = of('none');
    rows.push([
      KIND_NAMES[kind],
      String(connections),
      rateOf(none),
      ...VARIANTS.slice(1).map((variant) => ratioOf(of(variant), none)),
      ...OURS.map((variant) => ratioOf(of(variant), of('by-hand'))),
      ...ASKING.map((variant) => added(of(variant), none, connections).toFixed(2)),
    ]);
  }
  return rows;
}

// Users of their own: two of the variants share their tables, and would evict each other.
function signInAll({ url, variant }: BenchServer, kind: CredentialKind): Promise<Record<string, string>[]> {
  const most = Math.max(...CONNECTIONS);
  return Promise.all(
    Array.from({ length: most }, (_, number) => signIn(url, `${variant}-${number + 1}`, kind)),
  );
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

import { HttpClient, login, type Credential } from '../support/http-client.js';

export const LOGINS = 32;

/** What became of logins of one account that were all sent at the same time. */
export interface Round {
  /** How many logins got which status. */
  statuses: Record<number, number>;
  /** For each process, which of the logins' credentials it accepts afterwards, by number. */
  accepted: number[][];
}

/** Sends logins of one account at the same time across all processes, then shows every credential to every process. */
export async function playRound(
  client: HttpClient,
  urls: string[],
  { username, kind }: { username: string; kind: 'cookie' | 'token' },
): Promise<Round> {
  return playRoundOf(client, urls, (url) => login(client, url, username, kind));
}

/** The same with logins that somebody else knows how to do. */
export async function playRoundOf(
  client: HttpClient,
  urls: string[],
  signIn: (url: string) => Promise<{ status: number; credential: Credential | undefined }>,
): Promise<Round> {
  const replies = await Promise.all(Array.from({ length: LOGINS }, (_, i) => signIn(urls[i % urls.length]!)));
  const statuses: Round['statuses'] = {};
  for (const { status } of replies) statuses[status] = (statuses[status] ?? 0) + 1;
  const credentials = replies.map(({ credential }) => credential);
  const accepted = await Promise.all(urls.map((url) => acceptedBy(client, url, credentials)));
  return { statuses, accepted };
}

/** The numbers of the credentials that a process lets in. */
export async function acceptedBy(
  client: HttpClient,
  url: string,
  credentials: (Credential | undefined)[],
): Promise<number[]> {
  const answers = await Promise.all(
    credentials.map(async (headers) => headers && (await client.send(`${url}/me`, { headers })).status),
  );
  const odd = answers.find((status) => status !== undefined && status !== 200 && status !== 401);
  if (odd !== undefined) throw new Error(`GET /me answered ${odd}`);
  return answers.flatMap((status, number) => (status === 200 ? [number] : []));
}

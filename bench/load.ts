import autocannon from 'autocannon';
import type { Variant } from './application.js';
import { median } from './figures.js';
import type { BenchServer } from './servers.js';

/** How long and how often each variant is loaded. */
export interface Effort {
  rounds: number;
  sliceSeconds: number;
  /** For each variant. */
  warmUpSeconds: number;
  /** How long before each slice, without being counted. */
  rouseSeconds?: number;
}

/** What makes the requests of one slice. */
export interface Load {
  connections: number;
  /** The request of a connection; asked again for each request when `fresh`. */
  request: (connection: number) => {
    path: string;
    method?: 'GET' | 'POST';
    headers?: Record<string, string>;
    body?: string;
  };
  fresh?: boolean;
}

/** Requests per second of one variant, in each round. */
export type Rates = number[];

/**
 * Loads the variants by turns in short slices, each round in another order, so that what else the machine does meets
 * all of them alike.
 */
export async function compare(
  servers: BenchServer[],
  loadOf: (server: BenchServer) => Load,
  { rounds, sliceSeconds, rouseSeconds = 0 }: Effort,
): Promise<Map<Variant, Rates>> {
  const rates = new Map<Variant, Rates>(servers.map(({ variant }) => [variant, []]));
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < servers.length; turn++) {
      const server = servers[(round + turn) % servers.length]!;
      // It did nothing while the others had their turns, and what it remembers has grown too old: that is not what is measured.
      if (rouseSeconds > 0) await slice(server.url, loadOf(server), rouseSeconds);
      rates.get(server.variant)!.push(await slice(server.url, loadOf(server), sliceSeconds));
    }
  }
  return rates;
}

/** Loads all at once, which takes less time than one after the other: V8 optimizes for some 10,000 requests. */
export async function warmUp(
  servers: BenchServer[],
  loadOf: (server: BenchServer) => Load,
  { warmUpSeconds }: Effort,
): Promise<void> {
  await Promise.all(
    servers.map((server) => slice(server.url, loadOf(server), warmUpSeconds * servers.length)),
  );
}

/** The median of the ratios, each taken within one round. */
export const ratio = (own: Rates, others: Rates): number =>
  median(own.map((rate, round) => rate / others[round]!));

/** By how many milliseconds a request takes longer, the median of the rounds. */
export const added = (own: Rates, others: Rates, connections: number): number =>
  median(own.map((rate, round) => connections * (1_000 / rate - 1_000 / others[round]!)));

/** Requests per second. Throws when one was refused: a refusal is fast, and would count as speed. */
export async function slice(
  url: string,
  { connections, request, fresh = false }: Load,
  seconds: number,
): Promise<number> {
  let connection = 0;
  const next = () => request(connection++);
  const result = await autocannon({
    url,
    connections,
    duration: seconds,
    // It ends only when it samples: by default, each second.
    sampleInt: 50,
    ...(fresh
      ? { requests: [{ setupRequest: (given) => ({ ...given, ...next() }) }] }
      : { setupClient: (client) => client.setRequests([next()]) }),
  });
  const { non2xx, errors, timeouts } = result;
  if (non2xx + errors + timeouts > 0)
    throw new Error(
      `${url}: ${non2xx} refusals, ${errors} errors, ${timeouts} timeouts. This is no benchmark.`,
    );
  return result['2xx'] / result.duration;
}

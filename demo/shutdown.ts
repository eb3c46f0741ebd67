import type { Server, ServerResponse } from 'node:http';

const PATIENCE_MS = 5000;

/** What must be closed at the end, closed in the reverse order of opening. */
export class Shutdown {
  private readonly steps: Array<() => Promise<void>> = [];
  private ended: Promise<void> | undefined;

  add(step: () => Promise<void>): void {
    this.steps.push(step);
  }

  /** Ends everything once, however often it is asked. A step that fails does not keep the others from being taken. */
  run(): Promise<void> {
    this.ended ??= this.runSteps();
    return this.ended;
  }

  private async runSteps(): Promise<void> {
    for (let step = this.steps.pop(); step !== undefined; step = this.steps.pop()) {
      await step().catch((error: unknown) => console.error(error));
    }
  }
}

/** The answers under way that have no end of their own: streams of server-sent events. */
export function openStreams(server: Server): ReadonlySet<ServerResponse> {
  const streams = new Set<ServerResponse>();
  server.on('request', ({ headers }, response) => {
    if (!headers.accept?.includes('text/event-stream')) return;
    streams.add(response);
    response.once('close', () => streams.delete(response));
  });
  return streams;
}

/** Takes no new requests and waits for those under way, but not for ever. A browser whose stream is closed opens it again elsewhere. */
export async function drain(server: Server, streams: ReadonlySet<ServerResponse>): Promise<void> {
  // Without these two a client that keeps its connection busy keeps the process alive.
  server.keepAliveTimeout = 1;
  server.prependListener('request', (_request, response) => response.setHeader('Connection', 'close'));
  const deadline = setTimeout(() => server.closeAllConnections(), PATIENCE_MS);
  for (const stream of streams) stream.destroy();
  await new Promise((resolve) => server.close(resolve));
  clearTimeout(deadline);
}

import type { Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

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

/** The answers under way, as they are whenever they are gone through. */
export function openAnswers(server: Server): Iterable<ServerResponse> {
  const connections = new Map<Socket, Set<ServerResponse>>();
  server.on('connection', (connection) => {
    connections.set(connection, new Set());
    // Of answers that wait for their turn on it, none says that it is over.
    connection.once('close', () => connections.delete(connection));
  });
  server.on('request', ({ socket }, response) => {
    const answers = connections.get(socket);
    answers?.add(response);
    response.once('close', () => answers?.delete(response));
  });
  return {
    *[Symbol.iterator]() {
      for (const answers of connections.values()) yield* answers;
    },
  };
}

/** A stream of server-sent events has no end of its own. A client need not say that it takes one; of one that does, it may not have begun yet. */
const isStream = ({ req, headersSent, writableEnded }: ServerResponse): boolean =>
  req.headers.accept?.includes('text/event-stream') === true || (headersSent && !writableEnded);

/** Takes no new requests and waits for those under way, but not for ever. A browser whose stream is closed opens it again elsewhere. */
export async function drain(server: Server, answers: Iterable<ServerResponse>): Promise<void> {
  // Without these two a client that keeps its connection busy keeps the process alive.
  server.keepAliveTimeout = 1;
  server.prependListener('request', (_request, response) => response.setHeader('Connection', 'close'));
  const deadline = setTimeout(() => server.closeAllConnections(), PATIENCE_MS);
  for (const answer of answers) if (isStream(answer)) answer.destroy();
  await new Promise((resolve) => server.close(resolve));
  clearTimeout(deadline);
}

import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import { connect, type AddressInfo, type Socket } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { drain, openAnswers } from '../../demo/shutdown.js';
import { eventually } from '../support/sessions.js';

const LONGER_THAN_SOCKETS_HOLD = 20_000_000;

let server: Server;

beforeEach(() => {
  server = createServer();
});

afterEach(() => {
  server.close();
  server.closeAllConnections();
});

const clientThatAsks = async (request: string): Promise<Socket> => {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  client.write(request);
  return client;
};

it('answers that still wait for their turn when their client leaves are not under way any more, though they never close', async () => {
  const answers = openAnswers(server);
  const open = (): number => [...answers].length;
  const client = await clientThatAsks('GET / HTTP/1.1\r\nHost: here\r\n\r\n'.repeat(3));
  await eventually(open, (count) => count === 3);
  client.destroy();
  await eventually(open, (count) => count === 0, 2_000);
});

describe('the drain', () => {
  const asked = async (request: string): Promise<[Socket, ServerResponse, Iterable<ServerResponse>]> => {
    const answers = openAnswers(server);
    const client = await clientThatAsks(request);
    const [, answer] = (await once(server, 'request')) as [unknown, ServerResponse];
    return [client, answer, answers];
  };

  it('closes a stream that has not begun: nothing would end it once it has', async () => {
    const [client, answer, answers] = await asked(
      'GET / HTTP/1.1\r\nHost: here\r\nAccept: text/event-stream\r\n\r\n',
    );
    client.resume();
    const drained = drain(server, answers);
    expect(answer.destroyed).toBe(true);
    await drained;
  });

  it('waits for an answer that has not begun, and for one that its client has not read', async () => {
    const [client, answer, answers] = await asked('GET / HTTP/1.1\r\nHost: here\r\n\r\n');
    const drained = drain(server, answers);
    expect(answer.destroyed).toBe(false);
    answer.end('x'.repeat(LONGER_THAN_SOCKETS_HOLD));
    expect(String(await buffer(client))).toMatch(/x{1000}$/);
    await drained;
  });
});

import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { afterEach, it } from '@jest/globals';
import { openAnswers } from '../../demo/shutdown.js';
import { eventually } from '../support/sessions.js';

const server = createServer();
afterEach(() => {
  server.close();
  server.closeAllConnections();
});

it('answers that still wait for their turn when their client leaves are not under way any more, though they never close', async () => {
  const answers = openAnswers(server);
  const open = (): number => [...answers].length;
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  client.write('GET / HTTP/1.1\r\nHost: here\r\n\r\n'.repeat(3));
  await eventually(open, (count) => count === 3);
  client.destroy();
  await eventually(open, (count) => count === 0, 2_000);
});

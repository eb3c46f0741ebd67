import { EventEmitter } from 'node:events';
import { ServerResponse, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import { onceClosed } from '../../src/http/once-closed.js';
import type { Connection, NodeResponse } from '../../src/http/response.js';
import { beforeAnswer, unlessAnswered, unlessCookieSent } from '../../src/http/unless-answered.js';
import { gate } from '../support/fake-store.js';

/** Node's response as it is when its connection closes. */
function closing(state: Partial<NodeResponse>): {
  response: NodeResponse & EventEmitter;
  say: (event: 'finish' | 'close') => void;
} {
  const events = new EventEmitter();
  const response = Object.assign(events, {
    destroyed: false,
    headersSent: true,
    writableFinished: true,
    statusCode: 200,
    end: () => undefined,
    ...state,
  });
  return {
    response: response as unknown as NodeResponse & EventEmitter,
    say: (event) => void events.emit(event),
  };
}

/** What an answer says while the one before has the connection. */
const waitingOn = (connection: Partial<Connection>): Partial<NodeResponse> => ({
  socket: null,
  req: { socket: Object.assign(new EventEmitter(), connection) as unknown as Connection },
});

const undo = jest.fn(() => Promise.resolve());
beforeEach(() => void undo.mockClear());

describe('a login is taken back', () => {
  it.each<[string, Partial<NodeResponse>, number]>([
    ['not when its answer has reached the client', {}, 0],
    ['when the client was gone before', { writableFinished: false }, 1],
    ['when a time limit had answered 408 before it was admitted', { statusCode: 408 }, 1],
    ['when its answer had the least status of a failure', { statusCode: 400 }, 1],
    ['not when its answer had the highest of none', { statusCode: 399 }, 0],
    [
      'when a client of HTTP/2 cancels before the head has left',
      { headersSent: false, stream: { destroyed: false, aborted: true } },
      1,
    ],
    ['when a client of HTTP/2 cancels amid the answer', { stream: { destroyed: false, aborted: true } }, 1],
    [
      'not when its answer over HTTP/2 has reached the client',
      { stream: { destroyed: false, aborted: false } },
      0,
    ],
  ])('%s', (_, state, times) => {
    const { response, say } = closing(state);
    unlessAnswered(response, undo);
    say('close');
    expect(undo).toHaveBeenCalledTimes(times);
  });

  it('when the connection was destroyed a moment before, and dropped the answer that Node calls finished', () => {
    const { response, say } = closing({ socket: { bytesWritten: 7 } });
    unlessAnswered(response, undo);
    say('close');
    expect(undo).toHaveBeenCalledTimes(1);
  });

  it('not when the connection has taken the answer', () => {
    const socket = { bytesWritten: 7 };
    const { response, say } = closing({ socket });
    unlessAnswered(response, undo);
    socket.bytesWritten += 100;
    say('close');
    expect(undo).not.toHaveBeenCalled();
  });

  // HTTP/2 has given up the connection by then, and what stands for it has no count.
  it('not when the connection does not say any more what it has taken', () => {
    const socket: { bytesWritten?: number } = { bytesWritten: 7 };
    const { response, say } = closing({ socket });
    unlessAnswered(response, undo);
    delete socket.bytesWritten;
    say('close');
    expect(undo).not.toHaveBeenCalled();
  });

  it('not when an answer without a socket is finished, which never says that all is written', () => {
    const { response, say } = closing({ writableFinished: false });
    unlessAnswered(response, undo);
    say('finish');
    say('close');
    expect(undo).not.toHaveBeenCalled();
  });

  it.each<[string, Partial<NodeResponse>]>([
    ['the connection is none', { req: { socket: {} } }],
    ['there is no connection', { req: {} }],
    ['there is no request', {}],
  ])(
    'not where %s, as behind adapters of serverless platforms: the answer says that it is written',
    (_, state) => {
      const { response, say } = closing({ socket: null, ...state });
      unlessAnswered(response, undo);
      say('close');
      expect(undo).not.toHaveBeenCalled();
    },
  );

  it.each<[string, Partial<NodeResponse>]>([
    ['HTTP/1.1', { destroyed: true }],
    ['HTTP/1.1, whose answer still waited for its turn', waitingOn({ destroyed: true })],
    ['HTTP/2', { stream: { destroyed: true, aborted: true } }],
  ])("at once when a client of %s has gone, and once also where its 'close' is still to come", (_, state) => {
    const { response, say } = closing(state);
    unlessAnswered(response, undo);
    expect(undo).toHaveBeenCalledTimes(1);
    say('close');
    expect(undo).toHaveBeenCalledTimes(1);
  });
});

it.each([
  [399, 'leaves at once'],
  [400, 'leaves when the login is taken back'],
])('an answer of %i %s', async (statusCode, how) => {
  const end = jest.fn();
  const { response } = closing({ statusCode, headersSent: false, end, getHeaders: () => ({}) });
  let done!: () => void;
  unlessAnswered(response, () => new Promise((resolve) => (done = resolve)));
  response.end('the answer');
  expect(end).toHaveBeenCalledTimes(how === 'leaves at once' ? 1 : 0);
  done?.();
  await new Promise(setImmediate);
  expect(end).toHaveBeenCalledTimes(1);
});

it('an answer that was held back leaves with its status, and with the names of its headers as they were written', async () => {
  const request = { method: 'POST', httpVersionMajor: 1, httpVersionMinor: 1 };
  const response = new ServerResponse(request as IncomingMessage);
  const connection = new PassThrough();
  response.assignSocket(connection as unknown as Socket);
  let done!: () => void;
  beforeAnswer(response as unknown as NodeResponse, () => new Promise((resolve) => (done = resolve)));
  response.statusCode = 201;
  response.setHeader('Content-Type', 'text/plain');
  expect(response.end('the answer')).toBe(response);
  // As Nest does when all guards have passed, also where one of them has answered.
  response.statusCode = 200;
  done();
  await new Promise(setImmediate);
  expect(String(connection.read())).toMatch(/^HTTP\/1\.1 201 Created\r\nContent-Type: text\/plain\r\n/);
});

describe('an answer that is held back', () => {
  const destroy = jest.fn();
  const end = jest.fn();
  const afterwards = jest.fn();
  let held: ReturnType<typeof gate<(() => void) | void>>;
  let headers: Record<string, string>;
  let answer: ReturnType<typeof closing>;
  let response: NodeResponse;

  beforeEach(() => {
    for (const one of [destroy, end, afterwards]) one.mockReset();
    held = gate();
    headers = { location: '/' };
    answer = closing({
      statusCode: 302,
      headersSent: false,
      writableEnded: true,
      destroy,
      end,
      getHeaders: () => ({ ...headers }),
      setHeader: (name, value) => (headers[name] = String(value)),
      removeHeader: (name) => delete headers[name],
    });
    ({ response } = answer);
    beforeAnswer(response, () => held.promise);
  });

  const turn = (): Promise<void> => new Promise(setImmediate);

  it('leaves once, as the first that was given, whatever is given meanwhile', async () => {
    expect(response.end('first')).toBe(response);
    expect(response.end('first')).toBe(response);
    response.statusCode = 500;
    Object.assign(headers, { location: '/error', etag: 'of the second' });
    expect(response.end('second')).toBe(response);
    held.open();
    await turn();
    expect(end.mock.calls).toEqual([['first']]);
    expect(response.statusCode).toBe(302);
    expect(headers).toEqual({ location: '/' });
  });

  it('leaves with the headers that others have set meanwhile who give no answer, and with its own status', async () => {
    response.end('first');
    response.statusCode = 201;
    headers['x-later'] = 'set';
    held.open();
    await turn();
    expect(response.statusCode).toBe(302);
    expect(headers).toEqual({ location: '/', 'x-later': 'set' });
  });

  it('keeps the status that its head has left with', async () => {
    response.end('first');
    Object.assign(response, { headersSent: true, statusCode: 200 });
    headers['x-sent'] = 'yes';
    response.end('second');
    held.open();
    await turn();
    expect(response.statusCode).toBe(200);
    expect(headers).toHaveProperty('x-sent');
  });

  it.each([
    ['at once, where it is over with its end', true],
    ['when it is over, where a middleware goes on with it', false],
  ])('is followed by what comes after it %s', async (_, isOver) => {
    Object.assign(response, { writableEnded: isOver });
    end.mockImplementation(() => expect(afterwards).not.toHaveBeenCalled());
    response.end('first');
    held.open(afterwards);
    await turn();
    expect(end).toHaveBeenCalledTimes(1);
    expect(afterwards).toHaveBeenCalledTimes(isOver ? 1 : 0);
    answer.say('close');
    expect(afterwards).toHaveBeenCalledTimes(1);
  });

  it('is cut off when it cannot leave: nobody waits for ever', async () => {
    end.mockImplementation(() => {
      throw new Error('It cannot be sent.');
    });
    response.end('first');
    held.open();
    await turn();
    expect(destroy).toHaveBeenCalledTimes(1);
  });

  it('may be a stream that fails meanwhile, which would end the process', () => {
    const stream = new PassThrough();
    response.end(stream, undefined);
    expect(() => stream.emit('error', new Error('The file is gone.'))).not.toThrow();
  });
});

describe('a login that stands as soon as the browser has its cookie is taken back', () => {
  const cookie = (value: string): Partial<NodeResponse> => ({ getHeader: () => `sid=${value}; Path=/` });

  it.each<[string, Partial<NodeResponse>, number]>([
    ['when the client has gone before the head has left', { ...cookie('its-id'), headersSent: false }, 1],
    ['not when it has gone after that', { ...cookie('its-id'), writableFinished: false }, 0],
    ['when the head had no cookie of it', { ...cookie('other'), writableFinished: false }, 1],
    ['not when all has reached the client, whose cookie does not show the id', cookie('hidden'), 0],
  ])('%s', (_, state, times) => {
    const { response, say } = closing(state);
    unlessCookieSent(response, () => 'its-id', undo);
    say('close');
    expect(undo).toHaveBeenCalledTimes(times);
  });

  it('when the client has gone after a head without any cookie, and no cookie session carries the login any more', () => {
    const { response, say } = closing({ getHeader: () => undefined, writableFinished: false });
    unlessCookieSent(response, () => undefined, undo);
    say('close');
    expect(undo).toHaveBeenCalledTimes(1);
  });
});

it('what waits for the end of an answer waits with one listener, however much it is: Node warns of a leak at the eleventh', () => {
  const { response, say } = closing({});
  const acts = Array.from({ length: 20 }, () => jest.fn());
  for (const act of acts) onceClosed(response, act);
  expect(response.listenerCount('close')).toBe(1);
  say('close');
  say('close');
  for (const act of acts) expect(act).toHaveBeenCalledTimes(1);
});

describe('the end of an answer that waits for its turn on a connection', () => {
  let connection: EventEmitter;
  let waiting: ReturnType<typeof closing>;
  const act = jest.fn();

  beforeEach(() => {
    act.mockClear();
    waiting = closing(waitingOn({}));
    connection = waiting.response.req!.socket as unknown as EventEmitter;
    onceClosed(waiting.response, act);
  });

  it('is told once, when the connection closes', () => {
    connection.emit('close');
    expect(act).toHaveBeenCalledTimes(1);
    waiting.say('close');
    expect(act).toHaveBeenCalledTimes(1);
  });

  it('is told once, when its turn has come and it is over, however long the connection goes on', () => {
    waiting.say('close');
    expect(act).toHaveBeenCalledTimes(1);
    connection.emit('close');
    expect(act).toHaveBeenCalledTimes(1);
  });

  it('takes one listener of the connection, whatever the number of answers that wait there', () => {
    const acts = Array.from({ length: 20 }, () => jest.fn());
    for (const one of acts) onceClosed(closing({ socket: null, req: waiting.response.req! }).response, one);
    expect(connection.listenerCount('close')).toBe(1);
    connection.emit('close');
    for (const one of acts) expect(one).toHaveBeenCalledTimes(1);
  });
});

import { describe, expect, it, jest } from '@jest/globals';
import type { ExecutionContext } from '@nestjs/common';
import { requestOf, responseOf } from '../../src/http/execution-context.js';
import { bearerTokenOf, type SessionRequest } from '../../src/http/request.js';
import { responseTo, stateOf } from '../../src/http/request-state.js';
import type { NodeResponse, Reply } from '../../src/http/response.js';
import { destroyCookieSession } from '../../src/http/cookie-session.js';

const request: SessionRequest = { headers: {} };

function contextOf(type: string, args: unknown[]): ExecutionContext {
  return {
    getType: () => type,
    getArgByIndex: (index: number) => args[index],
    switchToHttp: () => ({ getRequest: () => args[0] }),
  } as unknown as ExecutionContext;
}

describe('requestOf()', () => {
  it('is the first argument of an HTTP handler', () => {
    expect(requestOf(contextOf('http', [request, {}]))).toBe(request);
  });

  // A library that calls a handler through Nest may name no type, which is HTTP then, and pass what it likes.
  it.each([
    'hello',
    7,
    null,
    undefined,
    () => ({}),
    {},
    { user: { id: 1 } },
    { headers: null },
    { headers: 'none' },
  ])('is undefined for what is no HTTP request: %p', (argument) => {
    expect(requestOf(contextOf('http', [argument]))).toBeUndefined();
  });

  it('is `req` of the context, the third argument, of a GraphQL resolver', () => {
    expect(requestOf(contextOf('graphql', [{}, {}, { req: request }, {}]))).toBe(request);
  });

  it.each([undefined, {}, { request }])(
    'says what to write when a GraphQL context %j has no request, and does not let it pass [P8]',
    (graphQlContext) => {
      expect(() => requestOf(contextOf('graphql', [{}, {}, graphQlContext, {}]))).toThrow(
        /GraphQLModule\.forRoot\(\{ context: \(\{ req \}\) => \(\{ req \}\) \}\)/,
      );
    },
  );

  it.each(['rpc', 'ws'])('is undefined for %s', (type) => {
    expect(requestOf(contextOf(type, [request]))).toBeUndefined();
  });

  it('is undefined for a message on a socket of another library, which is refused, also where that has a request [P8]', () => {
    expect(requestOf(contextOf('ws', [{ request }]))).toBeUndefined();
  });
});

describe('responseOf()', () => {
  const res = {} as NodeResponse;
  const reply = { raw: {} } as Reply;

  it('is the `reply` of a GraphQL context on Fastify, whose request knows none', () => {
    expect(responseOf(contextOf('graphql', [{}, {}, { req: request, reply }, {}]), request)).toBe(reply);
  });

  it("is that of Express's request where a GraphQL context has no `reply`, or there is none at all", () => {
    const context = contextOf('graphql', [{}, {}, { req: request }, {}]);
    expect(responseOf(context, { ...request, res })).toBe(res);
    expect(responseOf(context, request)).toBeUndefined();
  });
});

describe('the response of a request that has lost it, as that of a socket that polls', () => {
  const polling: SessionRequest = { headers: {}, res: null };

  it('is none', () => {
    expect(responseTo(polling)).toBeUndefined();
    expect(responseOf(contextOf('ws', [{}]), polling)).toBeUndefined();
  });

  it('does not keep its cookie session from being destroyed', async () => {
    const destroy = jest.fn((done: () => void) => done());
    await destroyCookieSession({ ...polling, session: { save: () => undefined, destroy } });
    expect(destroy).toHaveBeenCalled();
  });
});

describe('bearerTokenOf()', () => {
  // RFC 9110, section 11.1: the name of a scheme is the same in capitals, and any number of spaces may follow.
  it.each(['Bearer a.b.c', 'bearer a.b.c', 'BEARER   a.b.c '])('is the token of %j', (authorization) => {
    expect(bearerTokenOf({ headers: { authorization } })).toBe('a.b.c');
  });

  it.each([undefined, 'a.b.c', 'Basic a.b.c', 'Bearera.b.c'])('is none of %j', (authorization) => {
    expect(bearerTokenOf({ headers: { authorization } })).toBeUndefined();
  });
});

describe('stateOf()', () => {
  it('keeps what the request arrived with, whatever a login changes', () => {
    const arriving: SessionRequest = {
      headers: {},
      sessionID: 'before',
      session: { singleSession: 'stamp', save: () => {}, destroy: () => {} },
    };
    stateOf(arriving);
    Object.assign(arriving, { sessionID: 'after', session: null });
    expect(stateOf(arriving)).toMatchObject({ arrivedSessionId: 'before', arrivedStamp: 'stamp' });
  });
});

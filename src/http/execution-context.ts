import { SetMetadata, type ExecutionContext } from '@nestjs/common';
import type { SessionRequest } from './request.js';
import type { Reply, SessionResponse } from './response.js';
import { requestOfClient } from './sockets.js';

/** The request of an HTTP or GraphQL handler, or that with which the socket of a message began; `undefined` for transports that have none. */
export function requestOf(context: ExecutionContext): SessionRequest | undefined {
  const type = context.getType<string>();
  // What `switchToHttp()` gives, without the three functions that it makes each time.
  if (type === 'http') return asRequest(context.getArgByIndex(0));
  if (type === 'ws') return requestOfClient(context.getArgByIndex(0));
  if (type !== 'graphql') return undefined;
  const request = context.getArgByIndex<{ req?: SessionRequest } | undefined>(2)?.req;
  if (request === undefined)
    throw new Error(
      'nestjs-single-session finds no request in the GraphQL context. Write GraphQLModule.forRoot({ context: ({ req }) => ({ req }) }), on Fastify context: (req, reply) => ({ req, reply }).',
    );
  return request;
}

// What names no type is HTTP to Nest, such as a handler that a library calls through it, with whatever argument.
function asRequest(argument: unknown): SessionRequest | undefined {
  const headers = (argument as Partial<SessionRequest> | null | undefined)?.headers;
  return typeof headers === 'object' && headers !== null ? (argument as SessionRequest) : undefined;
}

/** The response to a request, of which a GraphQL context knows through the request, or on Fastify by a `reply`. */
export function responseOf(context: ExecutionContext, request: SessionRequest): SessionResponse | undefined {
  const type = context.getType<string>();
  if (type === 'http') return context.getArgByIndex<SessionResponse>(1);
  const reply =
    type === 'graphql' ? context.getArgByIndex<{ reply?: Reply } | undefined>(2)?.reply : undefined;
  return reply ?? request.res ?? undefined;
}

const MAY_BE_ABSENT = 'nestjs-single-session:may-be-absent';

/** Marks a route that the administrators' page asks every few seconds: its requests may say that nobody is at the page. */
export const MayBeAbsent = (): MethodDecorator => SetMetadata(MAY_BE_ABSENT, true);

/** Whether a page made the request on its own: it is checked like any, and does not postpone the idle timeout. */
export const isAbsent = (context: ExecutionContext, { headers }: Partial<SessionRequest>): boolean =>
  headers?.['x-single-session'] === 'absent' &&
  Reflect.getMetadata(MAY_BE_ABSENT, context.getHandler()) === true;

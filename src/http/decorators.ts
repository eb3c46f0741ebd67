import {
  applyDecorators,
  createParamDecorator,
  SetMetadata,
  UseInterceptors,
  type ExecutionContext,
} from '@nestjs/common';
import { PARAMTYPES_METADATA } from '@nestjs/common/constants.js';
import type { CurrentSession as Current } from '../session/session.js';
import { SingleSessionLoginInterceptor } from './login.interceptor.js';
import { SingleSessionLogoutInterceptor } from './logout.interceptor.js';
import { requestOf } from './execution-context.js';
import { NeverCached } from './never-cached.js';
import { currentSessionOf } from './request-state.js';
import { ROUTE, type Credential, type Route } from './route.js';

/**
 * Marks a route as a login: after its guards have authenticated `request.user` and before its handler, the login is
 * admitted. If anything after that fails, the session is ended again.
 *
 * `credential` says what carries the session: `'cookie'` (the one of express-session or @fastify/session in the request) or `'token'` (a JWT into
 * which the handler signs the `id` of {@link CurrentSession} as `sid`). Default: `'cookie'` where the request has a
 * cookie session, else `'token'`; so an application with both says `'token'` on its token route.
 */
export const SingleSessionLogin = (options: { credential?: Credential } = {}): MethodDecorator =>
  onMethod(
    'SingleSessionLogin',
    SetMetadata(ROUTE, { kind: 'login', ...options } satisfies Route),
    NeverCached(),
    UseInterceptors(SingleSessionLoginInterceptor),
  );

/** Marks a route as a logout: the session of the request is ended before the handler runs, and its cookie session destroyed after. Ended, unknown and anonymous callers reach the handler too. */
export const SingleSessionLogout = (): MethodDecorator =>
  onMethod(
    'SingleSessionLogout',
    SetMetadata(ROUTE, { kind: 'logout' } satisfies Route),
    NeverCached(),
    UseInterceptors(SingleSessionLogoutInterceptor),
  );

/** Lets every request of a route or controller pass without a check. */
export const SkipSingleSession = (): MethodDecorator & ClassDecorator =>
  SetMetadata(ROUTE, { kind: 'skipped' } satisfies Route);

/** What `@CurrentSession()` gives: `{ id, userId }`. */
// An interface of its own beside the function: a compiler that writes declarations finds no exported name for an alias.
export interface CurrentSession extends Current {}

const currentSession: () => ParameterDecorator = createParamDecorator(
  (_: unknown, context: ExecutionContext): Current | undefined => {
    const request = requestOf(context);
    return request && currentSessionOf(request);
  },
);

/** The session of the request, `{ id, userId }`; `undefined` for an anonymous one and on a route that is skipped. */
export const CurrentSession = (): ParameterDecorator => (target, key, index) => {
  currentSession()(target, key, index);
  // A compiler that does not know types (SWC, `isolatedModules`) takes this function for the class of the parameter, and
  // a ValidationPipe with `validateCustomDecorators` would try to make one.
  const types = Reflect.getMetadata(PARAMTYPES_METADATA, target, key!) as unknown[] | undefined;
  if (types?.[index] === CurrentSession) types[index] = Object;
};

// On a class it would take every route of the controller out of the guard.
function onMethod(name: string, ...decorators: MethodDecorator[]): MethodDecorator {
  return (target, key, descriptor) => {
    if ((descriptor as unknown) === undefined)
      throw new Error(
        `@${name}() belongs on the method that signs in or out, not on the class ${(target as Function).name}.`,
      );
    applyDecorators(...decorators)(target, key, descriptor);
  };
}

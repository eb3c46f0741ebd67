import {
  Inject,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { catchError, from, mergeMap, tap, throwError, type Observable } from 'rxjs';
import { Logins } from './logins.js';
import { requestOf, responseOf, type SessionResponse } from './request.js';
import { routeOf } from './route.js';

// What Nest's @Redirect() and @HttpCode() write.
const REDIRECT = '__redirect__';
const HTTP_CODE = '__httpCode__';
const FIRST_REDIRECT = 300;

/** Admits the login of a route after its guards and before its handler. Applied by `@SingleSessionLogin()`. */
@Injectable()
export class SingleSessionLoginInterceptor implements NestInterceptor {
  constructor(@Inject(Logins) private readonly logins: Logins) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const request = requestOf(context);
    if (!request?.user)
      throw new Error(
        `@SingleSessionLogin() on ${context.getClass().name}.${context.getHandler().name} found no request.user. ` +
          'Put a guard on the route that authenticates, such as @UseGuards(LocalAuthGuard); or call SingleSessionService.admit(user, request) where your code knows the user.',
      );
    const response = responseOf(context, request);
    const login = await this.logins.admit(request.user, request, { ...routeOf(context), response });
    return next.handle().pipe(
      tap(() => login.handled(redirects(context, response))),
      catchError((error: unknown) => from(login.takeBack()).pipe(mergeMap(() => throwError(() => error)))),
    );
  }
}

// By decorator, by @Res({ passthrough: true }), or because the handler has answered already.
function redirects(context: ExecutionContext, response: SessionResponse | undefined): boolean {
  const handler = context.getHandler();
  const decorated =
    Reflect.hasMetadata(REDIRECT, handler) || Reflect.getMetadata(HTTP_CODE, handler) >= FIRST_REDIRECT;
  return decorated || response === undefined || response.headersSent || response.statusCode >= FIRST_REDIRECT;
}

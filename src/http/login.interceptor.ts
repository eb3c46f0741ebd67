import {
  BadRequestException,
  Inject,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { catchError, from, mergeMap, of, throwError, type Observable } from 'rxjs';
import { Logins } from './logins.js';
import { requestOf, responseOf } from './execution-context.js';
import { knownStateOf } from './request-state.js';
import { routeOf } from './route.js';

const ALONE = 'A login must not come in a batch with other operations.';

// They share `request.user`: another may have put somebody there whom the guards of this one have not seen.
const isOneOfMany = (body: unknown, context: ExecutionContext): boolean =>
  context.getType<string>() === 'graphql' && Array.isArray(body) && body.length > 1;

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
    if (isOneOfMany(request.body, context)) throw new BadRequestException(ALONE);
    const response = responseOf(context, request);
    const login = await this.logins.admit(request.user, request, { ...routeOf(context), response });
    // Its client is gone, and with it the session that the handler would use.
    if (knownStateOf(request)?.login === undefined) return of(undefined);
    return next
      .handle()
      .pipe(
        catchError((error: unknown) => from(login.takeBack()).pipe(mergeMap(() => throwError(() => error)))),
      );
  }
}

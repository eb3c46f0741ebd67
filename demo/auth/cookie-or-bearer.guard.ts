import { type ExecutionContext, Injectable, UnauthorizedException } from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import type { Request } from 'express';

/** Takes the user of the bearer token where there is one, else the user of the cookie session. */
@Injectable()
export class CookieOrBearerGuard extends AuthGuard('jwt') {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<Request>();
    if (request.headers.authorization !== undefined) await super.canActivate(context);
    else if (!request.user) throw new UnauthorizedException();
    return true;
  }
}

/**
 * For the logout: takes whatever the client has left, also a refresh token when its access token has expired, and lets
 * everybody else pass without a user.
 */
@Injectable()
export class AnyCredentialGuard extends AuthGuard(['jwt', 'refresh']) {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    try {
      await super.canActivate(context);
    } catch (error) {
      if (!(error instanceof UnauthorizedException)) throw error;
    }
    return true;
  }
}

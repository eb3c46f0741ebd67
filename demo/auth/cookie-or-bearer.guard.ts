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

/** The same for a route that must answer everybody, with or without a user. */
@Injectable()
export class OptionalAuthGuard extends CookieOrBearerGuard {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    try {
      return await super.canActivate(context);
    } catch (error) {
      if (error instanceof UnauthorizedException) return true;
      throw error;
    }
  }
}

import { type ExecutionContext, Injectable } from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import type { Request } from 'express';

/** Checks the password, for a login that answers with a token. */
@Injectable()
export class PasswordGuard extends AuthGuard('local') {}

/** Checks the password and opens a cookie session, whose id Passport makes new. */
@Injectable()
export class LocalAuthGuard extends PasswordGuard {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    await super.canActivate(context);
    await super.logIn(context.switchToHttp().getRequest<Request>());
    return true;
  }
}

import { Controller, Get, HttpCode, Post, Req, UseGuards } from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import type { Request } from 'express';
import {
  CurrentSession,
  SingleSessionLogin,
  SingleSessionLogout,
  SkipSingleSession,
} from 'nestjs-single-session';
import type { User } from '../users.js';
import { AnyCredentialGuard, CookieOrBearerGuard } from './cookie-or-bearer.guard.js';
import type { TokenUser } from './jwt.strategy.js';
import { LocalAuthGuard, PasswordGuard } from './local-auth.guard.js';
import { type TokenPair, Tokens } from './tokens.js';

/** A request that a guard of this folder has let pass. */
interface AuthenticatedRequest extends Request {
  user: User | TokenUser;
}

/** What the demo tells a client about itself. */
interface Me {
  user: User;
  session: { id: string | undefined };
}

/** Sign in, sign out, and a page of one's own: what every application has. */
@Controller()
export class AuthController {
  constructor(private readonly tokens: Tokens) {}

  @Post('login')
  @HttpCode(200)
  @UseGuards(LocalAuthGuard)
  @SingleSessionLogin()
  login(@Req() request: AuthenticatedRequest, @CurrentSession() session: CurrentSession): Me {
    return me(request.user, session.id);
  }

  @Post('token')
  @HttpCode(200)
  @UseGuards(PasswordGuard)
  @SingleSessionLogin({ credential: 'token' })
  token(@Req() request: AuthenticatedRequest, @CurrentSession() session: CurrentSession): Promise<TokenPair> {
    return this.tokens.issue(request.user.id, session.id);
  }

  /** No login: the guard checks the session as on every route, and the new tokens belong to that same session. */
  @Post('token/refresh')
  @HttpCode(200)
  @UseGuards(AuthGuard('refresh'))
  refresh(
    @Req() request: AuthenticatedRequest,
    @CurrentSession() session: CurrentSession,
  ): Promise<TokenPair> {
    return this.tokens.issue(request.user.id, session.id);
  }

  @Get('me')
  @UseGuards(CookieOrBearerGuard)
  me(@Req() request: AuthenticatedRequest, @CurrentSession() session: CurrentSession): Me {
    return me(request.user, session.id);
  }

  /** The same answer without the package's guard: the yardstick for what the guard costs. */
  @Get('me-unguarded')
  @SkipSingleSession()
  @UseGuards(CookieOrBearerGuard)
  meUnguarded(@Req() request: AuthenticatedRequest): Me {
    const { user } = request;
    return me(user, 'sid' in user ? user.sid : request.session.singleSession);
  }

  @Post('logout')
  @HttpCode(204)
  @UseGuards(AnyCredentialGuard)
  @SingleSessionLogout()
  logout(): void {
    // The decorator does it all.
  }
}

function me({ id, username, roles }: User, sessionId: string | undefined): Me {
  return { user: { id, username, roles }, session: { id: sessionId } };
}

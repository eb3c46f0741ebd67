import {
  Controller,
  Delete,
  Get,
  HttpCode,
  Inject,
  NotFoundException,
  Param,
  Post,
  Req,
  UnauthorizedException,
  UseGuards,
  UseInterceptors,
  VERSION_NEUTRAL,
  type Type,
} from '@nestjs/common';
import { knownStateOf, type SessionRequest } from '../http/request.js';
import { SingleSessionGuard } from '../http/single-session.guard.js';
import { Administration } from '../session/administration.js';
import type { ListedSession } from '../session/administration-store.js';
import { Policy } from '../session/policy.js';
import { Sessions } from '../session/sessions.js';
import type { CurrentSession } from '../session/session.js';
import type { ControllerSettings } from './admin.controller.js';
import { AnswersInterceptor } from './answers.interceptor.js';
import { applicationGuards } from './application-guards.js';
import { SameOriginGuard } from './same-origin.guard.js';

const MOST_SHOWN = 200;

type OwnSession = Pick<
  ListedSession,
  'id' | 'createdAt' | 'lastSeenAt' | 'expiresAt' | 'ip' | 'userAgent'
> & { current: boolean };

/** A user's own sessions at a path: see them, end one, end all others. */
export function selfServiceController({ path, guards }: ControllerSettings): Type {
  @Controller({ path, version: VERSION_NEUTRAL })
  @UseGuards(applicationGuards(guards), SingleSessionGuard, SameOriginGuard)
  @UseInterceptors(AnswersInterceptor)
  class SingleSessionSelfServiceController {
    constructor(
      @Inject(Administration) private readonly administration: Administration,
      @Inject(Sessions) private readonly sessions: Sessions,
      @Inject(Policy) private readonly policy: Policy,
    ) {}

    @Get()
    async list(@Req() request: SessionRequest): Promise<{ items: OwnSession[] }> {
      const { id: currentId, userId } = currentOf(request);
      const { items } = await this.administration.list({ userId, state: 'active', limit: MOST_SHOWN });
      return { items: items.map((session) => own(session, currentId)) };
    }

    @Post('logout-others')
    @HttpCode(200)
    async logoutOthers(@Req() request: SessionRequest): Promise<{ ended: number }> {
      const { id, userId } = currentOf(request);
      const target = { scope: 'others', sessionId: id, userId } as const;
      const by = this.policy.identityOf(request.user).username;
      const ended = await this.sessions.end({ target, reason: 'logout-everywhere', by }, request.user);
      return { ended: ended.length };
    }

    @Delete(':id')
    async end(@Req() request: SessionRequest, @Param('id') id: string): Promise<{ ended: number }> {
      const { userId } = currentOf(request);
      const target = { scope: 'session', sessionId: id, userId } as const;
      const by = this.policy.identityOf(request.user).username;
      const ended = await this.sessions.end({ target, reason: 'logout', by }, request.user);
      if (ended.length === 0 && !(await this.isOwn(id, userId))) throw new NotFoundException();
      return { ended: ended.length };
    }

    private async isOwn(id: string, userId: string): Promise<boolean> {
      const limit = await this.sessions.limitAtCheck(undefined);
      return (await this.sessions.verify({ id, limit })).userId === userId;
    }
  }
  return SingleSessionSelfServiceController;
}

function currentOf(request: SessionRequest): CurrentSession {
  const current = knownStateOf(request)?.current;
  if (!request.user || current === undefined) throw new UnauthorizedException();
  return current;
}

const own = (session: ListedSession, currentId: string): OwnSession => {
  const { id, createdAt, lastSeenAt, expiresAt, ip, userAgent } = session;
  return { id, createdAt, lastSeenAt, expiresAt, ip, userAgent, current: id === currentId };
};

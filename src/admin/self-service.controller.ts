import {
  Delete,
  Get,
  HttpCode,
  Inject,
  type MessageEvent,
  NotFoundException,
  Param,
  Post,
  Req,
  SetMetadata,
  Sse,
  type Type,
} from '@nestjs/common';
import { map, takeUntil, timer, type Observable } from 'rxjs';
import type { SessionRequest } from '../http/request.js';
import { END_EVENT } from '../http/stream-end.js';
import { Administration } from '../session/administration.js';
import type { ListedSession } from '../session/administration-store.js';
import { Policy } from '../session/policy.js';
import { Sessions } from '../session/sessions.js';
import { Watches } from '../session/watches.js';
import { Mounted, type ControllerSettings } from './mounted.js';
import { OwnSessionGuard, ownSessionOf } from './own-session.guard.js';
import { SameOriginGuard } from './same-origin.guard.js';

const MOST_SHOWN = 200;
// Proxies close what is silent for a minute, some for half of one.
const HEARTBEAT_MS = 20_000;

type OwnSession = Pick<
  ListedSession,
  'id' | 'createdAt' | 'lastSeenAt' | 'expiresAt' | 'ip' | 'userAgent'
> & { current: boolean };

/** A user's own sessions at a path: see them, end one, end all others, be told when the present one ends. */
export function selfServiceController(settings: ControllerSettings): Type {
  @Mounted(settings, SameOriginGuard, OwnSessionGuard)
  class SingleSessionSelfServiceController {
    constructor(
      @Inject(Administration) private readonly administration: Administration,
      @Inject(Sessions) private readonly sessions: Sessions,
      @Inject(Policy) private readonly policy: Policy,
      @Inject(Watches) private readonly watches: Watches,
    ) {}

    @Get()
    async list(@Req() request: SessionRequest): Promise<{ items: OwnSession[] }> {
      const { id: currentId, userId } = ownSessionOf(request);
      const { items } = await this.administration.list({ userId, state: 'active', limit: MOST_SHOWN });
      return { items: items.map((session) => own(session, currentId)) };
    }

    /** Nothing but a heartbeat, until the session ends. */
    @Sse('events')
    @SetMetadata(END_EVENT, 'ended')
    events(): Observable<MessageEvent> {
      return heartbeat.pipe(takeUntil(this.watches.closed));
    }

    @Post('logout-others')
    @HttpCode(200)
    async logoutOthers(@Req() request: SessionRequest): Promise<{ ended: number }> {
      const { id, userId } = ownSessionOf(request);
      const target = { scope: 'others', sessionId: id, userId } as const;
      const by = this.policy.identityOf(request.user).username;
      const ended = await this.sessions.end({ target, reason: 'logout-everywhere', by }, request.user);
      return { ended: ended.length };
    }

    @Delete(':id')
    async end(@Req() request: SessionRequest, @Param('id') id: string): Promise<{ ended: number }> {
      const { userId } = ownSessionOf(request);
      const target = { scope: 'session', sessionId: id, userId } as const;
      const by = this.policy.identityOf(request.user).username;
      const ended = await this.sessions.end({ target, reason: 'logout', by }, request.user);
      if (ended.length === 0 && !(await this.isOwn(id, userId))) throw new NotFoundException();
      return { ended: ended.length };
    }

    private async isOwn(id: string, userId: string): Promise<boolean> {
      const limit = await this.policy.limitAtCheck(undefined);
      // To ask is not to use: it must not keep somebody else's session from becoming idle.
      return (await this.sessions.look({ id, limit })).userId === userId;
    }
  }
  return SingleSessionSelfServiceController;
}

const own = (session: ListedSession, currentId: string): OwnSession => {
  const { id, createdAt, lastSeenAt, expiresAt, ip, userAgent } = session;
  return { id, createdAt, lastSeenAt, expiresAt, ip, userAgent, current: id === currentId };
};

/** A comment at once, which says that the watch has begun, and then every so often. */
const heartbeat = timer(0, HEARTBEAT_MS).pipe(map((): MessageEvent => ({ comment: '' })));

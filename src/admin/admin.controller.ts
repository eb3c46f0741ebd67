import {
  BadRequestException,
  Body,
  ConflictException,
  Delete,
  Get,
  HttpCode,
  Inject,
  NotFoundException,
  Param,
  Post,
  Put,
  Query,
  Req,
  UseGuards,
  type Type,
} from '@nestjs/common';
import { MayBeAbsent } from '../http/execution-context.js';
import type { SessionRequest } from '../http/request.js';
import { currentSessionOf } from '../http/request-state.js';
import { Administration, type LogoutEveryoneResult, type LogoutResult } from '../session/administration.js';
import type { ListedSession, Page, RecordedAction, Summary } from '../session/administration-store.js';
import { Explainer, type Explanation } from '../session/explainer.js';
import { RunTimeExemptions, type ListedExemption } from '../session/exemptions.js';
import {
  ExemptionBody,
  ExemptionQuery,
  LogoutBody,
  LogoutEveryoneBody,
  MOST_USERS,
  PageQuery,
  PolicyQuery,
  SessionsQuery,
} from './dto.js';
import { Mounted, type ControllerSettings } from './mounted.js';
import { OrderInBodyGuard } from './order-in-body.guard.js';
import { actorOf, PermissionGuard } from './permission.guard.js';
import { SameOriginGuard } from './same-origin.guard.js';
import { validated } from './validated.js';

type Request = SessionRequest;
type Shown = ListedSession & { current: boolean };

/** The admin REST API at a path, behind the application's guards. */
export function adminController(settings: ControllerSettings): Type {
  @Mounted(settings, PermissionGuard, SameOriginGuard)
  class SingleSessionAdminController {
    constructor(
      @Inject(Administration) private readonly administration: Administration,
      @Inject(RunTimeExemptions) private readonly runTimeExemptions: RunTimeExemptions,
      @Inject(Explainer) private readonly explainer: Explainer,
    ) {}

    @Get()
    @MayBeAbsent()
    async list(
      @Req() request: Request,
      @Query(validated(SessionsQuery)) query: unknown,
    ): Promise<Page<Shown>> {
      const { items, nextCursor } = await this.administration.list(query as SessionsQuery);
      return { items: items.map(marking(request)), nextCursor };
    }

    @Get('summary')
    @MayBeAbsent()
    summary(): Promise<Summary> {
      return this.administration.summary();
    }

    @Post('logout')
    @UseGuards(OrderInBodyGuard)
    @HttpCode(200)
    async logout(
      @Req() request: Request,
      @Body(validated(LogoutBody)) given: unknown,
    ): Promise<LogoutResult> {
      const order = given as LogoutBody;
      const count = (order.userIds?.length ?? 0) + (order.usernames?.length ?? 0);
      if (count < 1 || count > MOST_USERS)
        throw new BadRequestException([`userIds and usernames must hold 1 to ${MOST_USERS} users in all`]);
      return this.administration.logout(order, actorOf(request));
    }

    @Post('logout-everyone')
    @UseGuards(OrderInBodyGuard)
    @HttpCode(200)
    logoutEveryone(
      @Req() request: Request,
      @Body(validated(LogoutEveryoneBody)) order: unknown,
    ): Promise<LogoutEveryoneResult> {
      return this.administration.logoutEveryone(order as LogoutEveryoneBody, actorOf(request));
    }

    @Get('policy')
    explain(@Query(validated(PolicyQuery)) query: unknown): Promise<Explanation> {
      return this.explainer.explainUsername((query as PolicyQuery).username);
    }

    @Get('exemptions')
    @MayBeAbsent()
    async exemptions(): Promise<{ items: ListedExemption[] }> {
      return { items: await this.runTimeExemptions.list() };
    }

    @Put('exemptions')
    addExemption(
      @Req() request: Request,
      @Body(validated(ExemptionBody)) given: unknown,
    ): Promise<ListedExemption> {
      const { kind, value, note, expiresAt } = given as ExemptionBody;
      const expiry = expiresAt === undefined ? null : new Date(expiresAt);
      if (expiry !== null && !(expiry.getTime() > Date.now()))
        throw new BadRequestException(['expiresAt must be in the future']);
      return this.runTimeExemptions.add({ kind, value, note, expiresAt: expiry }, actorOf(request));
    }

    @Delete('exemptions')
    async removeExemption(
      @Req() request: Request,
      @Query(validated(ExemptionQuery)) query: unknown,
    ): Promise<ExemptionQuery> {
      const { kind, value } = query as ExemptionQuery;
      if (await this.runTimeExemptions.remove({ kind, value }, actorOf(request))) return { kind, value };
      if (!this.runTimeExemptions.isFixed({ kind, value })) throw new NotFoundException();
      throw new ConflictException(
        `This exemption is in the options of the application. Remove it there: forRoot({ exempt: { ${kind}s: [...] } }).`,
      );
    }

    @Get('actions')
    @MayBeAbsent()
    actions(@Query(validated(PageQuery)) query: unknown): Promise<Page<RecordedAction>> {
      return this.administration.actions(query as PageQuery);
    }

    @Delete(':id')
    @UseGuards(OrderInBodyGuard)
    async endSession(
      @Req() request: Request,
      @Param('id') id: string,
    ): Promise<Pick<LogoutResult, 'ended' | 'skipped'>> {
      const result = await this.administration.endSession(id, actorOf(request));
      if (result === undefined) throw new NotFoundException();
      return result;
    }
  }
  return SingleSessionAdminController;
}

const marking = (request: Request): ((session: ListedSession) => Shown) => {
  const current = currentSessionOf(request)?.id;
  return (session) => ({ ...session, current: session.id === current });
};

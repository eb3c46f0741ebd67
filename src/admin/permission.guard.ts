import {
  ForbiddenException,
  Inject,
  Injectable,
  type CanActivate,
  type ExecutionContext,
} from '@nestjs/common';
import { originOf } from '../http/origin.js';
import { requestOf } from '../http/execution-context.js';
import type { SessionRequest } from '../http/request.js';
import type { Actor } from '../session/actor.js';
import { ThrottledLogger } from '../session/throttled-logger.js';
import { Permissions } from '../session/permissions.js';
import { Policy } from '../session/policy.js';
import { refuseNobody } from './refuse-nobody.js';

const actors = new WeakMap<SessionRequest, Actor>();

/** The administrator who makes the request. */
export const actorOf = (request: object): Actor => actors.get(request as SessionRequest)!;

/** Lets administrators pass, judged from the user of this very request: a role that is lost is lost at once. */
@Injectable()
export class PermissionGuard implements CanActivate {
  private readonly hints = new ThrottledLogger();

  constructor(
    @Inject(Permissions) private readonly permissions: Permissions,
    @Inject(Policy) private readonly policy: Policy,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = requestOf(context);
    if (!request?.user) return refuseNobody(request, 'admin', this.hints);
    const { id, username, roles } = this.policy.identityOf(request.user);
    const permission = await this.permissions.of(request.user, roles);
    if (!permission.logout) throw new ForbiddenException();
    actors.set(request, { userId: id, username, ip: originOf(request).ip, permission });
    return true;
  }
}

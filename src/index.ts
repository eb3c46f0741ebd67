export {
  CurrentSession,
  SingleSessionLogin,
  SingleSessionLogout,
  SkipSingleSession,
} from './http/decorators.js';
export {
  SessionEndedException,
  SessionLimitReachedException,
  SessionStoreUnavailableException,
  SessionUnknownException,
} from './http/exceptions.js';
export { SingleSessionLoginInterceptor } from './http/login.interceptor.js';
export { SingleSessionLogoutInterceptor } from './http/logout.interceptor.js';
export type { SessionRequest } from './http/request.js';
export type { Credential } from './http/route.js';
export { SingleSessionGuard } from './http/single-session.guard.js';
export { SingleSessionService, type EndOptions } from './http/single-session.service.js';
export type { LogoutEveryoneOrder, LogoutEveryoneResult } from './session/administration.js';
export type { ListedSession, ListQuery, Page } from './session/administration-store.js';
export type { StormSettings } from './session/announcing-store.js';
export {
  SingleSessionEvents,
  type AdmittedEvent,
  type CutOffEvent,
  type EndedEvent,
  type ExemptionChangedEvent,
  type Initiator,
  type LimitReachedEvent,
  type SingleSessionEvent,
  type Spared,
  type StormEvent,
} from './session/events.js';
export type { Explanation } from './session/explainer.js';
export type { FreshnessSettings } from './session/freshness.js';
export type { Identity, IdentityLike, OfUser } from './session/identity.js';
export type { PermissionFunction } from './session/permissions.js';
export type { Exemptions } from './session/policy.js';
export type { EndReason, SessionEnd, Verdict } from './session/session.js';
export { SingleSessionModule } from './single-session.module.js';
export type { SingleSessionAsyncOptions } from './single-session.module-definition.js';
export type { AdminOptions, SelfServiceOptions, SingleSessionModuleExtras } from './single-session.extras.js';
export type { SingleSessionOptions } from './single-session.options.js';
export { singleSessionEntities } from './typeorm/entities.js';
export { UserSession } from './typeorm/user-session.entity.js';
export { UserSessionAction } from './typeorm/user-session-action.entity.js';
export { UserSessionCutoff } from './typeorm/user-session-cutoff.entity.js';
export { UserSessionExemption } from './typeorm/user-session-exemption.entity.js';
export { UserSessionSlots } from './typeorm/user-session-slots.entity.js';

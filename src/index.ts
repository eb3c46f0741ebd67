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
export { SingleSessionGuard } from './http/single-session.guard.js';
export { SingleSessionService, type EndOptions } from './http/single-session.service.js';
export type { Identity, IdentityLike } from './session/identity.js';
export type { EndReason, Verdict } from './session/session.js';
export { SingleSessionModule } from './single-session.module.js';
export type { SingleSessionAsyncOptions } from './single-session.module-definition.js';
export type { SingleSessionModuleExtras, SingleSessionOptions } from './single-session.options.js';
export { singleSessionEntities } from './typeorm/check-schema.js';
export { UserSession } from './typeorm/user-session.entity.js';
export { UserSessionSlots } from './typeorm/user-session-slots.entity.js';

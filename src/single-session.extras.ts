import type { CanActivate, Type } from '@nestjs/common';
import type { ControllerSettings } from './admin/mounted.js';
import {
  isPlainObject,
  readBoolean,
  readFunction,
  readStrings,
  refuseUnknownKeys,
  wrong,
} from './option-readers.js';
import type { PermissionFunction, PermissionSettings } from './session/permissions.js';

/** Who may administer sessions, and where. Whoever has one of the permissions counts as an administrator. */
export interface AdminOptions {
  /** Users with one of these roles may log out people who are not administrators. */
  roles?: readonly string[];
  /** Users with one of these roles may log out anyone. */
  superRoles?: readonly string[];
  /** In place of `roles`, or beside them: exactly true or false for the authenticated user of the request. */
  logout?: PermissionFunction;
  /** In place of `superRoles`, or beside them. */
  logoutAdmins?: PermissionFunction;
  /** Default `'admin/sessions'`. */
  path?: string;
  /** Your own guards, asked first: what authenticates, such as `AuthGuard('jwt')`. A guard with dependencies must be a provider of one of your modules. */
  guards?: readonly (Type<CanActivate> | CanActivate)[];
  /** Whether the page at `<path>/ui` is served. Default `true`. */
  page?: boolean;
}

/** Where users see their own sessions. */
export interface SelfServiceOptions {
  /** Default `'sessions/mine'`. */
  path?: string;
  /** As in {@link AdminOptions}. */
  guards?: AdminOptions['guards'];
}

/** What shapes the module itself, and so is known before any factory runs. */
export interface SingleSessionModuleExtras {
  /** Mounts the admin REST API and its page for users with a permission. Default: not mounted. */
  admin?: AdminOptions;
  /** Mounts a user's own sessions. Default `false`. */
  selfService?: boolean | SelfServiceOptions;
  /** The name of the TypeORM data source. Default: the default one. */
  dataSource?: string;
  /** Whether the service can be injected everywhere without an import. Default `true`. */
  isGlobal?: boolean;
  /** Whether every route is guarded. `false`: write `@UseGuards(SingleSessionGuard)` where you want it, after the guard that authenticates. Default `true`. */
  enforceGlobally?: boolean;
}

/** What shapes the module, checked, with the defaults. */
export interface ResolvedExtras {
  dataSource: string | undefined;
  isGlobal: boolean;
  enforceGlobally: boolean;
  /** `undefined`: not mounted. */
  admin: ResolvedAdmin | undefined;
  selfService: ControllerSettings | undefined;
}

interface ResolvedAdmin extends ControllerSettings {
  page: boolean;
  permissions: PermissionSettings;
  /** Whether it names anybody; where it does not, nothing is mounted. */
  isMounted: boolean;
}

/** The routes of GET under each of the two paths. Where none is in both, no route of another method is. */
const ADMIN_READS = [
  '',
  '/summary',
  '/policy',
  '/exemptions',
  '/actions',
  '/ui',
  '/ui/app.js',
  '/ui/app.css',
];
const OWN_READS = ['', '/events'];
const PATH = /^[\w.~-]+(\/[\w.~-]+)*$/;
/** The defaults of what shapes the module, and all of its names. */
export const DEFAULT_EXTRAS = {
  dataSource: undefined,
  isGlobal: true,
  enforceGlobally: true,
  admin: undefined,
  selfService: false,
} satisfies Record<keyof SingleSessionModuleExtras, unknown>;

/** The names of what shapes the module. */
export const EXTRAS: readonly string[] = Object.keys(DEFAULT_EXTRAS);

/** @throws Error for what is no factory, and for what stands beside one and does not belong there */
export function checkAsyncOptions(given: object): void {
  if (!isPlainObject(given) || !hasFactory(given))
    throw new Error(
      'SingleSessionModule.forRootAsync() was given nothing that makes the options: no useFactory, useClass or useExisting. ' +
        'Write forRootAsync({ inject: [ConfigService], useFactory: (config: ConfigService) => ({ maxSessions: 1 }) }), or forRoot({ maxSessions: 1 }).',
    );
  const known = [
    'imports',
    'inject',
    'useFactory',
    'useClass',
    'useExisting',
    'provideInjectionTokensFrom',
    ...EXTRAS,
  ];
  const unknown = Object.keys(given).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  throw new Error(
    `SingleSessionModule.forRootAsync(): "${unknown}" does not belong beside useFactory. Return it from the factory: useFactory: () => ({ ${unknown}: ... }). Beside it: ${known.join(', ')}.`,
  );
}

const hasFactory = ({ useFactory, useClass, useExisting }: Record<string, unknown>): boolean =>
  typeof useFactory === 'function' ||
  typeof useClass === 'function' ||
  (useExisting !== undefined && useExisting !== null);

/**
 * Checks what shapes the module and adds the defaults.
 * @throws Error that says what to write instead
 */
export function resolveExtras(given: SingleSessionModuleExtras): ResolvedExtras {
  const {
    dataSource,
    isGlobal = DEFAULT_EXTRAS.isGlobal,
    enforceGlobally = DEFAULT_EXTRAS.enforceGlobally,
    admin,
    selfService = DEFAULT_EXTRAS.selfService,
  } = given;
  if (dataSource !== undefined && (typeof dataSource !== 'string' || dataSource === ''))
    throw wrong('dataSource', 'the name of a TypeORM data source, such as "sessions"', dataSource);
  const extras = {
    dataSource,
    isGlobal: readBoolean(isGlobal, 'isGlobal'),
    enforceGlobally: readBoolean(enforceGlobally, 'enforceGlobally'),
    admin: admin === undefined ? undefined : readAdmin(admin),
    selfService: readSelfService(selfService),
  };
  refuseSharedRoutes(extras);
  return extras;
}

/** The first of two controllers would answer for both, in silence. Express takes one case for the other. */
function refuseSharedRoutes({ admin, selfService }: ResolvedExtras): void {
  if (!admin?.isMounted || selfService === undefined) return;
  const own = OWN_READS.map((route) => (selfService.path + route).toLowerCase());
  const shared = ADMIN_READS.map((route) => (admin.path + route).toLowerCase()).find((route) =>
    own.includes(route),
  );
  if (shared === undefined) return;
  throw new Error(
    `SingleSessionModule: admin.path (${admin.path}) and selfService.path (${selfService.path}) both have the route GET /${shared}, so one of them would never be answered. ` +
      "Give each a path of its own: admin: { path: 'admin/sessions' }, selfService: { path: 'sessions/mine' }.",
  );
}

function readAdmin(value: unknown): ResolvedAdmin {
  if (!isPlainObject(value)) throw wrong('admin', "an object: { roles: ['admin'] }", value);
  const known = ['roles', 'superRoles', 'logout', 'logoutAdmins', 'path', 'guards', 'page'];
  refuseUnknownKeys(value, known, 'admin.');
  const { roles = [], superRoles = [], logout, logoutAdmins, page = true } = value;
  const permissions = {
    roles: readStrings(roles, 'admin.roles', 'admin'),
    superRoles: readStrings(superRoles, 'admin.superRoles', 'superadmin'),
    ...(logout !== undefined && { logout: readFunction(logout, 'admin.logout') as PermissionFunction }),
    ...(logoutAdmins !== undefined && {
      logoutAdmins: readFunction(logoutAdmins, 'admin.logoutAdmins') as PermissionFunction,
    }),
  };
  return {
    ...readMounted(value, 'admin', 'admin/sessions'),
    page: readBoolean(page, 'admin.page'),
    permissions,
    isMounted:
      permissions.roles.length + permissions.superRoles.length > 0 ||
      logout !== undefined ||
      logoutAdmins !== undefined,
  };
}

function readSelfService(value: unknown): ResolvedExtras['selfService'] {
  if (value === false) return undefined;
  if (value === true) return readMounted({}, 'selfService', 'sessions/mine');
  if (!isPlainObject(value)) throw wrong('selfService', "true, false, or { path: 'sessions/mine' }", value);
  refuseUnknownKeys(value, ['path', 'guards'], 'selfService.');
  return readMounted(value, 'selfService', 'sessions/mine');
}

function readMounted(
  { path, guards = [] }: Record<string, unknown>,
  key: string,
  defaultPath: string,
): ControllerSettings {
  if (path !== undefined && (typeof path !== 'string' || !PATH.test(path)))
    throw wrong(`${key}.path`, `a path without slashes around it: '${defaultPath}'`, path);
  if (!Array.isArray(guards) || !guards.every(isGuard))
    throw wrong(`${key}.guards`, "an array of guards: [AuthGuard('jwt')]", guards);
  return { path: path ?? defaultPath, guards: [...(guards as ControllerSettings['guards'])] };
}

const isGuard = (value: unknown): boolean =>
  typeof value === 'function' ||
  typeof (value as Partial<CanActivate> | null | undefined)?.canActivate === 'function';

import type { Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import {
  Body,
  Controller,
  Get,
  HttpCode,
  Injectable,
  Post,
  Req,
  UnauthorizedException,
  UseGuards,
  type ExecutionContext,
  type INestApplication,
  type ModuleMetadata,
  type Type,
} from '@nestjs/common';
import { JwtModule, JwtService } from '@nestjs/jwt';
import { AuthGuard, PassportModule, PassportSerializer, PassportStrategy } from '@nestjs/passport';
import { Test, type TestingModuleBuilder } from '@nestjs/testing';
import { TypeOrmModule, type TypeOrmModuleOptions } from '@nestjs/typeorm';
import { MemoryStore, type Store } from 'express-session';
import { ExtractJwt, Strategy as JwtStrategyBase } from 'passport-jwt';
import { Strategy as LocalStrategyBase } from 'passport-local';
import {
  SingleSessionLogin,
  SingleSessionLogout,
  SingleSessionModule,
  SkipSingleSession,
  CurrentSession,
} from '../../src/index.js';
import {
  createApplication,
  useCookieSessions,
  type CookieSessionOptions,
  type FastifyRouterSettings,
} from './platform.js';
import { singleSessionMigrations } from '../../migrations/index.js';
import type { SingleSessionModuleExtras } from '../../src/single-session.extras.js';
import type { SingleSessionOptions } from '../../src/single-session.options.js';

/** A user of the test application. The password is the username. */
export interface TestUser {
  id: number | string;
  username: string;
  roles: string[];
}

const JWT_SECRET = 'a secret for tests only';

/** The users by username; a test may add, change and remove some. `alice` and `bob` are there from the start. */
export class Users extends Map<string, TestUser> {
  constructor() {
    super([
      ['alice', { id: 1, username: 'alice', roles: ['user'] }],
      ['bob', { id: 2, username: 'bob', roles: ['user'] }],
      ['worker', { id: 3, username: 'worker', roles: ['service'] }],
    ]);
  }

  /** Who signs in with this password. */
  checked({ username, password }: { username: string; password: string }): TestUser {
    const user = password === username ? this.get(username) : undefined;
    if (user === undefined) throw new UnauthorizedException();
    return user;
  }
}

@Injectable()
class LocalStrategy extends PassportStrategy(LocalStrategyBase) {
  constructor(private readonly users: Users) {
    super();
  }
  validate(username: string, password: string): TestUser {
    return this.users.checked({ username, password });
  }
}

@Injectable()
class JwtStrategy extends PassportStrategy(JwtStrategyBase) {
  constructor() {
    super({ jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(), secretOrKey: JWT_SECRET });
  }
  validate({
    sub,
    username,
    roles,
    sid,
  }: {
    sub: string;
    username: string;
    roles: string[];
    sid: unknown;
  }): object {
    return { id: sub, username, roles, sid };
  }
}

@Injectable()
class Serializer extends PassportSerializer {
  constructor(private readonly users: Users) {
    super();
  }
  serializeUser(user: TestUser, done: (error: null, key: string) => void): void {
    done(null, user.username);
  }
  deserializeUser(username: string, done: (error: null, user: TestUser | false) => void): void {
    done(null, this.users.get(username) ?? false);
  }
}

@Injectable()
export class LocalGuard extends AuthGuard('local') {}

/** Logs in with a cookie session, as Nest's documentation shows. */
@Injectable()
export class LocalLoginGuard extends AuthGuard('local') {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    const passed = (await super.canActivate(context)) as boolean;
    await super.logIn(context.switchToHttp().getRequest());
    return passed;
  }
}

@Controller()
export class TestController {
  constructor(private readonly jwt: JwtService) {}

  @UseGuards(LocalLoginGuard)
  @SingleSessionLogin()
  @Post('login')
  @HttpCode(200)
  login(@Req() request: { user: TestUser }, @CurrentSession() current: CurrentSession): object {
    return { user: request.user, session: { id: current.id } };
  }

  @UseGuards(LocalGuard)
  @SingleSessionLogin({ credential: 'token' })
  @Post('token')
  @HttpCode(200)
  token(@Req() request: { user: TestUser }, @CurrentSession() current: CurrentSession): object {
    return { accessToken: this.sign(request.user, { sid: current.id }) };
  }

  @SingleSessionLogout()
  @Post('logout')
  @HttpCode(204)
  logout(): void {}

  @UseGuards(AuthGuard('jwt'))
  @SingleSessionLogout()
  @Post('token/logout')
  @HttpCode(204)
  tokenLogout(): void {}

  @Get('me')
  me(@Req() request: { user?: TestUser }, @CurrentSession() current?: CurrentSession): object {
    return { user: request.user ?? null, session: current ?? null };
  }

  /** Its guard sets the user after the global guards have run. */
  @UseGuards(AuthGuard('jwt'))
  @Get('token/me')
  tokenMe(@Req() request: { user: TestUser }, @CurrentSession() current: CurrentSession): object {
    return { user: request.user, session: current };
  }

  @SkipSingleSession()
  @Get('skipped')
  skipped(@Req() request: { user?: TestUser }): object {
    return { user: request.user ?? null };
  }

  @Post('echo')
  @HttpCode(200)
  echo(@Body() body: object): object {
    return body;
  }

  /** Signs whatever the test wants to be signed. */
  sign(user: TestUser, claims: object): string {
    return this.jwt.sign({ sub: String(user.id), username: user.username, roles: user.roles, ...claims });
  }
}

export interface TestApplicationSettings {
  /** Shared by the applications of one file, since they share Passport's serializers. Default: new ones. */
  users?: Users;
  options?: SingleSessionOptions & SingleSessionModuleExtras;
  /** In place of `SingleSessionModule.forRoot(options)`. */
  module?: NonNullable<ModuleMetadata['imports']>[number];
  typeorm?: Partial<TypeOrmModuleOptions> & Record<string, unknown>;
  imports?: NonNullable<ModuleMetadata['imports']>;
  controllers?: Type[];
  providers?: ModuleMetadata['providers'];
  /** `null`: no cookie sessions. */
  session?: CookieSessionOptions | null;
  /** `false`: no Passport serializer, as in an application with JWTs only. */
  serializer?: boolean;
  build?: (builder: TestingModuleBuilder) => TestingModuleBuilder;
  /** The address of a request is what a proxy says it is. */
  trustProxy?: boolean;
  /** What only Fastify's router has; Express is as lenient by itself. */
  fastifyRouter?: FastifyRouterSettings;
  /** Fastify without TLS, for clients that know it. */
  http2?: boolean;
  /** Before it initializes. */
  configure?: (app: INestApplication) => unknown;
}

export interface TestApplication {
  app: INestApplication;
  /** `http://127.0.0.1:port` */
  url: string;
  users: Users;
  /** Where the cookie sessions are kept. */
  cookieSessions: Store;
  sign(user: TestUser, claims: object): string;
  close(): Promise<void>;
}

/** A Nest application on the platform of the run with Passport, cookie sessions and JWTs, listening on a free port. Passport is one object per process: all applications of a file share its strategies. */
export async function startApplication(
  databaseUrl: string,
  settings: TestApplicationSettings = {},
): Promise<TestApplication> {
  const users = settings.users ?? new Users();
  const builder = Test.createTestingModule({
    imports: [
      TypeOrmModule.forRoot({
        type: 'postgres',
        url: databaseUrl,
        autoLoadEntities: true,
        migrations: singleSessionMigrations,
        migrationsRun: true,
        retryAttempts: 0,
        ...settings.typeorm,
      } as TypeOrmModuleOptions),
      PassportModule.register({ session: true }),
      JwtModule.register({ secret: JWT_SECRET, signOptions: { expiresIn: '10m' } }),
      settings.module ?? SingleSessionModule.forRoot(settings.options),
      ...(settings.imports ?? []),
    ],
    controllers: [TestController, ...(settings.controllers ?? [])],
    providers: [
      { provide: Users, useValue: users },
      LocalStrategy,
      JwtStrategy,
      ...(settings.serializer === false ? [] : [Serializer]),
      ...(settings.providers ?? []),
    ],
  });
  const module = await (settings.build?.(builder) ?? builder).compile();
  const app = await createApplication(module, {
    ...(!settings.build && { logger: false }),
    trustProxy: settings.trustProxy,
    fastifyRouter: settings.fastifyRouter,
    http2: settings.http2,
  });
  const cookieSessions = settings.session?.store ?? new MemoryStore();
  try {
    if (settings.session !== null)
      await useCookieSessions(app, { ...settings.session, store: cookieSessions });
    await settings.configure?.(app);
    await app.listen(0, '127.0.0.1');
  } catch (error) {
    await app.close().catch(() => undefined);
    throw error;
  }
  const { port } = app.getHttpServer().address() as AddressInfo;
  const controller = app.get(TestController);
  return {
    app,
    url: `http://127.0.0.1:${port}`,
    users,
    cookieSessions,
    sign: (user, claims) => controller.sign(user, claims),
    close: () => close(app),
  };
}

const PATIENCE_MS = 5_000;

/** A connection that a client has opened ahead of its next request is not idle to Node, and would hold the server open for a minute. */
async function close(app: INestApplication): Promise<void> {
  const server = app.getHttpServer() as Server;
  const impatience = setTimeout(() => server.closeAllConnections(), PATIENCE_MS);
  await app.close().finally(() => clearTimeout(impatience));
}

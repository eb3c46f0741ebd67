import type { INestApplication } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { TestingModule } from '@nestjs/testing';
import type { FastifyReply } from 'fastify';
import session, { type SessionOptions, type Store } from 'express-session';
import passport from 'passport';

export type Platform = 'express' | 'fastify';

/** What this run of a spec file is about: the projects of jest.config.mjs say it. */
export const platform: Platform =
  (globalThis as { PLATFORM?: Platform }).PLATFORM === 'fastify' ? 'fastify' : 'express';

const isFastify = platform === 'fastify';

/** Of its cookie sessions. */
export const FASTIFY_SECRET = 'a secret of thirty-two characters or more';

/** What Express's response and Fastify's reply have in common. */
export interface PlatformResponse {
  status(code: number): this;
  header(name: string, value: string): this;
  redirect(url: string): unknown;
  send(body?: unknown): unknown;
}

/** Node's own response. */
export const nodeResponseOf = (response: PlatformResponse): import('node:http').ServerResponse =>
  (isFastify ? (response as unknown as { raw: unknown }).raw : response) as never;

/** How lenient Fastify's router is about the path. */
export type FastifyRouterSettings = Partial<
  Record<
    'caseSensitive' | 'ignoreTrailingSlash' | 'ignoreDuplicateSlashes' | 'useSemicolonDelimiter',
    boolean
  >
>;

interface ApplicationSettings {
  logger?: false;
  trustProxy?: boolean | undefined;
  fastifyRouter?: FastifyRouterSettings | undefined;
  http2?: boolean | undefined;
}

const fastifyRoutes = new WeakMap<INestApplication, string[]>();

/** A Nest application on this platform. */
export async function createApplication(
  module: TestingModule,
  { trustProxy = false, fastifyRouter = {}, http2 = false, ...options }: ApplicationSettings = {},
): Promise<INestApplication> {
  if (!isFastify) {
    const app = module.createNestApplication<NestExpressApplication>(options);
    app.set('trust proxy', trustProxy);
    return app;
  }
  const { FastifyAdapter } = await import('@nestjs/platform-fastify');
  const adapter = new FastifyAdapter({ trustProxy, routerOptions: fastifyRouter, ...(http2 && { http2 }) });
  const routes: string[] = [];
  adapter.getInstance().addHook('onRoute', ({ method, url }) => {
    routes.push(...[method].flat().map((one) => `${one} ${url}`));
  });
  const app = module.createNestApplication<NestFastifyApplication>(adapter, options);
  fastifyRoutes.set(app, routes);
  return app;
}

/** The routes that answer, such as `GET /me`; a HEAD comes with each GET. */
export function routesOf(app: INestApplication): string[] {
  if (isFastify) return fastifyRoutes.get(app)!.filter((route) => !route.startsWith('HEAD '));
  const { router } = app.getHttpAdapter().getInstance() as { router: { stack: ExpressLayer[] } };
  return router.stack.flatMap(({ route }) =>
    Object.keys(route?.methods ?? {}).map((method) => `${method.toUpperCase()} ${route!.path}`),
  );
}

interface ExpressLayer {
  route?: { path: string; methods: Record<string, boolean> };
}

/** `cookiePrefix`: of `@fastify/session` alone. With that of express-session, either reads the cookies of the other. */
export type CookieSessionOptions = Partial<SessionOptions> & { cookiePrefix?: string };

/** Cookie sessions in the store, and Passport, as an application on this platform has them. */
export async function useCookieSessions(
  app: INestApplication,
  options: CookieSessionOptions & { store: Store },
): Promise<void> {
  if (isFastify) return useFastifySessions(app as NestFastifyApplication, options);
  app.use(session({ secret: 'test', resave: false, saveUninitialized: false, ...options }));
  app.use(passport.initialize(), passport.session());
}

async function useFastifySessions(
  app: NestFastifyApplication,
  { store, cookie, cookiePrefix }: CookieSessionOptions & { store: Store },
): Promise<void> {
  const [cookies, { fastifySession }] = await Promise.all([
    import('@fastify/cookie'),
    import('@fastify/session'),
  ]);
  await app.register(cookies.default);
  await app.register(fastifySession, {
    secret: FASTIFY_SECRET,
    ...(cookiePrefix !== undefined && { cookiePrefix }),
    cookie: { secure: false, ...(cookie as object) },
    saveUninitialized: false,
    rolling: false,
    // An express-session store it is; their types differ in what a session may hold.
    store: store as never,
  });
  const instance = app.getHttpAdapter().getInstance();
  // Strategies that redirect speak to the response in Express's way.
  instance.decorateReply('setHeader', setHeader);
  instance.decorateReply('end', end);
  runBefore(app, passport.initialize());
  runBefore(app, passport.session());
}

function setHeader(this: FastifyReply, name: string, value: unknown): void {
  this.header(name, value);
}

function end(this: FastifyReply, body?: unknown): void {
  this.send(body);
}

type Middleware = (request: never, response: never, next: (error?: unknown) => void) => unknown;

/** Runs a middleware in Express's way before each route: on Fastify on its own request, where the guards look. */
export function runBefore(app: INestApplication, middleware: Middleware): void {
  if (!isFastify) return void app.use(middleware);
  const instance = (app as NestFastifyApplication).getHttpAdapter().getInstance();
  instance.addHook('preHandler', (request, reply, done) => {
    middleware(request as never, reply as never, done as (error?: unknown) => void);
  });
}

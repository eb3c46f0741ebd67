import { Inject, Injectable } from '@nestjs/common';
import { DiscoveryService, HttpAdapterHost } from '@nestjs/core';

/** A layer of Express's router. */
interface Layer {
  handle?: (...parameters: never[]) => unknown;
  /** Set where the layer is a route. */
  route?: { methods?: { _all?: boolean } };
}

// In the source of the function that Nest's own adapter puts first.
const HOOK_OF_NEST = 'onResponseHook';

/** By their names: Express's own, those that Nest adds, and Passport's. Any other may be a session middleware or hold one. */
const NEVER_SESSION = new Set([
  'query',
  'expressInit',
  'jsonParser',
  'urlencodedParser',
  'textParser',
  'rawParser',
  'serveStatic',
  'corsMiddleware',
  'helmetMiddleware',
  'cookieParser',
  'compression',
  'initialize',
  'authenticate',
]);

/**
 * Stops the start on a platform that is not Express, and that of an application that keeps users in cookie sessions (it provides a Passport serializer) but has no
 * session middleware: its logins would establish nothing. Judges only what it knows: a middleware of another name may be
 * the missing one, and then the first login tells.
 */
@Injectable()
export class PlatformCheck {
  constructor(
    @Inject(HttpAdapterHost) private readonly adapterHost: HttpAdapterHost,
    @Inject(DiscoveryService) private readonly discovery: DiscoveryService,
  ) {}

  run(): void {
    this.requireExpress();
    this.requireRequestUser();
    if (!this.usesPassportSessions() || this.mayHaveSessionMiddleware()) return;
    throw new Error(
      'A PassportSerializer is provided, so users are kept in cookie sessions, but there is no session middleware. Write ' +
        "app.use(session({ secret, resave: false, saveUninitialized: false, store })) from 'express-session', then app.use(passport.session()), before app.init() or app.listen().",
    );
  }

  private requireExpress(): void {
    if (this.adapterHost.httpAdapter?.getType?.() !== 'fastify') return;
    throw new Error(
      'nestjs-single-session works on Express; Fastify is not supported yet. Write NestFactory.create(AppModule) with @nestjs/platform-express.',
    );
  }

  // `PassportModule.register({ property })`: what is not in `request.user` would pass unseen.
  private requireRequestUser(): void {
    const options = this.discovery.getProviders().filter(({ name }) => name === 'AuthModuleOptions');
    const property = options
      .map(({ instance }) => (instance as { property?: string } | undefined)?.property)
      .find((name) => name !== undefined && name !== 'user');
    if (property === undefined) return;
    throw new Error(
      `PassportModule.register({ property: '${property}' }) puts the user where nestjs-single-session does not look. Leave \`property\` out: the user must be in request.user.`,
    );
  }

  // By its shape (PassportSerializer of @nestjs/passport): Passport is no dependency of ours.
  private usesPassportSessions(): boolean {
    return this.discovery.getProviders().some(({ instance }) => {
      const { serializeUser, deserializeUser } = (instance ?? {}) as Record<string, unknown>;
      return typeof serializeUser === 'function' && typeof deserializeUser === 'function';
    });
  }

  private mayHaveSessionMiddleware(): boolean {
    const stack = expressStackOf(this.adapterHost.httpAdapter?.getInstance());
    return stack === undefined || middlewaresOf(stack).some(maybeSession);
  }
}

function expressStackOf(instance: unknown): Layer[] | undefined {
  const { router, _router } = (instance ?? {}) as {
    router?: { stack?: Layer[] };
    _router?: { stack?: Layer[] };
  };
  return router?.stack ?? _router?.stack;
}

/** What runs before the first route: functions of `app.use()`, and of MiddlewareConsumer for all methods of a path. */
function middlewaresOf(stack: Layer[]): Layer[] {
  const firstRoute = stack.findIndex(({ route }) => route !== undefined && !route.methods?._all);
  const before = firstRoute === -1 ? stack : stack.slice(0, firstRoute);
  return before.filter(({ handle }) => !String(handle).includes(HOOK_OF_NEST));
}

const maybeSession = ({ handle }: Layer): boolean => !NEVER_SESSION.has(handle?.name ?? '');

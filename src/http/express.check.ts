/** A layer of Express's router. */
interface Layer {
  handle?: (...parameters: never[]) => unknown;
  /** Set where the layer is a route. */
  route?: { methods: Record<string, boolean> };
}

// In the source of the function that Nest's own adapter puts first.
const HOOK_OF_NEST = 'onResponseHook';

const COOKIE_SESSION = '_cookieSession';

/** Names of middlewares that are surely no session middleware and hold none. Of any other it is not known. */
const NEVER_SESSION = new Set([
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

const REMEDY =
  "Write app.use(session({ secret, resave: false, saveUninitialized: false, store })) from 'express-session', then app.use(passport.session()), before app.init() or app.listen().";

/** What is wrong with how an application on Express keeps its users in cookie sessions, and what to write. */
export function expressComplaint(instance: unknown): string | undefined {
  const stack = expressStackOf(instance);
  if (stack === undefined) return undefined;
  const names = middlewaresOf(stack).map(({ handle }) => handle?.name ?? '');
  if (names.includes(COOKIE_SESSION))
    return `cookie-session keeps the whole session in the cookie: a login cannot give it a new id, which passport >= 0.6 does by session.regenerate(), and the server cannot end it. Take it out. ${REMEDY}`;
  if (names.some((name) => !NEVER_SESSION.has(name))) return undefined;
  return `A PassportSerializer is provided, so users are kept in cookie sessions, but there is no session middleware. ${REMEDY}`;
}

/** `undefined` where nothing is served, as in an application context. */
const expressStackOf = (instance: unknown): Layer[] | undefined =>
  (instance as { router?: { stack?: Layer[] } } | undefined)?.router?.stack;

/** What runs before the first route: functions of `app.use()`, and of MiddlewareConsumer for all methods of a path. */
function middlewaresOf(stack: Layer[]): Layer[] {
  const firstRoute = stack.findIndex(isOfOneMethod);
  const before = firstRoute === -1 ? stack : stack.slice(0, firstRoute);
  return before.filter(({ handle }) => !String(handle).includes(HOOK_OF_NEST));
}

// `app.all()` names every method, and Nest takes it for a middleware of all methods and, beside `use()`, of a prefix.
const isOfOneMethod = ({ route }: Layer): boolean =>
  route !== undefined && !route.methods['_all'] && Object.keys(route.methods).length === 1;

/** The part of a Fastify instance that we ask. */
export interface FastifyInstance {
  /** Resolves when what was registered so far is loaded. */
  after(): PromiseLike<unknown>;
  hasPlugin(name: string): boolean;
  hasDecorator(name: string): boolean;
  hasRequestDecorator(name: string): boolean;
}

const REMEDY =
  "Write await app.register(fastifyCookie) from '@fastify/cookie' and await app.register(fastifySession, { secret, saveUninitialized: false, store }) from '@fastify/session', then the " +
  'two preHandler hooks that run passport.initialize() and passport.session() on the request (README, "On Fastify"), before app.init() or app.listen().';

/** What is wrong with how an application on Fastify keeps its users in cookie sessions, and what to write. */
export async function fastifyComplaint(instance: FastifyInstance): Promise<string | undefined> {
  await instance.after();
  if (instance.hasPlugin('@fastify/session')) return undefined;
  if (instance.hasDecorator('encodeSecureSession'))
    return `@fastify/secure-session keeps the whole session in the cookie: a login cannot give it a new id (Passport would wait for its regenerate() for ever), and the server cannot end it. Take it out. ${REMEDY}`;
  if (instance.hasRequestDecorator('session')) return undefined;
  return `A PassportSerializer is provided, so users are kept in cookie sessions, but there is no session plugin; a middleware of app.use() never sees the requests of Fastify. ${REMEDY}`;
}

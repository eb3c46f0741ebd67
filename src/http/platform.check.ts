import { Inject, Injectable } from '@nestjs/common';
import { DiscoveryService, HttpAdapterHost } from '@nestjs/core';
import { expressComplaint } from './express.check.js';
import { fastifyComplaint, type FastifyInstance } from './fastify.check.js';
import { gatewayComplaint } from './gateways.check.js';
import { hasMethods } from './has-methods.js';

/**
 * Stops the start on a platform that is neither Express nor Fastify, and that of an application that keeps users in
 * cookie sessions (it provides a Passport serializer) but has none that can hold a login: its logins would establish
 * nothing. Judges only what it knows: what has another name may be the missing one, and then the first login tells.
 */
@Injectable()
export class PlatformCheck {
  constructor(
    @Inject(HttpAdapterHost) private readonly adapterHost: HttpAdapterHost,
    @Inject(DiscoveryService) private readonly discovery: DiscoveryService,
  ) {}

  /** `enforcesGlobally`: nothing but the global guard checks a request. */
  async run(enforcesGlobally: boolean): Promise<void> {
    this.requireOneRegistration();
    this.requireRequestUser();
    if (enforcesGlobally) this.requireGuardedMessages();
    const complaint = await this.complaintOfPlatform();
    if (complaint !== undefined) throw new Error(complaint);
  }

  private complaintOfPlatform(): string | undefined | Promise<string | undefined> {
    const adapter = this.adapterHost.httpAdapter;
    const platform = adapter?.getType?.() || 'none';
    if (!['express', 'fastify', 'none'].includes(platform))
      return `nestjs-single-session works on Express and on Fastify, not on ${platform}. Write NestFactory.create(AppModule) with @nestjs/platform-express, or NestFactory.create(AppModule, new FastifyAdapter()) with @nestjs/platform-fastify.`;
    if (!this.usesPassportSessions()) return undefined;
    const instance: unknown = adapter?.getInstance();
    return platform === 'fastify'
      ? fastifyComplaint(instance as FastifyInstance)
      : expressComplaint(instance);
  }

  // Each would have a guard and options of its own, and which of them admits a login would be a matter of luck.
  private requireOneRegistration(): void {
    if (this.discovery.getProviders().filter(({ token }) => token === PlatformCheck).length < 2) return;
    throw new Error(
      'SingleSessionModule.forRoot() or forRootAsync() was called more than once. Call it once, in your root module, with all options; it is global, so the others find its service without an import. With isGlobal: false, import what that one call gave wherever you need it.',
    );
  }

  // `PassportModule.register({ property })`: what is not in `request.user` would pass unseen.
  private requireRequestUser(): void {
    const options = this.discovery.getProviders().filter(isOptionsOfPassport);
    const property = options
      .map(({ instance }) => (instance as { property?: unknown } | undefined)?.property)
      .find((name) => typeof name === 'string' && name !== 'user');
    if (typeof property !== 'string') return;
    throw new Error(
      `PassportModule.register({ property: '${property}' }) puts the user where nestjs-single-session does not look. Leave \`property\` out: the user must be in request.user.`,
    );
  }

  private requireGuardedMessages(): void {
    const complaint = gatewayComplaint(this.discovery.getProviders().map(({ metatype }) => metatype));
    if (complaint !== undefined) throw new Error(complaint);
  }

  // By its shape (PassportSerializer of @nestjs/passport): Passport is no dependency of ours.
  private usesPassportSessions(): boolean {
    const providers = this.discovery.getProviders();
    return providers.some(({ instance }) => hasMethods(instance, 'serializeUser', 'deserializeUser'));
  }
}

/** The part of a provider, as Nest holds it, that we ask. */
interface Provider {
  readonly token: unknown;
  readonly host?: { readonly metatype?: object };
}

// By the shape of PassportModule: a bundler that minifies takes the names of the classes, and leaves those of their methods.
function isOptionsOfPassport({ token, host }: Provider): boolean {
  const methods = Object.getOwnPropertyNames(host?.metatype ?? {});
  return (
    typeof token === 'function' &&
    ['register', 'registerAsync', 'createAsyncOptionsProvider'].every((name) => methods.includes(name))
  );
}

import { createHash } from 'node:crypto';
import fastifyCookie from '@fastify/cookie';
import { fastifySession, type FastifySessionOptions } from '@fastify/session';
import type { DynamicModule, INestApplication, NestApplicationOptions } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import passport from 'passport';
import type { CookieSessions } from './cookie-sessions.js';
import { securityHeaders } from './security-headers.js';

/** The application on Fastify, with cookie sessions. */
export async function createApplication(
  module: DynamicModule,
  { secret, store, cookie }: CookieSessions,
  options: NestApplicationOptions,
): Promise<INestApplication> {
  const app = await NestFactory.create<NestFastifyApplication>(module, new FastifyAdapter(), options);
  app.use(securityHeaders);
  await app.register(fastifyCookie);
  await app.register(fastifySession, {
    // It wants 32 characters at least, and a secret of the demo may be shorter.
    secret: createHash('sha256').update(secret).digest('base64url'),
    // The types differ in what a session may hold; a store of express-session is one of @fastify/session.
    store: store as FastifySessionOptions['store'],
    cookie: cookie as FastifySessionOptions['cookie'],
    saveUninitialized: false,
    rolling: false,
  } as FastifySessionOptions);
  runPassport(app);
  return app;
}

/** Passport is written for Express; what it asks of a request, Fastify's has too. */
function runPassport(app: NestFastifyApplication): void {
  for (const middleware of [passport.initialize(), passport.session()])
    app.getHttpAdapter().getInstance().addHook('preHandler', middleware);
}

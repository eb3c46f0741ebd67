import type { DynamicModule, INestApplication, NestApplicationOptions } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import session from 'express-session';
import passport from 'passport';
import type { CookieSessions } from './cookie-sessions.js';
import { securityHeaders } from './security-headers.js';

/** The application on Express, with cookie sessions. */
export async function createApplication(
  module: DynamicModule,
  { secret, store, cookie }: CookieSessions,
  options: NestApplicationOptions,
): Promise<INestApplication> {
  const app = await NestFactory.create<NestExpressApplication>(module, options);
  app.disable('x-powered-by');
  app.use(securityHeaders);
  app.use(session({ secret, store, cookie, resave: false, saveUninitialized: false }), passport.session());
  return app;
}

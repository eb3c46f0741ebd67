// One variant as a process of its own: VARIANT, KIND, PASSWORD and DATABASE_URL say which. Prints its address, ends with SIGTERM.
import 'reflect-metadata';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { NestFactory } from '@nestjs/core';
import session from 'express-session';
import passport from 'passport';
import { type ApplicationSettings, BenchApplication, SECRET } from './application.js';

const { VARIANT, KIND, PASSWORD = 'cheap', DATABASE_URL } = process.env;
const settings = {
  variant: VARIANT,
  kind: KIND,
  password: PASSWORD,
  databaseUrl: DATABASE_URL,
} as ApplicationSettings;

const app = await NestFactory.create(BenchApplication.register(settings), { logger: ['error', 'warn'] });
if (settings.kind === 'cookie') {
  // In memory, so that the store's own queries do not hide ours.
  const store = new session.MemoryStore();
  app.use(session({ store, secret: SECRET, resave: false, saveUninitialized: false }), passport.session());
}
app.enableShutdownHooks();
await app.listen(0, '127.0.0.1');
const { port } = (app.getHttpServer() as Server).address() as AddressInfo;
console.log(`http://127.0.0.1:${port}`);

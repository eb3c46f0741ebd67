import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Injectable, UseGuards } from '@nestjs/common';
import { ExternalContextCreator } from '@nestjs/core';
import { SingleSessionGuard } from '../../src/index.js';
import { startApplication, type TestApplication } from '../support/application.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

/** As a library for the bots of a chat makes handlers: with Nest's guards, and without saying that it is not HTTP. */
@Injectable()
class Bot {
  onMessage(message: unknown): unknown {
    return message;
  }

  @UseGuards(SingleSessionGuard)
  onGuarded(message: unknown): unknown {
    return message;
  }
}

let databaseUrl: string;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  application = await startApplication(databaseUrl, { providers: [Bot] });
});

afterAll(async () => {
  await application?.close();
  await dropDatabase(databaseUrl);
});

it.each(['onMessage', 'onGuarded'] as const)(
  'a handler that another library calls with what is no request passes: %s',
  async (name) => {
    const bot = application.app.get(Bot);
    const handler = application.app.get(ExternalContextCreator).create(bot, bot[name], name);
    for (const message of ['hello', { user: { id: 1 } }, undefined])
      expect(await handler(message)).toBe(message);
  },
);

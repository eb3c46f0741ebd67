import { expect, it } from '@jest/globals';
import { ValidationPipe } from '@nestjs/common';
import { CurrentSession } from '../../src/index.js';
import { startApplication } from '../support/application.js';
import { TokenClient } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';

// These tests are compiled without knowledge of types, as with SWC or `isolatedModules`.
it('@CurrentSession() session: CurrentSession is taken for no class by a pipe that validates custom decorators', async () => {
  const databaseUrl = await freshDatabase();
  const pipe = new ValidationPipe({ transform: true, validateCustomDecorators: true });
  const application = await startApplication(databaseUrl, {
    configure: (app) => app.useGlobalPipes(pipe),
  });
  try {
    const client = new TokenClient(application.url);
    expect((await client.login('alice')).status).toBe(200);
    expect((await client.get()).body.session).toMatchObject({ userId: '1' });
  } finally {
    await application.close();
    await dropDatabase(databaseUrl);
  }
});

it('@CurrentSession() leaves alone what a compiler has written down of other types, and needs nothing of it', () => {
  const typesOf = (name: string): unknown =>
    Reflect.getMetadata('design:paramtypes', Account.prototype, name);
  class Account {}
  CurrentSession()(Account.prototype, 'bare', 0);
  expect(typesOf('bare')).toBeUndefined();
  Reflect.defineMetadata('design:paramtypes', [Date], Account.prototype, 'typed');
  CurrentSession()(Account.prototype, 'typed', 0);
  expect(typesOf('typed')).toEqual([Date]);
});

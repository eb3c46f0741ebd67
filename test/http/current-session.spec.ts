import { expect, it } from '@jest/globals';
import { ValidationPipe } from '@nestjs/common';
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

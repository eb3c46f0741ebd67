import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Controller, HttpCode, Logger, Post, UseGuards } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { SkipSingleSession, SingleSessionService } from '../../src/index.js';
import { LocalLoginGuard, startApplication, type TestApplication } from '../support/application.js';
import { Browser, TokenClient, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { cookieValue, ListeningStore, LogSink, PREFIX } from '../support/secrets.js';
import { newUser } from '../support/sessions.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';

const OUR_TABLES = ['user_session', 'user_session_slots'];

@Controller('before')
class BeforeController {
  @SkipSingleSession()
  @UseGuards(LocalLoginGuard)
  @Post('login')
  @HttpCode(200)
  login(): void {}
}

const secrets = new Set<string>();
const sink = new LogSink();
const bodies: string[] = [];

let databaseUrl: string;
let watch: StatementWatch;
let application: TestApplication;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  watch = await watchStatements(databaseUrl);
  application = await startApplication(watch.url, {
    options: { unregistered: 'adopt', maxSessions: 2 },
    controllers: [BeforeController],
    session: { store: new ListeningStore(secrets) },
    typeorm: { logging: 'all', logger: sink.typeOrm },
    build: (builder) => builder.setLogger(sink.nest),
  });
  Logger.overrideLogger(sink.nest);
});

afterAll(async () => {
  await application?.close();
  await watch?.stop();
  await dropDatabase(databaseUrl);
});

function remember(browser: Browser, answer: Answer): Answer {
  if (browser.cookie) secrets.add(cookieValue(browser.cookie));
  bodies.push(
    JSON.stringify(answer.body) +
      JSON.stringify([...answer.headers].filter(([name]) => name !== 'set-cookie')),
  );
  return answer;
}

/** The one answer that may hold the token is not looked at. */
async function issue(token: TokenClient, username: string): Promise<void> {
  await token.login(username);
  secrets.add(token.token!);
}

async function dump(): Promise<string> {
  const dataSource = application.app.get(DataSource);
  const tables = await Promise.all(
    OUR_TABLES.map((table) => dataSource.query(`SELECT to_json(t)::text AS row FROM ${table} t`)),
  );
  return tables
    .flat()
    .map(({ row }: { row: string }) => row)
    .join('\n');
}

async function runEveryFlow(): Promise<void> {
  const service = application.app.get(SingleSessionService);
  const user = newUser(application);
  const { username } = user;
  const browsers = Array.from({ length: 3 }, () => new Browser(application.url));
  const tokens = Array.from({ length: 3 }, () => new TokenClient(application.url));
  for (const browser of browsers) remember(browser, await browser.login(username));
  for (const token of tokens) await issue(token, username);
  for (const browser of browsers) remember(browser, await browser.get('/me'));
  const nobody = new Browser(application.url);
  for (const token of tokens) remember(nobody, await token.get());
  for (const token of tokens) remember(nobody, await token.post('/echo'));

  const adopted = new Browser(application.url);
  remember(adopted, await adopted.login(username, '/before/login'));
  remember(adopted, await adopted.get('/me'));
  remember(nobody, await new TokenClient(application.url, sidless()).get());
  remember(nobody, await adopted.get('/token/me', { authorization: `Bearer ${sidless()}` }));
  remember(adopted, await adopted.login(username));
  remember(adopted, await adopted.post('/login', { username, password: 'wrong' }));

  await watch.cut();
  remember(adopted, await adopted.get('/me'));
  remember(nobody, await tokens[2]!.get());
  remember(nobody, await new Browser(application.url).login(username));
  await watch.restore();
  remember(nobody, await tokens[2]!.post('/token/logout'));
  remember(adopted, await adopted.post('/logout'));
  await service.endUser(user.id, { by: 'root' });

  function sidless(): string {
    const token = application.sign(user, {});
    secrets.add(token);
    return token;
  }
}

it('nothing in our tables, logs and answers can be used as a session [P7, S2]', async () => {
  await runEveryFlow();
  const places = { tables: await dump(), logs: sink.text, answers: bodies.join('\n') };

  // Else the test would look at nothing.
  expect(secrets.size).toBeGreaterThanOrEqual(12);
  expect(places.tables).toContain('superseded');
  expect(places.logs).toContain('user_session_slots');
  expect(places.logs).toContain('Requests are refused with 503');
  expect(places.answers).toContain('SESSION_STORE_UNAVAILABLE');

  // Sorted out first: what all tokens begin with, their header, is no secret, but would be a find all the same.
  for (const secret of secrets)
    for (const [place, text] of Object.entries(places))
      if (text.includes(secret.slice(0, PREFIX)))
        throw new Error(`${secret.slice(0, PREFIX)}… is in the ${place}`);
});

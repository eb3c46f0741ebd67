import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { startApplication, type TestApplication } from '../support/application.js';
import { ADMIN, ADMIN_OPTIONS, Client, eventsOf, someoneNew } from '../support/administration.js';
import { Browser, type Answer } from '../support/client.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { cookieValue, inWords, ListeningStore, LogSink, PREFIX } from '../support/secrets.js';
import { newUser } from '../support/sessions.js';
import { times } from '../support/store.js';
import { watchStatements, type StatementWatch } from '../support/statements.js';

const TABLES = ['', '_slots', '_cutoff', '_exemption', '_action'].map((suffix) => `user_session${suffix}`);

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
    options: { ...ADMIN_OPTIONS, maxSessions: 2, storm: { threshold: 3, windowMs: 60_000 } },
    session: { store: new ListeningStore(secrets) },
    typeorm: { logging: 'all', logger: sink.typeOrm },
    build: (builder) => builder.setLogger(sink.nest),
  });
  Logger.overrideLogger(sink.nest);
});

afterAll(async () => {
  Logger.overrideLogger(false);
  await application?.close();
  await watch?.stop();
  await dropDatabase(databaseUrl);
});

/** A client whose credential is noted as a secret. */
function known(client: Client): Client {
  if (client.browser.cookie) secrets.add(cookieValue(client.browser.cookie));
  if (client.kind === 'token') secrets.add(client.headers['authorization']!.slice('Bearer '.length));
  return client;
}

function remember({ body, headers }: Answer): void {
  bodies.push(JSON.stringify(body) + JSON.stringify([...headers].filter(([name]) => name !== 'set-cookie')));
}

async function runEveryFlow(): Promise<void> {
  const user = newUser(application);
  const people: Client[] = [];
  for (const n of times(6, (place) => place))
    people.push(known(await Client.signIn(application, user, n % 2 ? 'token' : 'cookie')));
  const others = await Promise.all([someoneNew(application), someoneNew(application, ['user'], 'token')]);
  others.forEach(known);
  for (const kind of ['cookie', 'token'] as const)
    for (const role of ['user', 'admin', 'superadmin']) {
      const caller = known(await someoneNew(application, [role], kind));
      for (const path of [
        '',
        '?state=all&limit=200',
        '?state=ended',
        '/summary',
        '/actions',
        '/exemptions',
        '?cursor=x',
      ])
        remember(await caller.get(ADMIN + path));
      for (const whom of [user.username, others[0].user.username, 'nobody'])
        remember(await caller.get(`${ADMIN}/policy?username=${whom}`));
      remember(await caller.delete(`${ADMIN}/${others[0].sessionId}`));
      remember(await caller.post(`${ADMIN}/logout`, { usernames: [user.username, 'nobody'], note: 'why' }));
      remember(await caller.put(`${ADMIN}/exemptions`, { kind: 'username', value: user.username }));
      remember(await caller.delete(`${ADMIN}/exemptions?kind=username&value=${user.username}`));
      remember(await caller.get('/sessions/mine'));
      remember(await caller.post('/sessions/mine/logout-others'));
      remember(await caller.delete(`/sessions/mine/${others[0].sessionId}`));
      remember(
        await caller.post(`${ADMIN}/logout-everyone`, { except: { administrators: role !== 'superadmin' } }),
      );
      await watch.cut();
      remember(await caller.get(`${ADMIN}/summary`));
      remember(await caller.post(`${ADMIN}/logout-everyone`));
      await watch.restore();
      remember(await caller.post(`${ADMIN}/logout`, { usernames: ['x'], [caller.sessionId]: 1 }));
    }
  for (const client of people) remember(await client.get(ADMIN));
  remember(
    await new Browser(application.url).get(ADMIN, { authorization: `Bearer ${[...secrets].at(-1)}x` }),
  );
}

async function dump(): Promise<string> {
  const rows = await Promise.all(
    TABLES.map((table) =>
      application.app.get(DataSource).query(`SELECT to_json(t)::text AS row FROM ${table} t`),
    ),
  );
  return (rows.flat() as { row: string }[]).map(({ row }) => row).join('\n');
}

it('nothing in the answers to administrators, the events, our tables and logs can be used as a session [P7, S2]', async () => {
  const events = eventsOf(application);
  await runEveryFlow();
  const places = {
    tables: await dump(),
    logs: sink.text,
    answers: bodies.join('\n'),
    events: events.map(inWords).join('\n'),
  };

  // Else the test would look at nothing.
  expect(secrets.size).toBeGreaterThanOrEqual(20);
  for (const type of ['admitted', 'ended', 'cut-off', 'exemption-changed', 'storm'])
    expect(places.events).toContain(`type: '${type}'`);
  expect(places.tables).toContain('logout-everyone');
  expect(places.logs).toContain('user_session_action');
  expect(places.logs).toContain('Storm');
  for (const part of [
    'nextCursor',
    'storms',
    'skipped',
    'SESSION_STORE_UNAVAILABLE',
    'maxSessions',
    '"current":true',
  ])
    expect(places.answers).toContain(part);

  // What all tokens begin with, their header, is no secret: what differs between two of them is.
  for (const secret of secrets)
    for (const piece of [secret, secret.slice(0, PREFIX), ...secret.split('.').slice(1)].filter(
      (part) => part.length >= PREFIX,
    ))
      for (const [place, text] of Object.entries(places))
        if (text.includes(piece)) throw new Error(`${piece.slice(0, PREFIX)}… is in the ${place}`);
});

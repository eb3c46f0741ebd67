import { DataSource } from 'typeorm';
import { SingleSessionService, UserSession, UserSessionSlots } from '../../src/index.js';
import type { TestApplication, TestUser, Users } from './application.js';

let lastId = 1_000;

/** A user that no other test has touched. */
export function newUser({ users }: { users: Users }, given: Partial<TestUser> = {}): TestUser {
  const id = ++lastId;
  const user = { id, username: `user${id}`, roles: ['user'], ...given };
  users.set(user.username, user);
  return user;
}

/** The user's rows, oldest first. */
export function rowsOf({ app }: TestApplication, { id }: Pick<TestUser, 'id'>): Promise<UserSession[]> {
  return app
    .get(DataSource)
    .getRepository(UserSession)
    .find({ where: { userId: String(id) }, order: { generation: 'ASC' } });
}

/** The ids of the user's sessions that a check accepts now, oldest first. */
export async function liveSessionsOf(
  application: TestApplication,
  user: Pick<TestUser, 'id'>,
): Promise<string[]> {
  const service = application.app.get(SingleSessionService);
  const ids = (await rowsOf(application, user)).map(({ id }) => id);
  const verdicts = await Promise.all(ids.map((id) => service.verify(id)));
  return ids.filter((_, index) => verdicts[index]!.live);
}

/** How many sessions and users are recorded at all. */
export async function countRows({ app }: TestApplication): Promise<{ sessions: number; slots: number }> {
  const { manager } = app.get(DataSource);
  const [sessions, slots] = await Promise.all([manager.count(UserSession), manager.count(UserSessionSlots)]);
  return { sessions, slots };
}

/** Asks again until the answer is good; a bound in place of a sleep. Resolves to the answer. */
export async function eventually<Answer>(
  ask: () => Promise<Answer> | Answer,
  isGood: (answer: Answer) => boolean,
  withinMs = 5_000,
): Promise<Answer> {
  const until = performance.now() + withinMs;
  for (;;) {
    const answer = await ask();
    if (isGood(answer)) return answer;
    if (performance.now() > until)
      throw new Error(`Not so within ${withinMs} ms; the last answer: ${JSON.stringify(answer)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

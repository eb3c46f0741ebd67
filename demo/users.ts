import { createHash, timingSafeEqual } from 'node:crypto';
import { Injectable } from '@nestjs/common';

/** Somebody who can sign in to the demo. */
export interface User {
  readonly id: string;
  readonly username: string;
  readonly roles: string[];
}

const ORDINARY_USERS = 2000;

const PEOPLE: ReadonlyArray<readonly [username: string, role: string]> = [
  ['alice', 'user'],
  ['bob', 'user'],
  ['admin', 'admin'],
  ['root', 'superadmin'],
  ['grader', 'service'],
  ['xqueue-watcher', 'user'],
  ...Array.from({ length: ORDINARY_USERS }, (_, index) => [`user${index + 1}`, 'user'] as const),
];

/** The demo's user table. Everybody's password is the username. */
@Injectable()
export class Users {
  private readonly byId = new Map<string, User>();
  private readonly byUsername = new Map<string, User>();

  constructor() {
    PEOPLE.forEach(([username, role], index) => {
      const user = { id: String(index + 1), username, roles: [role] };
      this.byId.set(user.id, user);
      this.byUsername.set(username, user);
    });
  }

  /** The user with this id, as it is now. */
  findById(id: string): User | undefined {
    return this.byId.get(id);
  }

  findByUsername(username: string): User | undefined {
    return this.byUsername.get(username);
  }

  /**
   * The user whose name and password these are. An application uses a slow password hash here;
   * a fast one lets logins arrive close together, which is what the demo is there to show.
   */
  authenticate(username: unknown, password: unknown): User | undefined {
    if (typeof username !== 'string' || typeof password !== 'string') return undefined;
    const user = this.byUsername.get(username);
    // Compared for an unknown name too: the time that an answer takes tells nothing about who exists.
    const matches = timingSafeEqual(sha256(password), sha256(user?.username ?? ''));
    // A copy, as a database would give: the user of this login is not the one of an older cookie session.
    return matches && user ? { ...user } : undefined;
  }
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

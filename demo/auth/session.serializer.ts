import { Injectable } from '@nestjs/common';
import { PassportSerializer } from '@nestjs/passport';
import { type User, Users } from '../users.js';

/** Keeps the user's id in the cookie session and looks the user up for each request. */
@Injectable()
export class SessionSerializer extends PassportSerializer {
  constructor(private readonly users: Users) {
    super();
  }

  serializeUser(user: User, done: (error: null, id: string) => void): void {
    done(null, user.id);
  }

  deserializeUser(id: string, done: (error: null, user: User | false) => void): void {
    done(null, this.users.findById(id) ?? false);
  }
}

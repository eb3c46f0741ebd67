import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import { Strategy } from 'passport-local';
import { type User, Users } from '../users.js';

/** Username and password from the body. */
@Injectable()
export class LocalStrategy extends PassportStrategy(Strategy) {
  constructor(private readonly users: Users) {
    super();
  }

  /** The user, or `undefined`, which Passport answers with 401. */
  validate(username: unknown, password: unknown): User | undefined {
    return this.users.authenticate(username, password);
  }
}

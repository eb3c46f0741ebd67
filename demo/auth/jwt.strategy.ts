import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import { ExtractJwt, Strategy } from 'passport-jwt';
import { type User, Users } from '../users.js';
import { TokenSecret } from './token-secret.js';

/** What `POST /token` signs. */
export interface TokenPayload {
  sub: string;
  sid: string;
}

/** The user of a bearer token; `sid` is what the package's guard looks at. */
export interface TokenUser extends User {
  readonly sid: string;
}

/** A bearer token from the `Authorization` header. */
@Injectable()
export class JwtStrategy extends PassportStrategy(Strategy) {
  constructor(
    private readonly users: Users,
    secret: TokenSecret,
  ) {
    super({
      jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(),
      secretOrKey: secret.value,
      algorithms: ['HS256'],
    });
  }

  /** The roles come from the user table: those in a token would outlive a demotion. */
  validate({ sub, sid }: TokenPayload): TokenUser | undefined {
    const user = this.users.findById(sub);
    return user && { ...user, sid };
  }
}

import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import { ExtractJwt, Strategy } from 'passport-jwt';
import { type User, Users } from '../users.js';
import { TokenSecret } from './token-secret.js';
import { AUDIENCE, type TokenPayload } from './tokens.js';

/** The user of a token; `sid` is what the package's guard looks at. */
export interface TokenUser extends User {
  readonly sid: string;
}

/** An access token from the `Authorization` header. */
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
      audience: AUDIENCE.access,
    });
  }

  /** The roles come from the user table: those in a token would outlive a demotion. */
  validate({ sub, sid }: TokenPayload): TokenUser | undefined {
    const user = this.users.findById(sub);
    return user && { ...user, sid };
  }
}

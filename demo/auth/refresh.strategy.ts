import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import { ExtractJwt, Strategy } from 'passport-jwt';
import { Users } from '../users.js';
import type { TokenUser } from './jwt.strategy.js';
import { TokenSecret } from './token-secret.js';
import { AUDIENCE, type TokenPayload } from './tokens.js';

/** A refresh token from the body. With `sid` on the user, the package's guard checks its session like any other. */
@Injectable()
export class RefreshStrategy extends PassportStrategy(Strategy, 'refresh') {
  constructor(
    private readonly users: Users,
    secret: TokenSecret,
  ) {
    super({
      jwtFromRequest: ExtractJwt.fromBodyField('refreshToken'),
      secretOrKey: secret.value,
      algorithms: ['HS256'],
      audience: AUDIENCE.refresh,
    });
  }

  /** The user as it is now: who is gone from the table gets no new tokens. */
  validate({ sub, sid }: TokenPayload): TokenUser | undefined {
    const user = this.users.findById(sub);
    return user && { ...user, sid };
  }
}

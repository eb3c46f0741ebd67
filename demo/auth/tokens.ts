import { Injectable } from '@nestjs/common';
import { JwtService } from '@nestjs/jwt';

/** Whom a token is for. A strategy takes its own kind only: the two are signed with the same key. */
export const AUDIENCE = { access: 'access', refresh: 'refresh' } as const;

const ACCESS_FOR = '15m';
/** As long as the session lives at most: the package's `maxAge`, which no refresh makes longer. */
const REFRESH_FOR = '14d';

/** What both tokens of a session carry. */
export interface TokenPayload {
  sub: string;
  sid: string;
}

/** What `POST /token` and `POST /token/refresh` answer. */
export interface TokenPair {
  accessToken: string;
  refreshToken: string;
}

/** Signs the two tokens of a session. Nothing of them is stored: both are good until they expire or the session ends. */
@Injectable()
export class Tokens {
  constructor(private readonly jwt: JwtService) {}

  async issue(userId: string, sessionId: string): Promise<TokenPair> {
    const payload: TokenPayload = { sub: userId, sid: sessionId };
    const [accessToken, refreshToken] = await Promise.all([
      this.jwt.signAsync(payload, { audience: AUDIENCE.access, expiresIn: ACCESS_FOR }),
      this.jwt.signAsync(payload, { audience: AUDIENCE.refresh, expiresIn: REFRESH_FOR }),
    ]);
    return { accessToken, refreshToken };
  }
}

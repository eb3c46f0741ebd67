import { createHmac } from 'node:crypto';

/** The key of the tokens, derived so that one secret configures a whole cluster. */
export class TokenSecret {
  readonly value: string;

  constructor(sessionSecret: string) {
    this.value = createHmac('sha256', sessionSecret).update('access token').digest('base64url');
  }
}

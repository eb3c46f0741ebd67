import { UnauthorizedException } from '@nestjs/common';
import { bearerTokenOf, type SessionRequest } from '../http/request.js';
import type { ThrottledLogger } from '../session/throttled-logger.js';

/** Refuses who is not signed in. So is whoever brings a good token that nothing has read, and the log says that. */
export function refuseNobody(
  request: SessionRequest | undefined,
  option: 'admin' | 'selfService',
  hints: ThrottledLogger,
): never {
  if (request && !request.user && bearerTokenOf(request) !== undefined)
    hints.warn(
      option,
      `A request to the routes of \`${option}\` was refused, since no guard has read the token that it brought. Write ${option}: { ..., guards: [AuthGuard('jwt')] } ` +
        'in the options of SingleSessionModule, or the guard of yours that authenticates.',
    );
  throw new UnauthorizedException();
}

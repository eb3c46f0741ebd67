import { isIP } from 'node:net';
import type { Origin } from '../session/session.js';
import type { SessionRequest } from './request.js';

const LONGEST_USER_AGENT = 512;
const CONTROL_CHARACTERS = /\p{Cc}/gu;

/** Where the request came from. The address is the framework's: it honours "trust proxy", and no header is read here. */
export function originOf({ ip, headers }: SessionRequest): Origin {
  return { ip: toAddress(ip), userAgent: toUserAgent(headers['user-agent']) };
}

function toAddress(ip: string | undefined): string | null {
  const address = ip?.split('%', 1)[0] ?? '';
  return isIP(address) === 0 ? null : address;
}

// Cut first: nothing looks at the whole of a header that somebody else wrote.
function toUserAgent(header: string | string[] | undefined): string | null {
  if (typeof header !== 'string') return null;
  return header.slice(0, LONGEST_USER_AGENT).replace(CONTROL_CHARACTERS, '') || null;
}

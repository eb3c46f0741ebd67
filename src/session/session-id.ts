import { createHash } from 'node:crypto';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Whether this can be one of our ids at all. Cheap on a value of any type and length. */
export const isSessionId = (value: unknown): value is string =>
  typeof value === 'string' && value.length === 36 && UUID.test(value);

/**
 * The id of the session that a login with this secret of a browser becomes: the same for both clicks of a double click. A
 * UUID of version 4, as random ones are.
 */
export const idOfLogin = (secret: string, userId: string): string => idOf(`login:${secret}:${userId}`, 4);

/** The id of an adopted session. A UUID of version 8, by which the sweeper knows that it must not remove the row. */
export const idOfCredential = (secret: string): string => idOf(secret, 8);

// One way only: the id is public, the secret is not (NIST FIPS 180-4; 122 bits of the digest in the form of RFC 9562).
function idOf(secret: string, version: 4 | 8): string {
  const bytes = createHash('sha256').update(`nestjs-single-session:${secret}`).digest().subarray(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | (version << 4);
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

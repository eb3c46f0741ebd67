/** Who a user is to the limit. Two logins belong to the same user when `id` is the same string. */
export interface Identity {
  /** Stable and unique for ever; never recycled, never an e-mail address that can change hands. */
  id: string;
  /** What exemptions by username are compared with, exactly. */
  username: string;
  /** What exemptions by role are compared with, exactly. */
  roles: string[];
}

/**
 * What an `identify` function may return: a number or bigint id becomes a string. A name has at most 500 characters, an
 * id 255; none has NUL or lone surrogates, a role no U+001F.
 */
export interface IdentityLike {
  id: string | number | bigint;
  username: string;
  roles: readonly string[];
}

/** A function of the application's own user object, whose type the application writes in its parameter. */
export type OfUser<Result> = { bivarianceHack(user: unknown): Result }['bivarianceHack'];

const LONGEST_ID = 255;
// They are in indexes of PostgreSQL, which take 2,704 bytes.
const LONGEST_NAME = 500;
const REMEDY =
  'Write SingleSessionModule.forRoot({ identify: (user: YourUser) => ({ id: user.id, username: user.name, roles: user.roles }) }) as it fits your user object. identify() is called with the user of a login and with `request.user` of every request, so it must understand both.';

/** Reads `id`, `username ?? email ?? id` and `roles ?? []` from the user. */
export function identifyByConvention(user: unknown): IdentityLike {
  const { id, username, email, roles } = user as Record<string, IdentityLike['id'] & string[] & string>;
  return { id, username: username ?? email ?? String(id), roles: roles ?? [] };
}

/**
 * Checks what `identify` returned.
 * @throws TypeError when an id, username or role is not what {@link IdentityLike} says: a wrong type would switch the limit off silently
 */
export function toIdentity(found: IdentityLike): Identity {
  const id = toUserId(found);
  const { username, roles } = found;
  if (!isName(username))
    throw new TypeError(
      `identify() gave a username that is not a string of at most ${LONGEST_NAME} characters. ${REMEDY}`,
    );
  if (!Array.isArray(roles) || !roles.every(isRole))
    throw new TypeError(
      `identify() gave roles that are not an array of strings of at most ${LONGEST_NAME} characters without U+001F. ${REMEDY}`,
    );
  return { id, username, roles: [...roles] };
}

/** The user id as the string that the database compares. Equal for `7` and `'7'`. */
export function toUserId(found: Pick<IdentityLike, 'id'> | null | undefined): string {
  const id = found?.id;
  const text = typeof id === 'bigint' || Number.isSafeInteger(id) ? String(id) : id;
  if (isStorable(text) && text !== '' && text.length <= LONGEST_ID) return text;
  throw new TypeError(
    `identify() gave no usable user id (${describe(id)}); it takes a string of 1 to ${LONGEST_ID} characters, a safe integer or a bigint. ${REMEDY}`,
  );
}

const BETWEEN_ROLES = '\u001f';

/** Roles in one text, as the database gives them. */
export const rolesKey = (roles: readonly string[]): string => roles.join(BETWEEN_ROLES);

/** The roles in such a text. */
export const rolesIn = (key: string): string[] => (key === '' ? [] : key.split(BETWEEN_ROLES));

/** Whether two such texts are the same set: whoever reads roles in another order must not write at each request. */
export const sameRoles = (some: string, others: string): boolean =>
  some === others || rolesKey(rolesIn(some).sort()) === rolesKey(rolesIn(others).sort());

// PostgreSQL stores UTF-8 without NUL: two different ids with lone surrogates would become one.
const isStorable = (text: unknown): text is string =>
  typeof text === 'string' && !text.includes('\0') && text.isWellFormed();

const isName = (text: unknown): text is string => isStorable(text) && text.length <= LONGEST_NAME;

// One that had it would be read back as two roles.
const isRole = (text: unknown): text is string => isName(text) && !text.includes(BETWEEN_ROLES);

const describe = (id: unknown): string =>
  typeof id === 'string' ? `a string of ${id.length} characters` : `type ${typeof id}`;

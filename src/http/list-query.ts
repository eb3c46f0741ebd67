import { BadRequestException } from '@nestjs/common';
import type { ListQuery } from '../session/administration-store.js';

const STATES: readonly unknown[] = ['active', 'ended', 'all'] satisfies ListQuery['state'][];
/** PostgreSQL is asked for one more. */
const MOST = 2 ** 31 - 2;

const FILTERS: Record<string, true> = {
  userId: true,
  username: true,
  role: true,
  cursor: true,
} satisfies Record<Exclude<keyof ListQuery, 'state' | 'limit'>, true>;

/**
 * The query with its defaults, also for what is `undefined`: members of somebody's own query are handed on as they came.
 * A key that is misspelled would list the sessions of everybody.
 * @throws BadRequestException for what is not understood or the database would refuse, which is no failure of the server
 */
export function toListQuery({ state = 'active', limit = 50, ...filter }: Partial<ListQuery>): ListQuery {
  if (!STATES.includes(state)) throw new BadRequestException([`state must be one of ${STATES.join(', ')}`]);
  if (!Number.isInteger(limit) || limit < 1 || limit > MOST)
    throw new BadRequestException([`limit must be a whole number from 1 to ${MOST}`]);
  const unknown = Object.keys(filter).find((key) => !Object.hasOwn(FILTERS, key));
  if (unknown !== undefined) throw new BadRequestException([`property ${unknown} should not exist`]);
  return { ...filter, state, limit };
}

import { SetMetadata } from '@nestjs/common';

// Of @nestjs/cache-manager, which applications may have or not: a number, or a function that is asked for it.
const CACHE_TTL = 'cache_module:cache_ttl';

/**
 * Keeps the answers of a controller or a route out of a global `CacheInterceptor`, as Nest's documentation has it: that
 * knows an answer by its address only, and would give one user what it was told for another, and log nobody out who asks
 * by GET after somebody else. It has no word for never. A time to live that cannot be told is what makes it hand the
 * request on in every version, whatever store is behind it.
 */
export const NeverCached = (): ClassDecorator & MethodDecorator =>
  SetMetadata(CACHE_TTL, () => {
    throw new Error('never cached');
  });

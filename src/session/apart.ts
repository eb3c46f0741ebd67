import { AsyncResource } from 'node:async_hooks';

const nobody = new AsyncResource('SingleSession');

/**
 * Begins work that belongs to no request: it is done for several, or goes on when its request is over. What libraries
 * keep for a request and all that it calls (nestjs-cls, traces of OpenTelemetry, a transaction of typeorm-transactional) is
 * not there then: neither is it another request's, nor is a request kept for as long as the work lasts.
 */
export const apart = <Result>(work: () => Result): Result => nobody.runInAsyncScope(work);

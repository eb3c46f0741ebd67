import type { CallHandler, ExecutionContext, MessageEvent, NestInterceptor } from '@nestjs/common';
import { Observable } from 'rxjs';
import { requestOf } from './execution-context.js';
import { knownStateOf } from './request-state.js';
import { toException } from './to-exception.js';

/** Metadata of an `@Sse()` handler: the type of the last event of a stream whose session has ended. */
export const END_EVENT = 'nestjs-single-session:end-event';
const DEFAULT_END_EVENT = 'session-ended';

/**
 * Closes a stream of server-sent events when the session of its request ends: the last event says why. Like the last
 * guard it has no state, and leaves a request alone that is anonymous or has met no guard of ours.
 */
export const STREAM_END: NestInterceptor = {
  intercept(context: ExecutionContext, next: CallHandler<unknown>): Observable<unknown> {
    const request = requestOf(context);
    const state = request && knownStateOf(request);
    if (request === undefined || state?.current === undefined || state.guard === undefined)
      return next.handle();
    const end = state.guard.whenEnded(request);
    const type = (Reflect.getMetadata(END_EVENT, context.getHandler()) ?? DEFAULT_END_EVENT) as string;
    return new Observable((subscriber) => {
      subscriber.add(
        end.subscribe({
          next: (data) => {
            subscriber.next({ type, data } satisfies MessageEvent);
            subscriber.complete();
          },
          error: (error: unknown) => subscriber.error(toException(error, undefined)),
        }),
      );
      // After the watch has begun, which may have found the end already.
      if (!subscriber.closed) subscriber.add(next.handle().subscribe(subscriber));
    });
  },
};

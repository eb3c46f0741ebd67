import type { Type } from '@nestjs/common';
import { PATH_METADATA } from '@nestjs/common/constants.js';

/** The methods of a class and of what it extends that Nest calls for a request, a message or an operation. */
export function* handlersOf({ prototype }: Type): Generator<object> {
  const isOver = (level: unknown): boolean => level === null || level === Object.prototype;
  for (
    let level = prototype as object | null;
    level && !isOver(level);
    level = Object.getPrototypeOf(level) as object
  )
    for (const { value } of Object.values(Object.getOwnPropertyDescriptors(level)))
      if (typeof value === 'function' && isHandler(value as object)) yield value as object;
}

const isHandler = (method: object): boolean =>
  isMessageHandler(method) ||
  Reflect.getMetadataKeys(method).some((key) => key === PATH_METADATA || String(key).startsWith('graphql:'));

/** Whether it is called for a message on a WebSocket. */
export const isMessageHandler = (method: object): boolean =>
  Reflect.getMetadataKeys(method).some((key) => String(key).startsWith('websockets:message_mapping'));

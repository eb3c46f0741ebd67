import { PATH_METADATA } from '@nestjs/common/constants.js';

/**
 * The methods of a prototype and of what it extends that Nest calls for a request, a message or an operation. Among them is
 * `constructor`, the class itself, where it is a controller: it may have handlers that only another library knows.
 */
export function* handlersOf(prototype: unknown): Generator<object> {
  for (
    let level = prototype as object | null;
    level && level !== Object.prototype;
    level = Object.getPrototypeOf(level) as object | null
  )
    for (const { value } of Object.values(Object.getOwnPropertyDescriptors(level)))
      if (typeof value === 'function' && isHandler(value as object)) yield value as object;
}

const isHandler = (method: object): boolean =>
  isMessageHandler(method) || isOperation(method) || Reflect.hasMetadata(PATH_METADATA, method);

/** Whether it is called for a message on a WebSocket. */
export const isMessageHandler = (method: object): boolean =>
  Reflect.getMetadataKeys(method).some((key) => String(key).startsWith('websockets:message_mapping'));

/** Whether it is called for an operation of GraphQL. */
export const isOperation = (method: object): boolean =>
  Reflect.getMetadataKeys(method).some((key) => String(key).startsWith('graphql:'));

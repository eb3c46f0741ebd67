import * as common from '@nestjs/common';
import type { Type } from '@nestjs/common';
import { GUARDS_METADATA } from '@nestjs/common/constants.js';
import { handlersOf, isMessageHandler } from './handlers.js';
import { ROUTE } from './route.js';
import { SingleSessionGuard } from './single-session.guard.js';

// Nest tells its version in package.json alone, which a bundled application does not have. This came with Nest 12.
const IS_NEST_12 = 'StandardSchemaValidationPipe' in common;

/**
 * What is wrong with these gateways, if a global guard is to check their messages: before version 12, Nest runs no global
 * guards for messages on a WebSocket, and those of ended sessions would pass.
 */
export function gatewayComplaint(classes: readonly unknown[], isNest12 = IS_NEST_12): string | undefined {
  if (isNest12) return undefined;
  const name = classes.filter(isClass).find((gateway) => !isGuarded(gateway))?.name;
  if (name === undefined) return undefined;
  return (
    `Nest 11 runs no global guards for messages on a WebSocket, so nestjs-single-session would let messages of ended sessions pass to ${name}. ` +
    'Write @UseGuards(SingleSessionGuard) above its class, or @SkipSingleSession() if nobody signs in there. From Nest 12 on neither is needed.'
  );
}

const isClass = (item: unknown): item is Type => typeof item === 'function';

const isGuarded = (gateway: Type): boolean =>
  isCovered(gateway) || [...handlersOf(gateway.prototype)].filter(isMessageHandler).every(isCovered);

const isCovered = (target: object): boolean =>
  Reflect.hasMetadata(ROUTE, target) ||
  ((Reflect.getMetadata(GUARDS_METADATA, target) ?? []) as unknown[]).some(isOurs);

const isOurs = (guard: unknown): boolean =>
  guard instanceof SingleSessionGuard ||
  guard === SingleSessionGuard ||
  (isClass(guard) && guard.prototype instanceof SingleSessionGuard);

import { createRequire } from 'node:module';
import type { Type } from '@nestjs/common';
import { GUARDS_METADATA } from '@nestjs/common/constants.js';
import { handlersOf, isMessageHandler } from './handlers.js';
import { ROUTE } from './route.js';
import { SingleSessionGuard } from './single-session.guard.js';

/** Before this version, Nest runs no global guards for messages on a WebSocket. */
const GUARDS_MESSAGES = 12;

/**
 * What is wrong with these gateways, if a global guard is to check their messages: on Nest 11 it does not, and messages of
 * ended sessions would pass. Which version runs is read from the package that the application has.
 */
export function gatewayComplaint(
  classes: readonly unknown[],
  nestMajor: number = installedMajor(),
): string | undefined {
  if (nestMajor >= GUARDS_MESSAGES) return undefined;
  const name = classes.filter(isClass).find((gateway) => !isGuarded(gateway))?.name;
  if (name === undefined) return undefined;
  return (
    `Nest ${nestMajor} runs no global guards for messages on a WebSocket, so nestjs-single-session would let messages of ended sessions pass to ${name}. ` +
    `Write @UseGuards(SingleSessionGuard) above its class, or @SkipSingleSession() if nobody signs in there. From Nest 12 on neither is needed.`
  );
}

function installedMajor(): number {
  const { version } = createRequire(import.meta.url)('@nestjs/core/package.json') as { version: string };
  return Number.parseInt(version, 10);
}

const isClass = (item: unknown): item is Type => typeof item === 'function' && item.prototype !== undefined;

const isGuarded = (gateway: Type): boolean =>
  isCovered(gateway) || [...handlersOf(gateway)].filter(isMessageHandler).every(isCovered);

const isCovered = (target: object): boolean =>
  Reflect.hasMetadata(ROUTE, target) ||
  ((Reflect.getMetadata(GUARDS_METADATA, target) ?? []) as unknown[]).some(isOurs);

const isOurs = (guard: unknown): boolean =>
  guard instanceof SingleSessionGuard ||
  guard === SingleSessionGuard ||
  (isClass(guard) && guard.prototype instanceof SingleSessionGuard);

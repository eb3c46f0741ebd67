import * as common from '@nestjs/common';
import { applyDecorators, UseGuards } from '@nestjs/common';
import { SingleSessionGuard } from '../../src/index.js';

/** It came with Nest 12, which has no number to ask for. */
export const isNest12 = 'StandardSchemaValidationPipe' in common;

/** What a gateway needs above its class on Nest 11, which runs no global guards for messages. */
export const GuardedMessages = (): ClassDecorator =>
  isNest12 ? applyDecorators() : UseGuards(SingleSessionGuard);

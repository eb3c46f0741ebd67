import {
  applyDecorators,
  Controller,
  SerializeOptions,
  UseGuards,
  UseInterceptors,
  VERSION_NEUTRAL,
  type CanActivate,
  type Type,
} from '@nestjs/common';
import { NeverCached } from '../http/never-cached.js';
import { SingleSessionGuard } from '../http/single-session.guard.js';
import { AnswersInterceptor } from './answers.interceptor.js';
import { applicationGuards } from './application-guards.js';

/** Where a controller of ours stands, and behind which guards of the application. */
export interface ControllerSettings {
  path: string;
  guards: readonly (Type<CanActivate> | CanActivate)[];
}

/** Makes a class a controller of ours: behind the application's guards, the check of the session and `more`, in this order; its answers are kept and changed by nobody. */
export const Mounted = ({ path, guards }: ControllerSettings, ...more: Type<CanActivate>[]): ClassDecorator =>
  applyDecorators(
    Controller({ path, version: VERSION_NEUTRAL }),
    UseGuards(applicationGuards(guards), SingleSessionGuard, ...more),
    UseInterceptors(AnswersInterceptor),
    NeverCached(),
    // No class describes the answers: a global ClassSerializerInterceptor that leaves out what no class shows would empty them.
    SerializeOptions({ strategy: 'exposeAll' }),
  );

import { ConfigurableModuleBuilder } from '@nestjs/common';
import { DEFAULT_EXTRAS, type SingleSessionModuleExtras } from './single-session.extras.js';
import type { SingleSessionOptions } from './single-session.options.js';

export const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN, OPTIONS_TYPE, ASYNC_OPTIONS_TYPE } =
  new ConfigurableModuleBuilder<SingleSessionOptions>({ moduleName: 'SingleSession' })
    .setClassMethodName('forRoot')
    .setExtras<SingleSessionModuleExtras>(DEFAULT_EXTRAS)
    .build();

/** What `forRootAsync()` takes. */
export type SingleSessionAsyncOptions = typeof ASYNC_OPTIONS_TYPE;

import { ConfigurableModuleBuilder } from '@nestjs/common';
import type { SingleSessionModuleExtras } from './single-session.extras.js';
import type { SingleSessionOptions } from './single-session.options.js';

const EXTRAS: SingleSessionModuleExtras = {
  dataSource: undefined,
  isGlobal: true,
  enforceGlobally: true,
  admin: undefined,
  selfService: undefined,
};

export const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN, OPTIONS_TYPE, ASYNC_OPTIONS_TYPE } =
  new ConfigurableModuleBuilder<SingleSessionOptions>({ moduleName: 'SingleSession' })
    .setClassMethodName('forRoot')
    .setExtras(EXTRAS, (definition, { isGlobal }) => ({ ...definition, global: isGlobal ?? true }))
    .build();

/** What `forRootAsync()` takes. */
export type SingleSessionAsyncOptions = typeof ASYNC_OPTIONS_TYPE;

import { SerializeOptions } from '@nestjs/common';

/** Keeps a global `ClassSerializerInterceptor` that leaves out whatever no class shows from emptying the answers of a controller: no class describes them. */
export const AsItIs = (): ClassDecorator => SerializeOptions({ strategy: 'exposeAll' }) as ClassDecorator;

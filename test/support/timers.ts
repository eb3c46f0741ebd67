import { getActiveResourcesInfo } from 'node:process';

/** How many timers keep this process alive. */
export const timers = (): number => getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

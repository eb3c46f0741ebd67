import { chromium, type Browser } from 'playwright-core';
import { findExecutable } from './executable.js';

const SWITCHES = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-background-networking',
  '--disable-component-update',
  '--no-first-run',
];

/** The Chromium of CHROMIUM_PATH, or else the first on PATH; `undefined` on a machine without one. */
export const findChromium = (): string | undefined =>
  process.env['CHROMIUM_PATH'] || findExecutable(['chromium', 'chromium-browser', 'google-chrome']);

/** Starts it, without a window and without a request of its own to anywhere. */
export function launchChromium(executablePath: string): Promise<Browser> {
  return chromium.launch({ executablePath, args: SWITCHES });
}

import { afterEach, beforeEach, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { A_MINUTE_MS, ThrottledLogger } from '../../src/session/throttled-logger.js';

let said: unknown[];

beforeEach(() => {
  jest.useFakeTimers();
  said = [];
  for (const level of ['warn', 'error'] as const)
    jest.spyOn(Logger.prototype, level).mockImplementation((text) => void said.push(text));
});

afterEach(() => {
  jest.useRealTimers();
  jest.restoreAllMocks();
});

it('says each thing once, whatever the text and however long ago', () => {
  const logger = new ThrottledLogger();
  logger.warn('a cookie', 'first');
  logger.warn('a cookie', 'second');
  logger.warn('a token', 'third');
  jest.advanceTimersByTime(1_000 * A_MINUTE_MS);
  logger.warn('a cookie', 'fourth');
  expect(said).toEqual(['first', 'third']);
});

it('says it again when the time is over, counted from when it was said', () => {
  const logger = new ThrottledLogger(A_MINUTE_MS);
  logger.error('gone', 'first');
  jest.advanceTimersByTime(A_MINUTE_MS - 1);
  logger.error('gone', 'second');
  jest.advanceTimersByTime(1);
  logger.error('gone', 'third');
  logger.error('gone', 'fourth');
  expect(said).toEqual(['first', 'third']);
});

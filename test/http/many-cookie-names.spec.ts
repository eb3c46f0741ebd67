import { EventEmitter } from 'node:events';
import { expect, it } from '@jest/globals';
import { browserOf, learnCookieName } from '../../src/http/browser.js';
import type { NodeResponse } from '../../src/http/response.js';

// By itself: what is learned is known to the whole process.
it('of an application that names a cookie anew for each login, eight names are learned', () => {
  const id = 'a'.repeat(32);
  const names = Array.from({ length: 20 }, (_, n) => `sid-${n}`);
  for (const name of names) {
    const answer = Object.assign(new EventEmitter(), { getHeader: () => `${name}=${id}` });
    learnCookieName(answer as unknown as NodeResponse, id);
    answer.emit('close');
  }
  const isLearned = (name: string): boolean =>
    browserOf({ headers: { cookie: `${name}=${id}` } }) !== undefined;
  expect(names.filter(isLearned)).toEqual(names.slice(0, 8));
});

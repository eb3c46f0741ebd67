import { EventEmitter } from 'node:events';
import { describe, expect, it, jest } from '@jest/globals';
import type { NodeResponse } from '../../src/http/request.js';
import { unlessAnswered } from '../../src/http/unless-answered.js';

/** Node's response as it is when its connection closes. */
function closing(state: Partial<NodeResponse>): { response: NodeResponse; close: () => void } {
  const events = new EventEmitter();
  const response = Object.assign(events, { destroyed: false, end: () => undefined, ...state });
  return { response: response as unknown as NodeResponse, close: () => void events.emit('close') };
}

describe('a login is taken back', () => {
  it.each([
    ['not when its answer has reached the client', { writableFinished: true, statusCode: 200 }, 0],
    ['when the client was gone before', { writableFinished: false, statusCode: 200 }, 1],
    [
      'when a time limit had answered 408 before it was admitted',
      { writableFinished: true, statusCode: 408 },
      1,
    ],
  ])('%s', (_, state, times) => {
    const undo = jest.fn(() => Promise.resolve());
    const { response, close } = closing(state);
    unlessAnswered(response, undo);
    close();
    expect(undo).toHaveBeenCalledTimes(times);
  });
});

import { beforeEach, describe, expect, it } from '@jest/globals';
import { Lifecycle } from '../../src/lifecycle.js';

type Parts = ConstructorParameters<typeof Lifecycle>;

/** What has come to its end, in this order. */
const over: string[] = [];

const ends = (name: string) => (): void => void over.push(name);

/** Comes to its end so many turns of the event loop later than it is told to. */
const endsLater = (name: string, turns: number) => async (): Promise<void> => {
  for (let n = 0; n < turns; n++) await new Promise(setImmediate);
  over.push(name);
};

const parts: unknown[] = [
  {},
  {},
  { run: endsLater('the judgement of the platform', 3) },
  { prepare: endsLater('the look at the tables', 2) },
  { start: endsLater('the start of the listener', 1), stop: endsLater('the listener', 1) },
  { start: ends('the start of the sweep'), stop: endsLater('the sweep', 2) },
  { close: ends('the watches') },
  { close: ends('the sessions') },
  { close: endsLater('the writing', 2) },
  { close: ends('the events') },
];
const lifecycle = new Lifecycle(...(parts as Parts));

beforeEach(() => {
  over.length = 0;
});

it('an application that starts listens and sweeps only where it may, and in tables that are there', async () => {
  await lifecycle.begin();
  expect(over).toEqual([
    'the judgement of the platform',
    'the look at the tables',
    'the start of the listener',
    'the start of the sweep',
  ]);
});

describe('an application that closes', () => {
  it('waits for what is being swept and written, since the data source may go next, and then for the listener', async () => {
    await lifecycle.end();
    expect(over).toEqual(['the watches', 'the sweep', 'the writing', 'the listener']);
  });

  it('writes down what the last requests did before the events, which tell of it, are over', async () => {
    await lifecycle.afterLastAnswer();
    expect(over).toEqual(['the sessions', 'the writing', 'the events']);
  });
});

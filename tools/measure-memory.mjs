// node tools/measure-memory.mjs [how many] - what a remembered verdict of bounded freshness costs, in bytes, after a build.
import { randomUUID } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Verdicts } from '../dist/src/session/verdicts.js';

const COUNT = Number(process.argv[2] ?? 1_000_000);
const BATCH = 64;
setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc');

/** Heap and array buffers: typed arrays are not on the heap. */
function bytes() {
  collectGarbage();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const before = bytes();
const verdicts = new Verdicts(60_000, COUNT);
const empty = bytes() - before;
fill(verdicts);
const each = (bytes() - before) / COUNT;
console.log(
  `${COUNT.toLocaleString('en-US')} verdicts: ${each.toFixed(0)} bytes each, with the id of the session, and the id and the roles of its user`,
);
console.log(
  `of that ${(empty / COUNT).toFixed(0)} bytes each from the start, for the places that are kept free`,
);
fill(verdicts);
console.log(
  `after as many other sessions: ${((bytes() - before) / COUNT).toFixed(0)} bytes each, ${verdicts.size.toLocaleString('en-US')} verdicts`,
);

/** Flat, as a string that was received is; what randomUUID() returns is many small ones, chained. */
function received() {
  return Buffer.from(randomUUID()).toString();
}

/** As checks come: some with one query, each id and each user id a string of its own. */
function fill(target) {
  for (let n = 0; n < COUNT;) {
    const moment = target.moment();
    for (let inBatch = 0; inBatch < BATCH && n < COUNT; inBatch++, n++) {
      const roles = Buffer.from('user').toString();
      const rest = { unmarked: false, unseen: false, roles, administrator: false };
      const result = { live: true, userId: received(), ...rest };
      target.remember({ id: received(), limit: 1 }, result, moment);
    }
  }
}

import { describe, expect, it } from '@jest/globals';
import type { ExecutionContext } from '@nestjs/common';
import { SameOriginGuard } from '../../src/admin/same-origin.guard.js';

type Headers = Record<string, string>;
type More = { body?: unknown; stream?: object; raw?: { stream: object } };

const JSON_TYPE = { 'content-type': 'application/json' };
const FORM = { 'content-type': 'application/x-www-form-urlencoded' };
const TOKEN = { authorization: 'Bearer token' };
const LENGTH = { 'content-length': '17' };
const CHUNKED = { 'transfer-encoding': 'chunked' };

/** The status of the refusal, or 200. */
function answerTo(headers: Headers, more: More = {}): number {
  const request = { method: 'POST', headers, ...more };
  const context = { switchToHttp: () => ({ getRequest: () => request }) };
  try {
    new SameOriginGuard().canActivate(context as unknown as ExecutionContext);
    return 200;
  } catch (error) {
    return (error as { getStatus(): number }).getStatus();
  }
}

describe('over HTTP/2, which has no Host', () => {
  it.each<[string, Headers, number]>([
    ['the own origin is let in', { ':authority': 'example.org', origin: 'https://example.org' }, 200],
    ['another origin is not', { ':authority': 'example.org', origin: 'https://evil.example' }, 403],
    ['nor is one beside no name of a host', { origin: 'https://evil.example' }, 403],
    ['nor one that is called as nothing is', { origin: 'http://undefined' }, 403],
  ])('%s', (_, headers, status) => {
    expect(answerTo(headers)).toBe(status);
  });

  it.each(['stream', 'raw'])('a body is one without a length, too, as %s says', (where) => {
    const of = (endAfterHeaders: boolean): More =>
      where === 'stream' ? { stream: { endAfterHeaders } } : { raw: { stream: { endAfterHeaders } } };
    expect(answerTo({}, of(true))).toBe(200);
    expect(answerTo({}, of(false))).toBe(415);
    expect(answerTo(JSON_TYPE, { ...of(false), body: {} })).toBe(200);
  });
});

describe('in a browser that says no more than an Origin', () => {
  it.each<[string, Headers, number]>([
    ['the own one is let in, however the host is written', { host: 'Example.ORG:8443' }, 200],
    ['one of another port is not', { host: 'example.org' }, 403],
  ])('%s', (_, host, status) => {
    expect(answerTo({ origin: 'https://example.org:8443', ...host })).toBe(status);
  });
});

describe('from another site', () => {
  const ELSEWHERE = { ...JSON_TYPE, origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' };

  it.each<[string, Headers, number]>([
    ['a token alone is let in: no browser sends it on its own', TOKEN, 200],
    ['a cookie is not', { cookie: 'jwt=x' }, 403],
    ['a cookie beside a token that anybody can make up is not', { ...TOKEN, cookie: 'jwt=x' }, 403],
  ])('%s [S5]', (_, headers, status) => {
    expect(answerTo({ ...ELSEWHERE, ...headers })).toBe(status);
  });
});

describe('a body', () => {
  it.each<[string, Headers, More, number]>([
    ['of JSON that a parser read is let in', { ...JSON_TYPE, ...LENGTH }, { body: {} }, 200],
    ['of JSON that no parser read is refused', { ...JSON_TYPE, ...LENGTH }, {}, 415],
    ['of JSON that no parser read is refused by token, too', { ...JSON_TYPE, ...LENGTH, ...TOKEN }, {}, 415],
    ['that comes in chunks, of no type, is refused', { ...CHUNKED, ...TOKEN }, {}, 415],
    ['of a form is refused, although a parser read it', { ...FORM, ...LENGTH, ...TOKEN }, { body: {} }, 415],
    ['that is none needs no type', {}, {}, 200],
    ['that is none, of a form, is refused: a browser may have been made to send it', FORM, {}, 415],
    ['that is none, of a form, is let in with a token', { ...FORM, ...TOKEN }, {}, 200],
  ])('%s', (_, headers, more, status) => {
    expect(answerTo(headers, more)).toBe(status);
  });
});

import { describe, expect, it } from '@jest/globals';
import type { ExecutionContext } from '@nestjs/common';
import { SameOriginGuard } from '../../src/admin/same-origin.guard.js';

type Headers = Record<string, string>;

function isLetIn(headers: Headers): boolean {
  const context = { switchToHttp: () => ({ getRequest: () => ({ method: 'DELETE', headers }) }) };
  try {
    return new SameOriginGuard().canActivate(context as unknown as ExecutionContext);
  } catch {
    return false;
  }
}

describe('over HTTP/2, which has no Host', () => {
  it.each<[string, Headers, boolean]>([
    ['the own origin', { ':authority': 'example.org', origin: 'https://example.org' }, true],
    ['another origin', { ':authority': 'example.org', origin: 'https://evil.example' }, false],
    ['no name of a host at all', { origin: 'https://evil.example' }, false],
    ['an origin that is called as nothing is', { origin: 'http://undefined' }, false],
  ])('%s', (_, headers, letIn) => {
    expect(isLetIn(headers)).toBe(letIn);
  });
});

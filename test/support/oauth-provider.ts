import {
  OAuth2Server,
  type MutableRedirectUri,
  type MutableResponse,
  type MutableToken,
} from 'oauth2-mock-server';
import type { Answer, Browser } from './client.js';

/** An OAuth 2.0 provider on this machine, at which everybody who comes is signed in already. */
export interface OAuthProvider {
  url: string;
  stop(): Promise<void>;
}

/** What the provider's events say of a request. */
interface ProviderRequest {
  query: { login_hint?: string };
  body: { code?: string };
  headers: { authorization?: string };
}

/** The profile's `sub` is what the authorization request named as `login_hint`, and a code works once. */
export async function startProvider(): Promise<OAuthProvider> {
  const server = new OAuth2Server();
  const subjects = new Map<string, string>();
  await server.issuer.keys.generate('RS256');
  server.service.on('beforeAuthorizeRedirect', ({ url }: MutableRedirectUri, { query }: ProviderRequest) => {
    subjects.set(url.searchParams.get('code')!, query.login_hint ?? 'nobody');
  });
  server.service.on('beforeTokenSigning', ({ payload }: MutableToken, { body }: ProviderRequest) => {
    payload['sub'] = subjects.get(body.code!) ?? 'nobody';
  });
  server.service.on('beforeResponse', (response: MutableResponse, { body }: ProviderRequest) => {
    if (!subjects.delete(body.code!))
      Object.assign(response, { statusCode: 400, body: { error: 'invalid_grant' } });
  });
  server.service.on('beforeUserinfo', (response: MutableResponse, { headers }: ProviderRequest) => {
    response.body = { sub: subjectOf(headers.authorization ?? '') };
  });
  await server.start(0, '127.0.0.1');
  return { url: `http://127.0.0.1:${server.address().port}`, stop: () => server.stop() };
}

/** Goes where the application sends the browser, and from there back with the code. */
export async function throughProvider(browser: Browser, path: string, username: string): Promise<Answer> {
  const callback = await callbackOf(await browser.get(path), username);
  return browser.get(callback);
}

/** The provider's answer to an authorization request: where it sends the browser. */
export async function callbackOf({ headers }: Answer, username: string): Promise<string> {
  const question = new URL(headers.get('location')!);
  question.searchParams.set('login_hint', username);
  const answer = await fetch(question, { redirect: 'manual' });
  const { pathname, search } = new URL(answer.headers.get('location')!);
  return pathname + search;
}

function subjectOf(authorization: string): unknown {
  const [, payload = ''] = authorization.split('.');
  return (JSON.parse(Buffer.from(payload, 'base64url').toString()) as { sub: unknown }).sub;
}

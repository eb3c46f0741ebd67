// A connection of its own for each request of fetch. Servers hang up on connections that nobody used for some seconds,
// and a client that is busy meanwhile (starting a browser, say) learns of it when it has sent its next request.
const { fetch } = globalThis;

globalThis.fetch = (input, init) => {
  const headers = new Headers(init?.headers);
  headers.set('connection', 'close');
  return fetch(input, { ...init, headers });
};

export {};

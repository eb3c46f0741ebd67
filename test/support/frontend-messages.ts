const SSL_REQUEST = 80877103;
const GSS_ENCRYPTION_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;
const UNTYPED_HEADER = 4;
const TYPED_HEADER = 5;

/** What a client says to PostgreSQL, as far as counting statements needs it. */
export type FrontendMessage =
  | { kind: 'encryption-request' }
  | { kind: 'cancel-request' }
  | { kind: 'query'; text: string }
  | { kind: 'parse'; statement: string; text: string }
  | { kind: 'bind'; portal: string; statement: string }
  | { kind: 'execute'; portal: string }
  | { kind: 'other' };

/** Cuts the bytes of one connection into messages; a message may come in pieces, and many may come at once. */
export class FrontendMessages {
  private rest: Buffer = Buffer.alloc(0);
  private started = false;

  /** The messages which this chunk completes, each with its bytes. */
  *read(chunk: Buffer): Generator<{ message: FrontendMessage; bytes: Buffer }> {
    this.rest = Buffer.concat([this.rest, chunk]);
    for (let bytes = this.next(); bytes; bytes = this.next()) {
      yield { message: this.started ? parseTyped(bytes) : this.parseOpening(bytes), bytes };
    }
  }

  private next(): Buffer | undefined {
    const header = this.started ? TYPED_HEADER : UNTYPED_HEADER;
    if (this.rest.length < header) return undefined;
    const length = this.rest.readInt32BE(header - 4) + header - 4;
    if (this.rest.length < length) return undefined;
    const bytes = this.rest.subarray(0, length);
    this.rest = this.rest.subarray(length);
    return bytes;
  }

  /** The first messages of a connection have no type byte: any number of requests for encryption, then the start-up. */
  private parseOpening(bytes: Buffer): FrontendMessage {
    const code = bytes.readInt32BE(UNTYPED_HEADER);
    if (code === SSL_REQUEST || code === GSS_ENCRYPTION_REQUEST) return { kind: 'encryption-request' };
    this.started = true;
    return { kind: code === CANCEL_REQUEST ? 'cancel-request' : 'other' };
  }
}

function parseTyped(bytes: Buffer): FrontendMessage {
  const [first = '', second = ''] = strings(bytes.subarray(TYPED_HEADER));
  switch (String.fromCharCode(bytes[0])) {
    case 'Q':
      return { kind: 'query', text: first };
    case 'P':
      return { kind: 'parse', statement: first, text: second };
    case 'B':
      return { kind: 'bind', portal: first, statement: second };
    case 'E':
      return { kind: 'execute', portal: first };
    default:
      return { kind: 'other' };
  }
}

/** The first two zero-terminated strings of a message's body. */
function strings(body: Buffer): string[] {
  const firstEnd = body.indexOf(0);
  const secondEnd = body.indexOf(0, firstEnd + 1);
  return [
    body.toString('utf8', 0, Math.max(firstEnd, 0)),
    body.toString('utf8', firstEnd + 1, Math.max(secondEnd, firstEnd + 1)),
  ];
}

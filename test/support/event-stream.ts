/** An event that a server sent. */
export interface StreamEvent {
  type: string;
  /** As JSON, or as it is. */
  data: unknown;
}

/** A client of server-sent events: what an EventSource does, without connecting again. */
export class EventStream {
  readonly events: StreamEvent[] = [];
  readonly comments: string[] = [];
  /** Resolves when the server has ended the stream. */
  readonly ended: Promise<void>;
  private readonly waiting = new Set<() => void>();

  private constructor(
    readonly response: Response,
    /** Of a refusal. */
    readonly body: unknown,
    private readonly aborting: AbortController,
  ) {
    this.ended = this.read().catch(() => undefined);
  }

  /** Resolves when the head of the answer is there; a refusal is an answer too. */
  static async open(url: string, headers: Record<string, string> = {}): Promise<EventStream> {
    const aborting = new AbortController();
    const response = await fetch(url, {
      headers: { accept: 'text/event-stream', ...headers },
      signal: aborting.signal,
    });
    const body: unknown = response.ok ? undefined : await response.json();
    return new EventStream(response, body, aborting);
  }

  get status(): number {
    return this.response.status;
  }

  /** The first event of this type, which may have come already. */
  async next(type: string): Promise<unknown> {
    for (;;) {
      const event = this.events.find((one) => one.type === type);
      if (event !== undefined) return event.data;
      await this.more();
    }
  }

  /** Waits for a comment: on the streams of this package the first says that the session is being watched. */
  async beat(): Promise<void> {
    while (this.comments.length === 0) await this.more();
  }

  /** As a browser that closes the tab. */
  close(): void {
    this.aborting.abort();
  }

  private async more(): Promise<void> {
    let isOver = false;
    void this.ended.then(() => (isOver = true));
    await Promise.race([new Promise<void>((resolve) => this.waiting.add(resolve)), this.ended]);
    if (isOver) throw new Error(`The stream ended after ${JSON.stringify(this.events)}.`);
  }

  private async read(): Promise<void> {
    let text = '';
    const decoder = new TextDecoder();
    if (this.response.bodyUsed) return;
    for await (const chunk of this.response.body!) {
      const blocks = (text + decoder.decode(chunk as Uint8Array, { stream: true })).split('\n\n');
      text = blocks.pop()!;
      for (const block of blocks) this.take(block);
      for (const wake of this.waiting) wake();
      this.waiting.clear();
    }
  }

  private take(block: string): void {
    const lines = block.split('\n').filter((line) => line !== '');
    const valueOf = (field: string): string | undefined =>
      lines.find((line) => line.startsWith(`${field}: `))?.slice(field.length + 2);
    // Before 11.2, Nest knows no comments: an event of nothing but an id, which a browser does not see either.
    if (lines.every((line) => /^(:|id: )/.test(line))) this.comments.push(...lines);
    const data = valueOf('data');
    if (data !== undefined) this.events.push({ type: valueOf('event') ?? 'message', data: parsed(data) });
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

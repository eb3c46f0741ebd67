import { HttpClient, login, type Credential } from '../support/http-client.js';
import type { Recorded } from './history.js';

/** A session as its client knows it. */
export interface ClientSession {
  name: string;
  user: string;
  credential: Credential;
  /** When the answer to its login was there. */
  answeredAt: number;
}

export type Outcome = 'accepted' | 'ended' | 'unavailable';

const OUTCOMES: Record<number, Outcome> = { 200: 'accepted', 401: 'ended', 503: 'unavailable' };

/** The clients of some processes, who write down everything that they see. One clock: they are one process. */
export class Recorder {
  readonly history: Recorded[] = [];
  private readonly client = new HttpClient();
  private sessions = 0;

  constructor(private readonly urls: readonly string[]) {}

  /** Signs in at a process. Throws when that fails. */
  async login(process: number, user: string): Promise<ClientSession> {
    const sentAt = performance.now();
    const { status, credential, text } = await login(this.client, this.urls[process]!, user, 'token');
    const answeredAt = performance.now();
    if (status !== 200 || credential === undefined)
      throw new Error(`A login was answered ${status}: ${text}`);
    const name = `${user}-${++this.sessions}`;
    this.history.push({ kind: 'login', process, session: name, user, sentAt, answeredAt });
    return { name, user, credential, answeredAt };
  }

  /** Shows the session to a process. */
  async ask(process: number, { name, user, credential }: ClientSession): Promise<Outcome> {
    const sentAt = performance.now();
    const { status } = await this.client.send(`${this.urls[process]!}/me`, { headers: { ...credential } });
    const answeredAt = performance.now();
    const outcome = OUTCOMES[status];
    if (outcome === undefined) throw new Error(`GET /me was answered ${status}`);
    this.history.push({ kind: 'request', outcome, process, session: name, user, sentAt, answeredAt });
    return outcome;
  }

  async logout(process: number, { name, user, credential }: ClientSession): Promise<void> {
    const sentAt = performance.now();
    const url = `${this.urls[process]!}/logout`;
    const { status } = await this.client.send(url, { method: 'POST', headers: { ...credential } });
    const answeredAt = performance.now();
    if (status !== 204) throw new Error(`A logout was answered ${status}`);
    this.history.push({ kind: 'end', process, session: name, user, sentAt, answeredAt });
  }

  /** Shows no session, and needs no database. */
  async fetchStylesheet(process: number): Promise<void> {
    const { status } = await this.client.send(`${this.urls[process]!}/demo.css`);
    if (status !== 200) throw new Error(`GET /demo.css was answered ${status}`);
  }

  /** Shows the session to each of the processes, until it is accepted and so remembered there. */
  async remembered(session: ClientSession, processes: readonly number[]): Promise<void> {
    await Promise.all(
      processes.map(async (process) => {
        while ((await this.ask(process, session)) !== 'accepted');
      }),
    );
  }

  /** Shows the session to a process again and again until it is refused. How long that took, in milliseconds from `since`. */
  async refusedAfter(process: number, session: ClientSession, since: number): Promise<number> {
    for (;;) {
      if ((await this.ask(process, session)) === 'ended') return performance.now() - since;
      // No event tells a client. And all share two cores: asking without pause would be most of what is measured.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** When the last of the requests was sent that were accepted. */
  lastAcceptance({ name }: ClientSession): number {
    const sent = this.history.map((one) =>
      one.kind === 'request' && one.session === name && one.outcome === 'accepted' ? one.sentAt : -Infinity,
    );
    return sent.reduce((latest, sentAt) => Math.max(latest, sentAt), -Infinity);
  }

  close(): void {
    this.client.close();
  }
}

import { Signal, type Changes, type SignalListener } from '../../src/session/signal.js';
import { gate, type Gate } from './fake-store.js';

/** Hears what the test says, and keeps what it was told. */
export class FakeSignal extends Signal {
  readonly told: (number[] | 'everything')[] = [];
  listener: SignalListener | undefined;
  stopped = false;
  telling: Gate<void> | undefined;
  private stopping: Gate<void> | undefined;

  async start(listener: SignalListener): Promise<void> {
    this.listener = listener;
  }

  async tell(changes: Changes): Promise<void> {
    this.told.push(changes === 'everything' ? changes : [...changes]);
    await this.telling?.promise;
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.stopping?.promise;
  }

  /** From now on, what is told stays under way until the gate opens. */
  holdTelling(): Gate<void> {
    return (this.telling = gate());
  }

  /** The next stop takes until the gate opens. */
  holdStopping(): Gate<void> {
    return (this.stopping = gate());
  }
}

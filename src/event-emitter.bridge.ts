import { Inject, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { DiscoveryService } from '@nestjs/core';
import { SingleSessionEvents } from './session/events.js';

interface Emitter {
  emit(event: string, payload: unknown): unknown;
  /** What tells it from Node's own. */
  emitAsync(event: string, payload: unknown): Promise<unknown>;
}

/**
 * Hands every event to the application's `EventEmitter2` of `@nestjs/event-emitter`, where it has one, as
 * `single-session.<type>`: `@OnEvent('single-session.ended')`. Found by its name, so that the package asks for no peer.
 */
@Injectable()
export class EventEmitterBridge implements OnApplicationBootstrap {
  private readonly logger = new Logger('SingleSession');

  constructor(
    @Inject(SingleSessionEvents) private readonly events: SingleSessionEvents,
    @Inject(DiscoveryService) private readonly discovery: DiscoveryService,
  ) {}

  onApplicationBootstrap(): void {
    const emitter = this.emitter();
    if (emitter === undefined) return;
    this.events.all.subscribe((event) => {
      try {
        emitter.emit(`single-session.${event.type}`, event);
      } catch (error) {
        this.logger.error(`A listener of single-session.${event.type} failed.`, (error as Error).stack);
      }
    });
  }

  private emitter(): Emitter | undefined {
    const found = this.discovery
      .getProviders()
      // Nest takes the name of the class, and eventemitter2 calls its class by either.
      .find(({ name, instance }) => /^EventEmitter2?$/.test(String(name)) && isEmitter(instance));
    return found?.instance as Emitter | undefined;
  }
}

function isEmitter(instance: unknown): boolean {
  const { emit, emitAsync } = (instance ?? {}) as Partial<Emitter>;
  return typeof emit === 'function' && typeof emitAsync === 'function';
}

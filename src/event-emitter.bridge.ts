import { Inject, Injectable, Logger, type OnApplicationBootstrap } from '@nestjs/common';
import { DiscoveryService } from '@nestjs/core';
import { hasMethods } from './http/has-methods.js';
import { SingleSessionEvents } from './session/events.js';

interface Emitter {
  emit(event: string, payload: unknown): unknown;
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
      // Only EventEmitter2 has emitAsync(): Node's own EventEmitter may go by the same name.
      .find(
        ({ name, instance }) =>
          /^EventEmitter2?$/.test(String(name)) && hasMethods(instance, 'emit', 'emitAsync'),
      );
    return found?.instance as Emitter | undefined;
  }
}

import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { DiscoveryService } from '@nestjs/core';
import { SessionStore } from './session/session-store.js';
import { MODULE_OPTIONS_TOKEN } from './single-session.module-definition.js';

/**
 * Stops the start when the options or the data source are made anew for each request. So is then what needs them, of
 * which Nest calls no hook; and as a global guard Nest refuses it or, in some versions, leaves it out without a word.
 * Needs neither itself, or its own hook would not be called.
 */
@Injectable()
export class ScopeCheck implements OnModuleInit {
  constructor(@Inject(DiscoveryService) private readonly discovery: DiscoveryService) {}

  onModuleInit(): void {
    if (!this.isMadeOnce(MODULE_OPTIONS_TOKEN)) throw new Error(OPTIONS_PER_REQUEST);
    if (!this.isMadeOnce(SessionStore)) throw new Error(DATA_SOURCE_PER_REQUEST);
  }

  private isMadeOnce(token: unknown): boolean {
    return this.discovery
      .getProviders()
      .filter((provider) => provider.token === token)
      .every((provider) => provider.isDependencyTreeStatic());
  }
}

const OPTIONS_PER_REQUEST =
  'The options of SingleSessionModule.forRootAsync() are made anew for each request, since the provider that makes them, or something that it injects, has the scope REQUEST; nestjs-single-session reads them once, at the start. ' +
  'Leave the scope out, and inject neither REQUEST nor what needs it. If an option depends on the user, make it a function: maxSessions: (user) => (user.isPremium ? 3 : 1).';

// Beside its options, which are judged first, nothing but the data source can give the store a scope.
const DATA_SOURCE_PER_REQUEST =
  'The data source that nestjs-single-session keeps its sessions in is made anew for each request, since its options or what they need have the scope REQUEST. ' +
  "Add one that is opened once, at the start, with TypeOrmModule.forRoot({ name: 'sessions', type: 'postgres', ... }) and write dataSource: 'sessions' in the options of SingleSessionModule.";

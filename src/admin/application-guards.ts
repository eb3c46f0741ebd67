import {
  Inject,
  Injectable,
  mixin,
  type CanActivate,
  type ExecutionContext,
  type OnApplicationBootstrap,
  type Type,
} from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { isObservable, lastValueFrom } from 'rxjs';

/** Asks the application's guards in their order. A guard that one of its modules provides is taken from there, so that it has its dependencies. */
export function applicationGuards(guards: readonly (Type<CanActivate> | CanActivate)[]): Type<CanActivate> {
  @Injectable()
  class ApplicationGuards implements CanActivate, OnApplicationBootstrap {
    // Until they are there, a request fails.
    private instances!: CanActivate[];

    constructor(@Inject(ModuleRef) private readonly modules: ModuleRef) {}

    /** Stops the start when a guard needs what nobody provides. */
    async onApplicationBootstrap(): Promise<void> {
      this.instances = await Promise.all(guards.map((guard) => this.instanceOf(guard)));
    }

    async canActivate(context: ExecutionContext): Promise<boolean> {
      for (const guard of this.instances) {
        const answer = guard.canActivate(context);
        if (!(await (isObservable(answer) ? lastValueFrom(answer) : answer))) return false;
      }
      return true;
    }

    private async instanceOf(guard: Type<CanActivate> | CanActivate): Promise<CanActivate> {
      if (typeof guard !== 'function') return guard;
      try {
        return this.modules.get(guard, { strict: false });
      } catch {
        return this.modules.create(guard);
      }
    }
  }
  return mixin(ApplicationGuards);
}

import {
  Inject,
  Injectable,
  mixin,
  Scope,
  type CanActivate,
  type ExecutionContext,
  type OnApplicationBootstrap,
  type Type,
} from '@nestjs/common';
import {
  PARAMTYPES_METADATA,
  SCOPE_OPTIONS_METADATA,
  SELF_DECLARED_DEPS_METADATA,
} from '@nestjs/common/constants.js';
import { ModuleRef } from '@nestjs/core';
import { isObservable, lastValueFrom } from 'rxjs';

/** Asks the application's guards in their order. A guard that one of its modules provides is taken from there, so that it has its dependencies. */
export function applicationGuards(guards: readonly (Type<CanActivate> | CanActivate)[]): Type<CanActivate> {
  @Injectable()
  class ApplicationGuards implements CanActivate, OnApplicationBootstrap {
    // Until they are there, a request fails.
    private instances!: CanActivate[];

    constructor(@Inject(ModuleRef) private readonly modules: ModuleRef) {}

    /** Stops the start when a guard needs what nobody provides, or what each request has of its own. */
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
      const scope = this.scopeOf(guard);
      const needed = scope === undefined ? dependenciesOf(guard).map((token) => this.scopeOf(token)) : [];
      if ([scope, ownScopeOf(guard), ...needed].includes(Scope.REQUEST)) throw new Error(perRequest(guard));
      return scope === undefined
        ? this.modules.create(guard)
        : this.modules.resolve(guard, undefined, { strict: false });
    }

    /** `undefined`: no module provides it. */
    private scopeOf(token: Type): Scope | undefined {
      try {
        return this.modules.introspect(token).scope;
      } catch {
        return undefined;
      }
    }
  }
  return mixin(ApplicationGuards);
}

const ownScopeOf = (guard: Type): Scope | undefined =>
  (Reflect.getMetadata(SCOPE_OPTIONS_METADATA, guard) as { scope?: Scope } | undefined)?.scope;

/** What its constructor takes. Nest before 11.2 makes a guard that nobody provides without what each request has of its own. */
function dependenciesOf(guard: Type): Type[] {
  const types = (Reflect.getMetadata(PARAMTYPES_METADATA, guard) ?? []) as Type[];
  const named = (Reflect.getMetadata(SELF_DECLARED_DEPS_METADATA, guard) ?? []) as {
    index: number;
    param: Type;
  }[];
  return types.map((type, place) => named.find(({ index }) => index === place)?.param ?? type);
}

const perRequest = ({ name }: Type): string =>
  `${name} is made anew for each request, since it or what it needs has the scope REQUEST; the guards of \`admin\` and \`selfService\` are made once, at the start. ` +
  `Leave the scope out, and take the request from context.switchToHttp().getRequest() in ${name}.canActivate(context).`;

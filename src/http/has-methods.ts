/**
 * Whether an instance has these methods. Asked with `in` first: a provider may be a Proxy that fails, or answers with
 * anything, when it is asked for what it does not have (nestjs-cls, automatic mocks).
 */
export function hasMethods<Name extends string>(
  instance: unknown,
  ...names: Name[]
): instance is Record<Name, (...parameters: unknown[]) => unknown> {
  if (typeof instance !== 'object' || instance === null) return false;
  const named = instance as Record<Name, unknown>;
  return names.every((name) => name in named && typeof named[name] === 'function');
}

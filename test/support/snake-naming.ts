import { DefaultNamingStrategy } from 'typeorm';

const snake = (name: string): string => name.replace(/([a-z\d])([A-Z])/g, '$1_$2').toLowerCase();

/** What the naming strategies that people install do: snake case for every name, given or not. */
export class SnakeNaming extends DefaultNamingStrategy {
  override tableName(className: string, given: string | undefined): string {
    return given ?? snake(className);
  }

  override columnName(property: string, given: string | undefined, prefixes: string[]): string {
    return snake([...prefixes, given ?? property].join('_'));
  }
}

/** A naming strategy that also renames tables that have a name. */
export class PluralSnakeNaming extends SnakeNaming {
  override tableName(className: string, given: string | undefined): string {
    return `${super.tableName(className, given)}s`;
  }
}

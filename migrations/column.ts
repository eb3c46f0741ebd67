import type { TableColumnOptions } from 'typeorm';

export const column = (
  name: string,
  type: string,
  options: Partial<TableColumnOptions> = {},
): TableColumnOptions => ({ name, type, ...options });

export const optional = { isNullable: true };
export const list = { isArray: true };

import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The first of these programs on PATH, or where Debian keeps its servers; `undefined` on a machine without one. */
export function findExecutable(names: readonly string[], { PATH = '' } = process.env): string | undefined {
  const places = [...PATH.split(delimiter).filter((place) => place !== ''), '/usr/sbin'];
  return names.flatMap((name) => places.map((place) => join(place, name))).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * A time of the database, whatever the application has the driver make of one: `pg.types.setTypeParser()` applies to our
 * statements, too, and the text of PostgreSQL is what most who use it ask for.
 * @throws TypeError for what cannot be read
 */
export function toDate(time: unknown): Date {
  const date = time instanceof Date ? time : new Date(time as string);
  if (Number.isFinite(date.getTime())) return date;
  throw new TypeError(
    `The parser that pg.types.setTypeParser() was given for timestamptz does not return a time (it returns: ${typeof time}). Let it give a Date, or the text as it is.`,
  );
}

export const toDateOrNull = (time: unknown): Date | null => (time === null ? null : toDate(time));

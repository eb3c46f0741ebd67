import { BadRequestException, ValidationPipe, type ArgumentMetadata, type Type } from '@nestjs/common';

/**
 * A pipe that turns a body or query into this class, or answers 400 in Nest's shape. The parameter itself is declared
 * `unknown`: a global pipe of the application must not convert it first, "false" to true for one.
 */
export const validated = (expectedType: Type): ValidationPipe =>
  new StrictValidationPipe({
    expectedType,
    transform: true,
    whitelist: true,
    forbidNonWhitelisted: true,
    forbidUnknownValues: true,
    stopAtFirstError: true,
  });

/** What any order of ours nests, and more: class-transformer goes as deep as it is led, and has only one stack. */
const MOST_NESTED = 8;

class StrictValidationPipe extends ValidationPipe {
  override transform(value: unknown, metadata: ArgumentMetadata): Promise<unknown> {
    // No body is an empty order. Before Nest 11.2.9 and 12.2.0 its pipe takes any list, number or text for one, too.
    if (value !== undefined && !isObject(value)) throw new BadRequestException(['expected an object']);
    // class-transformer leaves such keys out in silence, so that they would never be refused as unknown.
    const key = prototypeKeyIn(value, MOST_NESTED);
    if (key !== undefined) throw new BadRequestException([`property ${key} should not exist`]);
    return super.transform(value, metadata) as Promise<unknown>;
  }
}

const isObject = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A key, at any depth, that every object has by its prototype. */
function prototypeKeyIn(value: unknown, mayNest: number): string | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  if (mayNest === 0) throw new BadRequestException([`expected at most ${MOST_NESTED} levels`]);
  const own = Object.keys(value).find((key) => key in Object.prototype);
  if (own !== undefined) return own;
  return Object.values(value)
    .map((member) => prototypeKeyIn(member, mayNest - 1))
    .find((key) => key !== undefined);
}

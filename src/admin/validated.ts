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

class StrictValidationPipe extends ValidationPipe {
  override transform(value: unknown, metadata: ArgumentMetadata): Promise<unknown> {
    // class-transformer leaves it out in silence, so that it would never be refused as unknown.
    if (hasPrototypeKey(value)) throw new BadRequestException(['property __proto__ should not exist']);
    return super.transform(value, metadata) as Promise<unknown>;
  }
}

const hasPrototypeKey = (value: unknown): boolean =>
  typeof value === 'object' &&
  value !== null &&
  (Object.hasOwn(value, '__proto__') || Object.values(value).some(hasPrototypeKey));

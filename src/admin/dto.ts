import { applyDecorators } from '@nestjs/common';
import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsISO8601,
  IsObject,
  IsRFC3339,
  IsString,
  Length,
  Matches,
  Max,
  Min,
  ValidateIf,
  ValidateNested,
} from 'class-validator';

const LONGEST_NAME = 255;
const LONGEST_NOTE = 1_000;
/** Users in one order, by id and by name together. */
export const MOST_USERS = 1_000;

/** May be left out; `null` is not left out. */
const Optional = (): PropertyDecorator => ValidateIf((_, value) => value !== undefined);

// PostgreSQL stores UTF-8 without NUL.
const Text = (longest: number, shortest = 1, each = false): PropertyDecorator =>
  applyDecorators(
    IsString({ each }),
    Length(shortest, longest, { each }),
    Matches(/^[^\0\p{Surrogate}]*$/u, { each, message: '$property must be well-formed text without NUL' }),
  );

const Names = (): PropertyDecorator =>
  applyDecorators(Optional(), IsArray(), ArrayMaxSize(MOST_USERS), Text(LONGEST_NAME, 1, true));

const Note = (): PropertyDecorator => applyDecorators(Optional(), Text(LONGEST_NOTE, 0));

/** Which page of a list. */
export class PageQuery {
  @Type(() => Number)
  @Max(200)
  @Min(1)
  // The last is asked first: what is no number at all is said to be none.
  @IsInt()
  limit = 50;

  @Optional()
  @Text(100)
  cursor?: string;
}

export class SessionsQuery extends PageQuery {
  @Optional()
  @Text(LONGEST_NAME)
  userId?: string;

  @Optional()
  @Text(LONGEST_NAME)
  username?: string;

  @Optional()
  @Text(LONGEST_NAME)
  role?: string;

  @IsIn(['active', 'ended', 'all'])
  state: 'active' | 'ended' | 'all' = 'active';
}

/** What the bodies below are made of. */
export const MEMBERS_OF_ORDERS: readonly string[] = [
  'userIds',
  'usernames',
  'except',
  'note',
  'dryRun',
] satisfies (keyof LogoutBody | keyof LogoutEveryoneBody)[];

export class LogoutBody {
  @Names()
  userIds?: string[];

  @Names()
  usernames?: string[];

  @Note()
  note?: string;

  @Optional()
  @IsBoolean()
  dryRun?: boolean;
}

export class ExceptBody {
  @Optional()
  @IsBoolean()
  administrators?: boolean;

  @Names()
  roles?: string[];

  @Names()
  usernames?: string[];

  @Names()
  userIds?: string[];

  @Optional()
  @IsBoolean()
  me?: boolean;
}

export class LogoutEveryoneBody {
  @Optional()
  @IsObject()
  @ValidateNested()
  @Type(() => ExceptBody)
  except?: ExceptBody;

  @Note()
  note?: string;

  @Optional()
  @IsBoolean()
  dryRun?: boolean;
}

export class PolicyQuery {
  @Text(LONGEST_NAME)
  username: string;
}

export class ExemptionQuery {
  @IsIn(['username', 'role'])
  kind: 'username' | 'role';

  @Text(LONGEST_NAME)
  value: string;
}

export class ExemptionBody extends ExemptionQuery {
  @Note()
  note?: string;

  @Optional()
  @IsRFC3339()
  // A day that is in the calendar: `new Date()` makes 3 March of 31 February.
  @IsISO8601({ strict: true })
  expiresAt?: string;
}

import { BadRequestException, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { MEMBERS_OF_ORDERS } from './dto.js';

/**
 * Refuses an order that says something of itself in the query, as `?dryRun=true`: nobody reads that, and an order without
 * its conditions ends more than was meant.
 */
@Injectable()
export class OrderInBodyGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const { query = {} } = context.switchToHttp().getRequest<{ query?: object }>();
    // Express reads except[me] as a member of that name, or as one of `except`, as it is told.
    const names = Object.keys(query).map((key) => key.split('[', 1)[0]!);
    const misplaced = names.find((name) => MEMBERS_OF_ORDERS.includes(name));
    if (misplaced === undefined) return true;
    throw new BadRequestException([`${misplaced} is not read from the query, so nothing was done`]);
  }
}

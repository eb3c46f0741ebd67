import { Controller, Get, ServiceUnavailableException } from '@nestjs/common';
import { SkipSingleSession } from 'nestjs-single-session';
import { DataSource } from 'typeorm';

const PATIENCE_MS = 2000;

/** Tells a load balancer whether this process can serve. */
@Controller('health')
@SkipSingleSession()
export class HealthController {
  constructor(private readonly dataSource: DataSource) {}

  @Get()
  async health(): Promise<{ status: 'ok' }> {
    try {
      await within(PATIENCE_MS, this.dataSource.query('SELECT 1'));
    } catch {
      throw new ServiceUnavailableException('The database does not answer');
    }
    return { status: 'ok' };
  }
}

/** A database that neither answers nor refuses must not leave the caller waiting. */
function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('timed out')), milliseconds);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

import { Module, type DynamicModule, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { TypeOrmModule } from '@nestjs/typeorm';
import { SingleSessionModule } from 'nestjs-single-session';
import { singleSessionMigrations } from 'nestjs-single-session/migrations';
import { POOL_SIZE } from './application.js';

/** The module without a server: what is measured is what its service does. */
@Module({})
class ServiceOnly {
  static register(url: string): DynamicModule {
    const database = { url, poolSize: POOL_SIZE, migrations: singleSessionMigrations, migrationsRun: true };
    return {
      module: ServiceOnly,
      imports: [
        TypeOrmModule.forRoot({ type: 'postgres', autoLoadEntities: true, ...database }),
        SingleSessionModule.forRoot({ admin: { roles: ['admin'] } }),
      ],
    };
  }
}

/** With an application of its own, so that no sweep of the run before goes on beside. */
export async function within<Result>(
  url: string,
  work: (app: INestApplicationContext) => Promise<Result>,
): Promise<Result> {
  const app = await NestFactory.create(ServiceOnly.register(url), { logger: ['error'] });
  try {
    await app.init();
    return await work(app);
  } finally {
    await app.close();
  }
}

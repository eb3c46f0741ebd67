import { TypeOrmModule } from '@nestjs/typeorm';
import type { DynamicModule } from '@nestjs/common';
import { runMigrationsOnce, singleSessionMigrations } from 'nestjs-single-session/migrations';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { CreateCookieSessions1763800000000 } from './cookie-sessions.migration.js';

/** The data source that the users' application has anyway; the package's tables live in it. */
export function databaseModule(url: string): DynamicModule {
  return TypeOrmModule.forRootAsync({
    useFactory: () => ({
      type: 'postgres',
      url,
      autoLoadEntities: true,
      migrations: [...singleSessionMigrations, CreateCookieSessions1763800000000],
      // Four processes with this pool and the one of the cookie sessions fit on one small server.
      poolSize: 10,
      connectTimeoutMS: 5000,
      retryAttempts: 3,
      retryDelay: 1000,
    }),
    dataSourceFactory: async (options) => migrated(new DataSource(options as DataSourceOptions)),
  });
}

/** TypeORM's own `migrationsRun` takes no lock, so processes that start together would collide. */
async function migrated(dataSource: DataSource): Promise<DataSource> {
  await dataSource.initialize();
  try {
    await runMigrationsOnce(dataSource);
  } catch (error) {
    await dataSource.destroy();
    throw error;
  }
  return dataSource;
}

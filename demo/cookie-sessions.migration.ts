import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The table of connect-pg-simple, made under the same lock as the package's own tables. */
export class CreateCookieSessions1763800000000 implements MigrationInterface {
  name = 'CreateCookieSessions1763800000000';

  async up(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query(
      'CREATE TABLE cookie_session (sid varchar PRIMARY KEY, sess json NOT NULL, expire timestamptz NOT NULL)',
    );
    await queryRunner.query('CREATE INDEX cookie_session_expire ON cookie_session (expire)');
  }

  async down(queryRunner: QueryRunner): Promise<void> {
    await queryRunner.query('DROP TABLE cookie_session');
  }
}

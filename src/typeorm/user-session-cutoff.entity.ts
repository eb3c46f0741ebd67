import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';

/**
 * Ends every session that was admitted before it, except those that it spares. One row does it: a session carries the
 * newest cut-off that its admission saw, and the check compares. Removed when no session is older any more.
 */
@Entity('user_session_cutoff')
export class UserSessionCutoff {
  /** Counts cut-offs. A bigint, so a string in JavaScript. */
  @PrimaryGeneratedColumn('identity', { type: 'bigint', generatedIdentity: 'ALWAYS' })
  id: string;

  @Column('timestamptz', { name: 'created_at' })
  createdAt: Date;

  /** A username; `null` when the application's own code did it. */
  @Column('text', { name: 'created_by', nullable: true })
  createdBy: string | null;

  /** Spares sessions whose users have been administrators since their admission. */
  @Column('boolean')
  administrators: boolean;

  /** Spares sessions that have held one of these roles since their admission. */
  @Column('text', { array: true })
  roles: string[];

  @Column('text', { array: true })
  usernames: string[];

  @Column('text', { name: 'user_ids', array: true })
  userIds: string[];

  /** All that it covers is marked as ended. */
  @Column('boolean', { default: false })
  swept: boolean;
}

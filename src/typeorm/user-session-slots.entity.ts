import { Column, Entity, PrimaryColumn } from 'typeorm';

/**
 * Which of a user's sessions are live: the only source of truth. Whatever decides writes this row in one statement, and
 * every input of the decision is a column of it, because after waiting for a lock PostgreSQL looks again at the row and
 * at nothing else. Never delete a row while a token of its user may live.
 */
@Entity('user_session_slots')
export class UserSessionSlots {
  @PrimaryColumn('text', { name: 'user_id' })
  userId: string;

  /**
   * One higher at each admission, when somebody becomes an administrator, and when a refused login raises the floor; starts
   * from the clock, so that a row made anew never counts below an older one.
   */
  @Column('bigint')
  generation: string;

  /** The live sessions of an enforced user, newest first. */
  @Column('uuid', { array: true })
  active: string[];

  /** Every session that was admitted as exempt at or below this generation is dead. */
  @Column('bigint')
  floor: string;

  /**
   * The last session that a login in the same browser replaced, and the session that took its place: a second click on
   * "Log in" still carries the replaced one, and is to take the place of the first click's session, not of somebody else's.
   */
  @Column('uuid', { array: true })
  succession: string[];

  /** When a session came to be an administrator's last: it tells a statement that waited for this row of what it cannot see. */
  @Column('bigint', { name: 'protected_generation', default: 0 })
  protectedGeneration: string;

  /** How many logins were limited by what applied to them when they began: it tells an exempt one that waited for this row of what it cannot see. */
  @Column('bigint', { default: 0 })
  limited: string;

  /** The newest cut-off that an admission of this user saw: one that waited for this row comes after it, too. */
  @Column('bigint', { default: 0 })
  cutoff: string;

  /** When the window began in which enforced logins are counted. */
  @Column('timestamptz', { name: 'storm_since', default: '-infinity' })
  stormSince: Date;

  @Column('integer', { name: 'storm_logins', default: 0 })
  stormLogins: number;

  /** The count of the window before, if that was just before. */
  @Column('integer', { name: 'storm_before', default: 0 })
  stormBefore: number;
}

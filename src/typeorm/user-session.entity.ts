import { Column, Entity, Index, PrimaryColumn } from 'typeorm';
import type { EndReason } from '../session/session.js';

/**
 * What a session is, for people and for audit. Whether it is live is not in here alone: see {@link UserSessionSlots}.
 * Nothing in it can be used as a session.
 */
@Entity('user_session')
@Index(['userId', 'endedAt'])
@Index(['username', 'endedAt'])
@Index(['createdAt', 'id'], { where: 'ended_at IS NULL' })
@Index(['createdAt', 'id'], { where: 'ended_at IS NOT NULL' })
@Index(['expiresAt'], { where: 'ended_at IS NULL' })
@Index(['endedAt'], { where: 'ended_at IS NOT NULL' })
@Index(['roles'], { type: 'gin' })
@Index(['cutoff'], { where: 'ended_at IS NULL' })
@Index(['administrator'], { where: 'administrator' })
export class UserSession {
  /** Public, it opens nothing: stamped into the cookie session, or signed into the JWT as `sid`. */
  @PrimaryColumn('uuid')
  id: string;

  @Column('text', { name: 'user_id' })
  userId: string;

  /** The username at the login. */
  @Column('text')
  username: string;

  /** The user's roles as of the latest request: written when they have changed. */
  @Column('text', { array: true })
  roles: string[];

  /** The roles of the login that were never lost since; `null` when `roles` never changed. It decides what a cut-off spares. */
  @Column('text', { name: 'held_roles', array: true, nullable: true })
  heldRoles: string[] | null;

  /** At the login and ever since, by a function or by a role. What was recorded by older versions says it of functions only. */
  @Column('boolean', { default: false })
  administrator: boolean;

  /** Counts the admissions of this user. A bigint, so a string in JavaScript. */
  @Column('bigint')
  generation: string;

  /** Admitted while the limit did not apply to the user. */
  @Column('boolean')
  exempt: boolean;

  /** The newest cut-off that the admission saw. */
  @Column('bigint', { default: 0 })
  cutoff: string;

  /** The logins that carry it: more than one where a browser logged in twice at the same moment. */
  @Column('uuid', { array: true, default: '{}' })
  logins: string[];

  @Column('timestamptz', { name: 'created_at' })
  createdAt: Date;

  /** Written at most once a minute, or once in a quarter of `idleTimeout` if that is shorter; in no index, so that writing it stays cheap (heap-only tuples). */
  @Column('timestamptz', { name: 'last_seen_at' })
  lastSeenAt: Date;

  @Column('timestamptz', { name: 'expires_at' })
  expiresAt: Date;

  @Column('inet', { nullable: true })
  ip: string | null;

  /** At most 512 characters, without control characters. */
  @Column('text', { name: 'user_agent', nullable: true })
  userAgent: string | null;

  /** Bookkeeping: `null` does not mean live. */
  @Column('timestamptz', { name: 'ended_at', nullable: true })
  endedAt: Date | null;

  @Column('text', { name: 'end_reason', nullable: true })
  endReason: EndReason | null;

  @Column('text', { name: 'ended_by', nullable: true })
  endedBy: string | null;

  /** Of one that was superseded: the login of the same browser that took its place, else the user's newest live session when that was written down. */
  @Column('uuid', { name: 'replaced_by', nullable: true })
  replacedBy: string | null;
}

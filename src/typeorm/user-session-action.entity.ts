import { Column, Entity, PrimaryGeneratedColumn } from 'typeorm';

/** What an administrator did. Written in the statement that did it. */
@Entity('user_session_action')
export class UserSessionAction {
  @PrimaryGeneratedColumn('identity', { type: 'bigint', generatedIdentity: 'ALWAYS' })
  id: string;

  @Column('timestamptz')
  at: Date;

  /** A username; `null` when the application's own code did it. */
  @Column('text', { nullable: true })
  by: string | null;

  @Column('inet', { nullable: true })
  ip: string | null;

  /** `end-session`, `logout`, `logout-everyone`, `add-exemption` or `remove-exemption`. */
  @Column('text')
  action: string;

  /** How many sessions were live and are dead now; `null` until, or when, they could not be counted. */
  @Column('integer', { nullable: true })
  ended: number | null;

  /** How many users they belonged to. */
  @Column('integer', { nullable: true })
  users: number | null;

  @Column('text', { nullable: true })
  note: string | null;

  /** Whom or what it was about. */
  @Column('jsonb', { nullable: true })
  target: unknown;
}

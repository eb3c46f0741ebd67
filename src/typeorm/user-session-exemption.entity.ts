import { Column, Entity, PrimaryColumn } from 'typeorm';

/** An exemption that was made at run time. Admissions read it in their own statement, so it counts on all processes at once. */
@Entity('user_session_exemption')
export class UserSessionExemption {
  @PrimaryColumn('text')
  kind: 'username' | 'role';

  /** Compared exactly. */
  @PrimaryColumn('text')
  value: string;

  @Column('text', { nullable: true })
  note: string | null;

  /** A username; `null` when the application's own code did it. */
  @Column('text', { name: 'added_by', nullable: true })
  addedBy: string | null;

  @Column('timestamptz', { name: 'added_at' })
  addedAt: Date;

  /** `null`: until it is removed. */
  @Column('timestamptz', { name: 'expires_at', nullable: true })
  expiresAt: Date | null;
}

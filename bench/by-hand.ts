import { randomUUID } from 'node:crypto';
import {
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  Injectable,
  type NestInterceptor,
  UnauthorizedException,
} from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import type { Request } from 'express';
import type { Observable } from 'rxjs';
import { Column, CreateDateColumn, DataSource, Entity, Index, PrimaryColumn, Repository } from 'typeorm';

// What people write by hand, to be compared with. It does not hold the limit when logins arrive together.

const MAX_AGE_MS = 14 * 24 * 60 * 60_000;

/** A live session: its row is deleted when it ends. */
@Entity('session_by_hand')
export class SessionByHand {
  @PrimaryColumn('uuid')
  id: string;

  @Index()
  @Column('text')
  userId: string;

  @Column('text', { nullable: true })
  ip: string | null;

  @Column('text', { nullable: true })
  userAgent: string | null;

  @CreateDateColumn({ type: 'timestamptz' })
  createdAt: Date;

  @Column('timestamptz')
  expiresAt: Date;
}

/** The request with what {@link LoginByHand} puts there for the handler. */
export interface RequestByHand extends Request {
  user: { id: string; sid?: string };
  session: Request['session'] & { byHand?: string };
  admittedId?: string;
}

/** Reads the user's sessions, deletes the surplus, inserts the new one. */
@Injectable()
export class LoginByHand implements NestInterceptor {
  constructor(@InjectRepository(SessionByHand) private readonly sessions: Repository<SessionByHand>) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const request = context.switchToHttp().getRequest<RequestByHand>();
    request.admittedId = await this.admit(request);
    if (request.session) request.session.byHand = request.admittedId;
    return next.handle();
  }

  private async admit({ user, ip, headers }: RequestByHand): Promise<string> {
    const userId = user.id;
    const older = await this.sessions.find({ where: { userId } });
    if (older.length > 0) await this.sessions.delete(older.map(({ id }) => id));
    const id = randomUUID();
    const expiresAt = new Date(Date.now() + MAX_AGE_MS);
    await this.sessions.insert({ id, userId, ip, userAgent: headers['user-agent'], expiresAt });
    return id;
  }
}

const idOf = (request: RequestByHand): string | undefined =>
  request.session ? request.session.byHand : request.user.sid;

/** Finds the session of each request, and looks whether it is the user's and has not expired. */
@Injectable()
export class GuardByHand implements CanActivate {
  constructor(@InjectRepository(SessionByHand) private readonly sessions: Repository<SessionByHand>) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<RequestByHand>();
    const id = idOf(request);
    const session = id === undefined ? null : await this.sessions.findOne({ where: { id } });
    if (session?.userId === request.user.id && session.expiresAt > new Date()) return true;
    throw new UnauthorizedException();
  }
}

/** The least that a repository can be asked: only whether the row is there. */
@Injectable()
export class ExistsByGuard implements CanActivate {
  constructor(@InjectRepository(SessionByHand) private readonly sessions: Repository<SessionByHand>) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const id = idOf(context.switchToHttp().getRequest<RequestByHand>());
    if (id !== undefined && (await this.sessions.existsBy({ id }))) return true;
    throw new UnauthorizedException();
  }
}

/** `SELECT 1` for each request: what to ask a database costs, whatever it is asked. */
@Injectable()
export class RoundTripGuard implements CanActivate {
  constructor(private readonly dataSource: DataSource) {}

  async canActivate(): Promise<boolean> {
    await this.dataSource.query('SELECT 1');
    return true;
  }
}

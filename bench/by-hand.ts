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

/** A live session: its row is deleted when it ends. */
@Entity('session_by_hand')
export class SessionByHand {
  @PrimaryColumn('uuid')
  id: string;

  @Index()
  @Column('text')
  userId: string;

  @CreateDateColumn({ type: 'timestamptz' })
  createdAt: Date;
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
    request.admittedId = await this.admit(request.user.id);
    if (request.session) request.session.byHand = request.admittedId;
    return next.handle();
  }

  private async admit(userId: string): Promise<string> {
    const older = await this.sessions.find({ where: { userId } });
    if (older.length > 0) await this.sessions.delete(older.map(({ id }) => id));
    const id = randomUUID();
    await this.sessions.insert({ id, userId });
    return id;
  }
}

/** One `existsBy` for each request. */
@Injectable()
export class GuardByHand implements CanActivate {
  constructor(@InjectRepository(SessionByHand) private readonly sessions: Repository<SessionByHand>) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<RequestByHand>();
    const id = request.session ? request.session.byHand : request.user.sid;
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

import { createHash, createSecretKey, randomUUID, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import {
  type CanActivate,
  Controller,
  type DynamicModule,
  type ExecutionContext,
  Get,
  HttpCode,
  Injectable,
  Module,
  type OnModuleInit,
  Post,
  Req,
  type Type,
  UnauthorizedException,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { JwtModule, JwtService } from '@nestjs/jwt';
import { AuthGuard, PassportSerializer, PassportStrategy } from '@nestjs/passport';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  CurrentSession,
  SingleSessionLogin,
  SingleSessionModule,
  type SingleSessionOptions,
} from 'nestjs-single-session';
import { singleSessionMigrations } from 'nestjs-single-session/migrations';
import { ExtractJwt, Strategy as JwtStrategyBase } from 'passport-jwt';
import { Strategy as LocalStrategyBase } from 'passport-local';
import { DataSource } from 'typeorm';
import {
  ExistsByGuard,
  GuardByHand,
  LoginByHand,
  type RequestByHand,
  RoundTripGuard,
  SessionByHand,
} from './by-hand.js';

/**
 * `none`: no limit of sessions at all. `again`: the same in another process, to see what two processes differ by.
 * `module`: this package. `bounded`: with checks from memory. `by-hand`:
 * what people write themselves. `exists-by`: the same with a guard that asks for less. `round-trip`: a guard that only
 * hears from the database that it is there.
 */
export type Variant = 'none' | 'again' | 'module' | 'bounded' | 'by-hand' | 'exists-by' | 'round-trip';
export type CredentialKind = 'cookie' | 'jwt';

/** `cheap`: a fast hash and no user table, so that nothing hides the admission. `usual`: what applications do, a user table and scrypt with Node's defaults. */
export type Password = 'cheap' | 'usual';

export interface ApplicationSettings {
  variant: Variant;
  password: Password;
  kind: CredentialKind;
  databaseUrl: string;
}

export const SECRET = 'a secret for benchmarks only';
export const POOL_SIZE = 10;
export const MAX_STALENESS_MS = 2_000;
const OPTIONS: Partial<Record<Variant, SingleSessionOptions>> = {
  module: {},
  bounded: { freshness: { maxStalenessMs: MAX_STALENESS_MS } },
};

const CHECKS_BY_HAND: Partial<Record<Variant, Type<CanActivate>>> = {
  'by-hand': GuardByHand,
  'exists-by': ExistsByGuard,
  'round-trip': RoundTripGuard,
};
const keepsSessionsByHand = (variant: Variant): boolean => variant === 'by-hand' || variant === 'exists-by';

interface User {
  id: string;
  username: string;
  roles: string[];
}

/** Whoever knows that the password is the username. A slow hash would hide what a login costs beside it. */
const userOf = (username: string): User => ({ id: username, username, roles: ['user'] });
const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

@Injectable()
class LocalStrategy extends PassportStrategy(LocalStrategyBase) {
  constructor() {
    super();
  }

  validate(username: string, password: string): User | null {
    return digest(username) === digest(password) ? userOf(username) : null;
  }
}

const derive = promisify(scrypt) as (password: string, salt: string, length: number) => Promise<Buffer>;

@Injectable()
class UsualLocalStrategy extends PassportStrategy(LocalStrategyBase) implements OnModuleInit {
  constructor(private readonly dataSource: DataSource) {
    super();
  }

  async onModuleInit(): Promise<void> {
    await this.dataSource.query(
      'CREATE TABLE IF NOT EXISTS bench_user (username text PRIMARY KEY, hash bytea NOT NULL)',
    );
    // One hash for all: making two thousand would take a minute.
    await this.dataSource.query(
      "INSERT INTO bench_user SELECT 'user' || n, $1 FROM generate_series(0, 1999) n ON CONFLICT DO NOTHING",
      [await derive('password', 'salt', 32)],
    );
  }

  async validate(username: string): Promise<User | null> {
    const rows: { hash: Buffer }[] = await this.dataSource.query(
      'SELECT hash FROM bench_user WHERE username = $1',
      [username],
    );
    const [row] = rows;
    return row && timingSafeEqual(await derive('password', 'salt', 32), row.hash) ? userOf(username) : null;
  }
}

@Injectable()
class JwtStrategy extends PassportStrategy(JwtStrategyBase) {
  constructor() {
    // A key and no string: jsonwebtoken tries first, for each request, to read a string as a public key. That takes twice
    // as long as the rest of the request, and would hide what a guard costs. (The types know only strings.)
    const secretOrKey = createSecretKey(Buffer.from(SECRET)) as unknown as Buffer;
    super({ jwtFromRequest: ExtractJwt.fromAuthHeaderAsBearerToken(), secretOrKey });
  }

  validate({ sub, sid }: { sub: string; sid: string }): User & { sid: string } {
    return { ...userOf(sub), sid };
  }
}

@Injectable()
class Serializer extends PassportSerializer {
  serializeUser(user: User, done: (error: null, id: string) => void): void {
    done(null, user.id);
  }

  deserializeUser(id: string, done: (error: null, user: User) => void): void {
    done(null, userOf(id));
  }
}

@Injectable()
class CookieLoginGuard extends AuthGuard('local') {
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    await super.canActivate(context);
    await super.logIn(context.switchToHttp().getRequest());
    return true;
  }
}

@Injectable()
class CookieGuard {
  canActivate(context: ExecutionContext): boolean {
    if (context.switchToHttp().getRequest<{ user?: User }>().user) return true;
    throw new UnauthorizedException();
  }
}

/** The whole application: it is the same in all variants, but for what limits the sessions. */
@Module({})
export class BenchApplication {
  static register({ variant, kind, password, databaseUrl }: ApplicationSettings): DynamicModule {
    const options = OPTIONS[variant];
    return {
      module: BenchApplication,
      imports: [
        TypeOrmModule.forRoot({
          type: 'postgres',
          url: databaseUrl,
          poolSize: POOL_SIZE,
          autoLoadEntities: true,
          ...(options && { migrations: singleSessionMigrations, migrationsRun: true }),
          synchronize: keepsSessionsByHand(variant),
        }),
        JwtModule.register({ secret: SECRET, signOptions: { expiresIn: '1h' } }),
        ...(options ? [SingleSessionModule.forRoot(options)] : []),
        ...(keepsSessionsByHand(variant) ? [TypeOrmModule.forFeature([SessionByHand])] : []),
      ],
      controllers: [controllerOf(variant, kind)],
      providers: [
        password === 'cheap' ? LocalStrategy : UsualLocalStrategy,
        kind === 'cookie' ? Serializer : JwtStrategy,
      ],
    };
  }
}

function controllerOf(variant: Variant, kind: CredentialKind): Type {
  const authenticate = kind === 'cookie' ? CookieGuard : AuthGuard('jwt');
  const check = CHECKS_BY_HAND[variant];
  const Guarded = UseGuards(authenticate, ...(check ? [check] : []));
  const login = SingleSessionLogin({ credential: kind === 'cookie' ? 'cookie' : 'token' });
  const unlimited: MethodDecorator = () => undefined;
  const byHand = keepsSessionsByHand(variant) ? UseInterceptors(LoginByHand) : unlimited;
  const Admitted = OPTIONS[variant] ? login : byHand;

  @Controller()
  class BenchController {
    constructor(private readonly jwt: JwtService) {}

    @Post('login')
    @HttpCode(200)
    @UseGuards(kind === 'cookie' ? CookieLoginGuard : AuthGuard('local'))
    @Admitted
    login(@Req() request: RequestByHand, @CurrentSession() current?: CurrentSession): object {
      if (kind === 'cookie') return { user: request.user };
      const sid = current?.id ?? request.admittedId ?? randomUUID();
      return { accessToken: this.jwt.sign({ sub: request.user.id, sid }) };
    }

    @Get('me')
    @Guarded
    me(@Req() { user }: { user: User }): object {
      return { user: { id: user.id, username: user.username, roles: user.roles } };
    }
  }
  return BenchController;
}

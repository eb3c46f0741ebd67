import { type DynamicModule, Module } from '@nestjs/common';
import { JwtModule } from '@nestjs/jwt';
import { Users } from '../users.js';
import { AuthController } from './auth.controller.js';
import { JwtStrategy } from './jwt.strategy.js';
import { LocalStrategy } from './local.strategy.js';
import { RefreshStrategy } from './refresh.strategy.js';
import { SessionSerializer } from './session.serializer.js';
import { TokenSecret } from './token-secret.js';
import { Tokens } from './tokens.js';

/** Passport as an application has it; only the decorators in the controller are of the package. */
@Module({})
export class AuthModule {
  static register(sessionSecret: string): DynamicModule {
    const secret = new TokenSecret(sessionSecret);
    return {
      module: AuthModule,
      imports: [JwtModule.register({ secret: secret.value, signOptions: { algorithm: 'HS256' } })],
      controllers: [AuthController],
      providers: [
        Users,
        LocalStrategy,
        JwtStrategy,
        RefreshStrategy,
        Tokens,
        SessionSerializer,
        { provide: TokenSecret, useValue: secret },
      ],
    };
  }
}

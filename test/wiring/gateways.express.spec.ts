import { describe, expect, it } from '@jest/globals';
import { Get, Injectable, UseGuards, type CanActivate } from '@nestjs/common';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { gatewayComplaint } from '../../src/http/gateways.check.js';
import { SingleSessionGuard, SkipSingleSession } from '../../src/index.js';
import { isNest12 } from '../support/nest.js';

@Injectable()
class OtherGuard implements CanActivate {
  canActivate(): boolean {
    return true;
  }
}

class OwnGuard extends SingleSessionGuard {}

@UseGuards(OtherGuard)
@WebSocketGateway()
class OpenGateway {
  @UseGuards(SingleSessionGuard)
  @SubscribeMessage('guarded')
  guarded(): void {}

  @SubscribeMessage('open')
  open(): void {}
}

@UseGuards(OtherGuard, SingleSessionGuard)
@WebSocketGateway()
class GuardedGateway {
  @SubscribeMessage('message')
  message(): void {}
}

@UseGuards(OwnGuard)
@WebSocketGateway()
class OwnGuardedGateway {
  @SubscribeMessage('message')
  message(): void {}
}

@UseGuards(Object.create(SingleSessionGuard.prototype) as SingleSessionGuard)
@WebSocketGateway()
class GuardedByInstanceGateway {
  @SubscribeMessage('message')
  message(): void {}
}

@SkipSingleSession()
@WebSocketGateway()
class SkippedGateway {
  @SubscribeMessage('message')
  message(): void {}
}

@WebSocketGateway()
class GatewayOfGuardedHandlers {
  @UseGuards(SingleSessionGuard)
  @SubscribeMessage('guarded')
  guarded(): void {}

  @SkipSingleSession()
  @SubscribeMessage('skipped')
  skipped(): void {}
}

class Inheriting extends OpenGateway {}

@Injectable()
class Service {
  open(): void {}
}

/** Handlers for which Nest 11 runs global guards, in a class that is a provider, as a resolver is. */
@Injectable()
class Routes {
  @Get('open')
  open(): void {}
}

const COVERED = [
  GuardedGateway,
  OwnGuardedGateway,
  GuardedByInstanceGateway,
  SkippedGateway,
  GatewayOfGuardedHandlers,
  Service,
  Routes,
];

describe('on Nest 11, which runs no global guards for messages, the start', () => {
  it.each([OpenGateway, Inheriting])(
    'stops for a gateway with a handler that nothing guards, and says what to write: %p',
    (gateway) => {
      expect(gatewayComplaint([...COVERED, gateway], false)).toMatch(
        new RegExp(`Nest 11 .*to ${gateway.name}\\. Write @UseGuards\\(SingleSessionGuard\\)`),
      );
    },
  );

  it('goes on where each handler is guarded, or said to need no guard', () => {
    expect(gatewayComplaint([...COVERED, undefined, null, 'token', () => 1], false)).toBeUndefined();
  });
});

it('on Nest 12, whose global guards check messages, nothing has to be written', () => {
  expect(gatewayComplaint([OpenGateway], true)).toBeUndefined();
  expect(gatewayComplaint([OpenGateway]) === undefined).toBe(isNest12);
});

import {
  Controller,
  HttpException,
  Injectable,
  UseGuards,
  type ExecutionContext,
  type INestApplication,
} from '@nestjs/common';
import {
  ClientProxyFactory,
  MessagePattern,
  Payload,
  RpcException,
  Transport,
  type ClientProxy,
} from '@nestjs/microservices';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { catchError, firstValueFrom, throwError } from 'rxjs';
import {
  CurrentSession,
  SingleSessionGuard,
  SingleSessionLogout,
  SingleSessionService,
} from '../../src/index.js';
import type { SessionRequest } from '../../src/index.js';
import { someoneNew } from '../support/administration.js';
import { startApplication, Users, type TestApplication } from '../support/application.js';
import { dropDatabase, freshDatabase } from '../support/fresh-database.js';
import { freePort } from '../support/processes.js';

interface Order {
  user?: { id: string; sid?: string; roles: string[] };
}

/** A message has no request, so the guard is told whom it is from: here the caller passes the user of its own request on. */
@Injectable()
class MessageGuard extends SingleSessionGuard {
  protected override getRequest(context: ExecutionContext): SessionRequest {
    return { headers: {}, user: context.switchToRpc().getData<Order>().user };
  }

  override async canActivate(context: ExecutionContext): Promise<true> {
    try {
      return await super.canActivate(context);
    } catch (error) {
      // An exception of HTTP says nothing to a client of a microservice.
      throw error instanceof HttpException ? new RpcException(error.getResponse()) : error;
    }
  }
}

@Controller()
class OrderController {
  handled = 0;

  @UseGuards(MessageGuard)
  @MessagePattern('guarded')
  guarded(@Payload() { user }: Order): object {
    this.handled++;
    return { done: user?.id ?? 'nobody' };
  }

  @UseGuards(MessageGuard)
  @SingleSessionLogout()
  @MessagePattern('logout')
  logout(): object {
    return { loggedOut: true };
  }

  /** No guard of its own; the global one finds no request. */
  @MessagePattern('open')
  open(@CurrentSession() session: CurrentSession | undefined): object {
    return { session: session ?? null };
  }
}

const users = new Users();
let databaseUrl: string;
let application: TestApplication;
/** Where our guard stands on the handlers alone that name it. */
let unguarded: TestApplication;
let client: ClientProxy;
let clientOfUnguarded: ClientProxy;

beforeAll(async () => {
  databaseUrl = await freshDatabase();
  [application, client] = await start({});
  [unguarded, clientOfUnguarded] = await start({ enforceGlobally: false });
});

afterAll(async () => {
  client?.close();
  clientOfUnguarded?.close();
  await application?.close();
  await unguarded?.close();
  await dropDatabase(databaseUrl);
});

async function start(options: { enforceGlobally?: boolean }): Promise<[TestApplication, ClientProxy]> {
  const port = await freePort();
  const transport = { transport: Transport.TCP, options: { host: '127.0.0.1', port } } as const;
  const started = await startApplication(databaseUrl, {
    users,
    options,
    controllers: [OrderController],
    configure: (app: INestApplication) => {
      app.connectMicroservice(transport, { inheritAppConfig: true });
      return app.startAllMicroservices();
    },
  });
  return [started, ClientProxyFactory.create(transport)];
}

const send = (pattern: string, order: Order, by = client): Promise<unknown> =>
  firstValueFrom(
    by
      .send<unknown>(pattern, order)
      .pipe(catchError((error: unknown) => throwError(() => new Error(JSON.stringify(error))))),
  );

it('a message is checked by a guard that says whose it is, and one of an ended session reaches no handler', async () => {
  const { user, sessionId } = await someoneNew(application, ['user'], 'token');
  const order = { user: { id: String(user.id), sid: sessionId, roles: user.roles } };
  expect(await send('guarded', order)).toEqual({ done: String(user.id) });
  await application.app.get(SingleSessionService).end(sessionId);
  await expect(send('guarded', order)).rejects.toThrow('"code":"SESSION_ENDED","reason":"admin"');
  expect(application.app.get(OrderController).handled).toBe(1);
});

it("a message that names another's session is refused", async () => {
  const [one, other] = [await someoneNew(application), await someoneNew(application)];
  const order = { user: { id: String(one.user.id), sid: other.sessionId, roles: [] } };
  await expect(send('guarded', order)).rejects.toThrow('"reason":"unknown"');
});

it('a message whose user has no session is refused, and its sender is told so', async () => {
  const { user } = await someoneNew(application);
  const order = { user: { id: String(user.id), roles: [] } };
  await expect(send('guarded', order)).rejects.toThrow('"code":"SESSION_UNKNOWN"');
});

it('a message that says nothing of a session passes, by the global guard and by one that is told of nobody', async () => {
  expect(await send('open', {})).toEqual({ session: null });
  expect(await send('guarded', {})).toEqual({ done: 'nobody' });
});

it('a message passes, too, where the guard is not global', async () => {
  expect(await send('open', {}, clientOfUnguarded)).toEqual({ session: null });
});

it('a logout by message, which would end nothing, is refused', async () => {
  const { user, sessionId } = await someoneNew(application, ['user'], 'token');
  const order = { user: { id: String(user.id), sid: sessionId, roles: user.roles } };
  await expect(send('logout', order)).rejects.toThrow('Internal server error');
});

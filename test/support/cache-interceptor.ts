import {
  Inject,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { of, tap, type Observable } from 'rxjs';

type Request = { method: string; url: string };

/** As the one of @nestjs/cache-manager: it knows an answer by its address, and keeps it unless the time to live cannot be told. */
@Injectable()
export class CacheInterceptor implements NestInterceptor {
  private readonly answers = new Map<string, unknown>();

  constructor(@Inject(Reflector) private readonly reflector: Reflector) {}

  async intercept(context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    const { method, url } = context.switchToHttp().getRequest<Request>();
    if (method !== 'GET') return next.handle();
    try {
      if (this.answers.has(url)) return of(this.answers.get(url));
      const places = [context.getHandler(), context.getClass()];
      const ttl = this.reflector.getAllAndOverride<unknown>('cache_module:cache_ttl', places);
      if (typeof ttl === 'function') await ttl(context);
      return next.handle().pipe(tap((answer) => void this.answers.set(url, answer)));
    } catch {
      return next.handle();
    }
  }
}

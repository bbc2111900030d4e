/**
 * `ztna ping`: a session for the service if there is none, then a series of echo requests.
 *
 * The lines are what the control socket streams, one JSON object each. The last one is a summary, or
 * says why nothing was sent.
 */
import { after, type Clock, type Duration, ms, seconds } from "../base/time.ts";
import type { Command, PathName, PingReplyEvent } from "../transport/endpoint.ts";

export interface PingRequest {
  readonly service: string;
  readonly count: number;
  readonly intervalMs: number;
  readonly size: number;
}

export type PingLine =
  | {
      readonly type: "reply";
      readonly sequence: number;
      /** Absent: lost. */
      readonly rttUs?: number;
      readonly path?: PathName;
    }
  /** The connector refused the echo flow with this answer. */
  | { readonly type: "refused"; readonly sequence: number; readonly answer: number }
  | { readonly type: "failed"; readonly code: string; readonly reason: string }
  | { readonly type: "summary"; readonly sent: number; readonly received: number };

export interface PingerOptions {
  readonly clock: Clock;
  readonly send: (command: Command) => void;
  /** Opens a session if there is none; the outcome comes by `handleGranted` or `handleFailed`. */
  readonly want: (service: string) => void;
  readonly isReady: (service: string) => boolean;
}

/** Series under way; a person runs one. */
export const PINGS_MAX = 16;

/** A session has 8 s to open, and is answered for then. */
const SESSION_WAIT: Duration = seconds(12);
/** A reply is lost after 2 s; the data plane says so. */
const REPLY_WAIT: Duration = seconds(5);

export class Pinger {
  readonly #options: PingerOptions;
  readonly #series = new Map<number, Series>();
  #requests = 0;

  constructor(options: PingerOptions) {
    this.#options = options;
  }

  /** Begins a series and returns what cancels it. `onLine` is called until `onEnd`. */
  begin(request: PingRequest, onLine: (line: PingLine) => void, onEnd: () => void): () => void {
    if (this.#series.size >= PINGS_MAX) {
      onLine({ type: "failed", code: "limit-exceeded", reason: `${PINGS_MAX} series are running` });
      onEnd();
      return () => {};
    }
    this.#requests += 1;
    const id = this.#requests;
    const { clock, isReady, want } = this.#options;
    const series: Series = { id, request, onLine, onEnd, sent: false, replies: 0, received: 0 };
    this.#series.set(id, series);
    series.cancelTimer = clock.schedule(after(clock.now(), SESSION_WAIT), () =>
      this.#fail(series, "timed-out", "the session did not open in time"),
    );
    if (isReady(request.service)) this.#send(series);
    else want(request.service);
    return () => this.#forget(series);
  }

  handleGranted(service: string): void {
    for (const series of this.#waitingFor(service)) this.#send(series);
  }

  handleFailed(service: string, code: string, reason: string): void {
    for (const series of this.#waitingFor(service)) this.#fail(series, code, reason);
  }

  handleReply({ request, sequence, rttUs, path, refused }: PingReplyEvent): void {
    const series = this.#series.get(request);
    if (series === undefined) return;

    series.replies += 1;
    if (rttUs !== undefined) series.received += 1;
    if (refused !== undefined) series.onLine({ type: "refused", sequence, answer: refused });
    else {
      series.onLine({
        ...{ type: "reply", sequence },
        ...(rttUs === undefined ? {} : { rttUs }),
        ...(path === undefined ? {} : { path }),
      });
    }
    if (series.replies >= series.request.count) this.#end(series);
  }

  #waitingFor(service: string): Series[] {
    return [...this.#series.values()].filter((it) => !it.sent && it.request.service === service);
  }

  #send(series: Series): void {
    const { clock, send } = this.#options;
    const { id, request } = series;
    series.sent = true;
    series.cancelTimer?.();
    const whole = after(clock.now(), ms(request.count * request.intervalMs + REPLY_WAIT));
    series.cancelTimer = clock.schedule(whole, () => this.#end(series));
    send({ type: "ping", request: id, ...request });
  }

  #fail(series: Series, code: string, reason: string): void {
    series.onLine({ type: "failed", code, reason });
    this.#forget(series);
    series.onEnd();
  }

  #end(series: Series): void {
    const { request, received } = series;
    series.onLine({ type: "summary", sent: request.count, received });
    this.#forget(series);
    series.onEnd();
  }

  #forget(series: Series): void {
    series.cancelTimer?.();
    this.#series.delete(series.id);
  }
}

interface Series {
  readonly id: number;
  readonly request: PingRequest;
  readonly onLine: (line: PingLine) => void;
  readonly onEnd: () => void;
  sent: boolean;
  replies: number;
  received: number;
  cancelTimer?: () => void;
}

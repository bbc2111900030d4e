/**
 * One client's leg with one relay: dialled, judged, welcomed, lost and dialled again, for ever.
 *
 * - **The relay proves itself first.** Nothing is sent on a leg before its leaf was judged; then
 *   `hello`. The leg is *ready* when `welcome` arrived, and nothing else may arrive before it.
 * - **The newest leg wins.** A silent leg stays in use while its successor is dialled; when the
 *   successor is ready it takes over, and the relay moves what belonged to the old one.
 * - **A request ends once**: answered, unanswered after {@link REQUEST_TIMEOUT}, or void because its
 *   leg is gone. The owner asks again when the next leg is ready.
 * - **A leg that a later one follows ends as superseded.** To a relay any other close of ours would be
 *   a goodbye, and end the sessions.
 * - **A relay that welcomes and drops does not get a tight loop**: the reconnection schedule starts
 *   over only after a leg that was ready for {@link STABLE_AFTER}.
 *
 * Sans-IO and held by composition: feed it with `handle*`, `send` and `request`, then drain
 * `pollOutput` and ask `pollTimeout`.
 */
import { assert } from "../base/assert.ts";
import { after, type Duration, earliest, type Instant, seconds } from "../base/time.ts";
import type { LeafInfo } from "../policy/identity.ts";
import { CloseCode } from "../protocol/close-codes.ts";
import { decodeLegMessage, encodeControl } from "../protocol/control-codec.ts";
import type {
  DecodedLegMessage,
  Failed,
  Hello,
  LegMessage,
  Welcome,
} from "../protocol/messages.ts";
import { describeClose, isRefusal, isViolation } from "./closing.ts";
import type {
  ClosedEvent,
  ConnectionHandle,
  ControlEvent,
  EndpointCommand,
  HandshakeEvent,
  LegSilentEvent,
  RandomHex,
} from "./endpoint-port.ts";
import type { JudgePeer } from "./judge.ts";
import { ReconnectSchedule } from "./reconnect-schedule.ts";

/** A relay waits up to 5 s for a named connector and 1 s for each of three offers. */
export const REQUEST_TIMEOUT: Duration = seconds(10);

/** A leg that lasted this long was no accident. */
export const STABLE_AFTER: Duration = seconds(5);

/** An agent has no more sessions than this to ask for at once. */
export const REQUESTS_PENDING_MAX = 1024;

export interface RelayLegOptions {
  readonly instance: string;
  readonly software: string;
  readonly features: readonly string[];
  readonly judgeRelay: JudgePeer;
  readonly issueConnection: () => ConnectionHandle;
  readonly randomHex: RandomHex;
  /** Uniform in [0, 1); need not be unpredictable. */
  readonly random: () => number;
}

/** A message that is answered, before it has its number. */
export type LegRequest = WithoutNumber<Extract<LegMessage, { readonly type: RequestType }>>;

/** What the relay may answer to a request of ours. */
export type LegAnswer = Extract<LegMessage, { readonly type: `${RequestType}-ok` }> | Failed;

export type LegOutput =
  | { readonly type: "command"; readonly command: EndpointCommand }
  /** Connect to the relay, whose name may have to be resolved, under this handle. */
  | { readonly type: "dial"; readonly connection: ConnectionHandle; readonly attempt: number }
  | {
      readonly type: "ready";
      readonly connection: ConnectionHandle;
      readonly welcome: Welcome;
      /** Whether the relay has forgotten what this process told it. */
      readonly newEpoch: boolean;
    }
  | { readonly type: "lost"; readonly reason: string }
  /** The relay broke the protocol; what becomes of the leg follows. */
  | { readonly type: "violation"; readonly reason: string }
  /** An attempt failed, or one side would not have the other. */
  | { readonly type: "attempt-failed"; readonly reason: string; readonly refused: boolean }
  /** Neither an answer nor part of the greeting. */
  | { readonly type: "message"; readonly message: LegMessage }
  | { readonly type: "answered"; readonly request: number; readonly answer: LegAnswer }
  | { readonly type: "unanswered"; readonly request: number; readonly reason: string }
  /** The answer to a request that was given up. */
  | { readonly type: "late-answer"; readonly answer: LegAnswer };

export class RelayLeg {
  readonly #options: RelayLegOptions;
  readonly #schedule: ReconnectSchedule;
  readonly #outputs: LegOutput[] = [];
  readonly #pending = new Map<number, Instant>();
  #ready: ReadyLeg | undefined;
  #attempt: Attempt | undefined;
  #dialAt: Instant | undefined;
  #attempts = 0;
  #requests = 0;
  #epoch: string | undefined;

  constructor(options: RelayLegOptions, now: Instant) {
    this.#options = options;
    this.#schedule = new ReconnectSchedule(options.random, now);
  }

  /** The connection that frames go out on, when there is one. */
  get connection(): ConnectionHandle | undefined {
    return this.#ready?.connection;
  }

  owns(connection: ConnectionHandle): boolean {
    return this.#ready?.connection === connection || this.#attempt?.connection === connection;
  }

  handleStart(now: Instant): void {
    this.#schedule.restart(now);
    this.#dial(now);
  }

  handleHandshake({ connection, leaf }: HandshakeEvent): void {
    const attempt = this.#attempt;
    if (attempt?.connection !== connection || attempt.state !== "dialling") return;

    const relay = this.#options.judgeRelay(leaf);
    if (!relay.ok) {
      this.#close(connection, CloseCode.UNAUTHENTICATED, "certificate does not fit this relay");
      this.#failAttempt(`${relay.error.reason}: ${relay.error.detail}`, true);
      return;
    }

    attempt.state = "greeting";
    attempt.leaf = leaf;
    this.#command({ type: "admit", connection });
    const { instance, features, software, randomHex } = this.#options;
    const nonce = randomHex(32);
    const number = attempt.number;
    this.#sendOn(connection, hello({ instance, attempt: number, features, nonce, software }));
  }

  handleControl({ connection, frame }: ControlEvent, now: Instant): void {
    if (!this.owns(connection)) return;

    const decoded = decodeLegMessage(frame);
    if (!decoded.ok) {
      this.#violate(connection, `${decoded.error.reason}: ${decoded.error.detail}`, now);
    } else if (this.#attempt?.connection === connection) {
      this.#handleGreeting(this.#attempt, decoded.value, now);
    } else {
      this.#handleMessage(connection, decoded.value, now);
    }
  }

  handleClosed(event: ClosedEvent, now: Instant): void {
    if (!this.owns(event.connection)) return;

    const reason = describeClose(event);
    if (isViolation(event)) this.#outputs.push({ type: "violation", reason });
    if (this.#attempt?.connection === event.connection) this.#failAttempt(reason, isRefusal(event));
    else if (this.#ready?.connection === event.connection) this.#lose(reason, now);
  }

  /** Nothing answers a PING: dial the successor while this leg may still come back. */
  handleLegSilent({ connection }: LegSilentEvent, now: Instant): void {
    if (this.#ready?.connection !== connection || this.#attempt !== undefined) return;
    if (this.#dialAt !== undefined) return;

    this.#schedule.restart(now);
    this.#dial(now);
  }

  /** Sends a message that is not answered. Returns whether there was a leg to send it on. */
  send(message: LegMessage): boolean {
    if (this.#ready === undefined) return false;

    this.#sendOn(this.#ready.connection, message);
    return true;
  }

  /** Sends a request and returns its number; `undefined` without a leg or with too many pending. */
  request(body: LegRequest, now: Instant): number | undefined {
    if (this.#ready === undefined || this.#pending.size >= REQUESTS_PENDING_MAX) return undefined;

    this.#requests += 1;
    this.#pending.set(this.#requests, after(now, REQUEST_TIMEOUT));
    this.#sendOn(this.#ready.connection, { ...body, request: this.#requests } as LegMessage);
    return this.#requests;
  }

  /** Other relays are trusted from here on: one whose leaf does not pass loses its leg. */
  handleIdentities(now: Instant): void {
    for (const { connection, leaf } of [this.#attempt, this.#ready].filter(
      (it) => it !== undefined,
    )) {
      const relay = leaf && this.#options.judgeRelay(leaf);
      if (relay === undefined || relay.ok) continue;

      const reason = `${relay.error.reason}: ${relay.error.detail}`;
      this.#close(connection, CloseCode.UNAUTHENTICATED, "certificate does not fit this relay");
      if (this.#attempt?.connection === connection) this.#failAttempt(reason, true);
      else this.#lose(reason, now);
    }
  }

  /** Gives the leg up although it answers: what came over it does not add up. */
  reconnect(reason: string, now: Instant): void {
    if (this.#ready === undefined) return;

    this.#close(this.#ready.connection, CloseCode.SUPERSEDED, reason);
    this.#lose(reason, now);
  }

  handleTimeout(now: Instant): void {
    for (const [request, due] of this.#pending) {
      if (due > now) continue;
      this.#pending.delete(request);
      this.#outputs.push({ type: "unanswered", request, reason: "no answer in time" });
    }

    if (this.#dialAt === undefined || this.#dialAt > now) return;
    if (this.#attempt !== undefined) {
      this.#close(this.#attempt.connection, CloseCode.SUPERSEDED, "given up");
      this.#failAttempt("no welcome before the next attempt", false);
    }
    this.#dial(now);
  }

  pollOutput(): LegOutput | undefined {
    return this.#outputs.shift();
  }

  pollTimeout(): Instant | undefined {
    const due = [...this.#pending.values()];
    if (this.#dialAt !== undefined) due.push(this.#dialAt);
    return earliest(...due);
  }

  #dial(now: Instant): void {
    const connection = this.#options.issueConnection();
    this.#attempts += 1;
    this.#attempt = { connection, number: this.#attempts, state: "dialling" };
    this.#dialAt = this.#schedule.handleAttempt(now);
    this.#outputs.push({ type: "dial", connection, attempt: this.#attempts });
  }

  #handleGreeting(attempt: Attempt, message: DecodedLegMessage, now: Instant): void {
    if (message.type === "ignored") return;
    if (message.type !== "welcome") {
      this.#violate(attempt.connection, `${message.type} before welcome`, now);
      return;
    }

    const old = this.#ready;
    this.#voidRequests("the leg was superseded");
    const { connection, leaf } = attempt;
    this.#ready = { connection, leaf, since: now, retryAt: this.#dialAt ?? now };
    this.#attempt = undefined;
    this.#dialAt = undefined;
    const newEpoch = this.#epoch !== undefined && this.#epoch !== message.epoch;
    this.#epoch = message.epoch;
    this.#outputs.push({ type: "ready", connection, welcome: message, newEpoch });
    // After `ready`: the owner re-opens its paths over the successor before the old leg ends.
    if (old !== undefined) this.#close(old.connection, CloseCode.SUPERSEDED, "a later leg");
  }

  #handleMessage(connection: ConnectionHandle, message: DecodedLegMessage, now: Instant): void {
    switch (message.type) {
      case "ignored":
        return;
      case "unknown-request":
      case "invalid-request": {
        const code = message.type === "unknown-request" ? "unsupported" : "invalid";
        this.#sendOn(connection, failure(message.request, code, message.name));
        return;
      }
      case "reauthenticate":
        this.#sendOn(connection, failure(message.request, "unsupported", message.type));
        return;
      case "hello":
      case "welcome":
        this.#violate(connection, `${message.type} on a leg that is ready`, now);
        return;
      case "register-ok":
      case "session-open-ok":
      case "failed":
        this.#handleAnswer(message);
        return;
      default:
        this.#outputs.push({ type: "message", message });
    }
  }

  #handleAnswer(answer: LegAnswer): void {
    const { request } = answer;
    if (this.#pending.delete(request)) this.#outputs.push({ type: "answered", request, answer });
    else this.#outputs.push({ type: "late-answer", answer });
  }

  #violate(connection: ConnectionHandle, reason: string, now: Instant): void {
    this.#close(connection, CloseCode.PROTOCOL_VIOLATION, reason);
    this.#outputs.push({ type: "violation", reason });
    if (this.#attempt?.connection === connection) this.#failAttempt(reason, false);
    else this.#lose(reason, now);
  }

  #failAttempt(reason: string, refused: boolean): void {
    this.#attempt = undefined;
    this.#outputs.push({ type: "attempt-failed", reason, refused });
  }

  #lose(reason: string, now: Instant): void {
    const ready = this.#ready;
    assert(ready !== undefined, "only a ready leg is lost");
    this.#ready = undefined;
    this.#voidRequests("the leg was lost");
    this.#outputs.push({ type: "lost", reason });
    if (this.#attempt !== undefined || this.#dialAt !== undefined) return;

    if (now - ready.since >= STABLE_AFTER) this.#schedule.restart(now);
    // Never in the same step: a relay that closes at once would keep the machine busy.
    this.#dialAt = now - ready.since >= STABLE_AFTER ? now : later(ready.retryAt, now);
  }

  #voidRequests(reason: string): void {
    const requests = [...this.#pending.keys()];
    this.#pending.clear();
    for (const request of requests) this.#outputs.push({ type: "unanswered", request, reason });
  }

  #sendOn(connection: ConnectionHandle, message: LegMessage): void {
    this.#command({ type: "send-control", connection, frame: encodeControl(message) });
  }

  #close(connection: ConnectionHandle, code: number, reason: string): void {
    this.#command({ type: "close-connection", connection, code, reason });
  }

  #command(command: EndpointCommand): void {
    this.#outputs.push({ type: "command", command });
  }
}

type RequestType = "register" | "session-open";

type WithoutNumber<Message> = Message extends unknown ? Omit<Message, "request"> : never;

interface ReadyLeg {
  readonly connection: ConnectionHandle;
  readonly leaf: LeafInfo | undefined;
  readonly since: Instant;
  /** When the attempt after the one that led to this leg would have been due. */
  readonly retryAt: Instant;
}

interface Attempt {
  readonly connection: ConnectionHandle;
  readonly number: number;
  state: "dialling" | "greeting";
  /** Once it was judged good. */
  leaf?: LeafInfo;
}

function hello(fields: Omit<Hello, "type">): Hello {
  return { type: "hello", ...fields };
}

export function failure(request: number, code: Failed["code"], reason: string): Failed {
  return { type: "failed", request, code, reason };
}

function later(a: Instant, b: Instant): Instant {
  return a > b ? a : b;
}

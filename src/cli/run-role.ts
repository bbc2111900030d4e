/**
 * Keeps a role running until somebody or something ends it.
 *
 * - **SIGTERM and SIGINT** close connections with a reason, within {@link STOP_DEADLINE}; a second
 *   signal ends at once.
 * - **SIGHUP** reloads. What is refused changes nothing and is logged.
 * - **A role that cannot go on** ends the process with 1, so that a supervisor starts it again.
 */
import { OperatorError } from "../base/error.ts";
import { type Duration, ms } from "../base/time.ts";
import type { Logger } from "../observability/logger.ts";
import { ExitCode } from "./exit.ts";

export interface RunningRole {
  /** Closes what is open and tells peers why. */
  stop(reason: string): Promise<void>;
  /** Takes over changed certificates. Throws when it cannot, and then goes on as before. */
  reload(): Promise<void> | void;
  /** Resolves with the reason when the role cannot go on. */
  readonly failed: Promise<string>;
}

export type Signal = "SIGTERM" | "SIGINT" | "SIGHUP";

export interface Surroundings {
  /** Calls `handle` at each signal until the returned function is called. */
  onSignal(signal: Signal, handle: () => void): () => void;
  /** Resolves after `wait`. */
  wait(wait: Duration): Promise<void>;
  readonly log: Logger;
}

/** Orchestrators are promised three seconds; half a second is left for flushing and leaving. */
export const STOP_DEADLINE: Duration = ms(2500);

export async function runUntilEnded(
  role: RunningRole,
  surroundings: Surroundings,
): Promise<ExitCode> {
  const { log } = surroundings;
  const signals = new SignalQueue(surroundings);
  const stopReloading = surroundings.onSignal("SIGHUP", () => void reload(role, log));
  // The data plane's wake-ups do not keep a process alive.
  const alive = setInterval(() => {}, 2 ** 30);
  try {
    const failed = role.failed.then((failure) => ({ failure }));
    const ended = await Promise.race([signals.next(), failed]);
    stopReloading();
    if ("failure" in ended) {
      log.error("data plane died", { detail: ended.failure });
      // What is left is to remove sockets and to remember: not to be waited for without end.
      await stopWithin(role, "data plane died", signals, surroundings);
      return ExitCode.Bug;
    }

    log.info("role stopping", { signal: ended.signal });
    await stopWithin(role, ended.signal, signals, surroundings);
    return ExitCode.Ok;
  } finally {
    clearInterval(alive);
    signals.close();
  }
}

async function stopWithin(
  role: RunningRole,
  reason: string,
  signals: SignalQueue,
  { wait, log }: Surroundings,
): Promise<void> {
  const outcome = await Promise.race([
    role.stop(reason).then(() => "stopped" as const),
    signals.next().then(() => "told twice" as const),
    wait(STOP_DEADLINE).then(() => "overran" as const),
  ]);
  if (outcome === "overran") log.error("role stop overran its deadline");
  else log.info("role stopped", { reason: outcome });
}

async function reload(role: RunningRole, log: Logger): Promise<void> {
  try {
    await role.reload();
    log.info("configuration reloaded");
  } catch (error) {
    const code = error instanceof OperatorError ? error.code : "BUG";
    log.error("configuration reload refused", {
      code,
      detail: error instanceof Error ? error.message : String(error),
    });
  }
}

class SignalQueue {
  readonly #waiting: ((ended: { signal: Signal }) => void)[] = [];
  readonly #arrived: Signal[] = [];
  readonly #close: (() => void)[];

  constructor({ onSignal }: Surroundings) {
    this.#close = (["SIGTERM", "SIGINT"] as const).map((signal) =>
      onSignal(signal, () => this.#arrive(signal)),
    );
  }

  next(): Promise<{ signal: Signal }> {
    const signal = this.#arrived.shift();
    if (signal !== undefined) return Promise.resolve({ signal });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  close(): void {
    for (const close of this.#close) close();
  }

  #arrive(signal: Signal): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#arrived.push(signal);
    else waiting({ signal });
  }
}

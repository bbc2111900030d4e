/**
 * Control frames of tunnels, taken no faster than the protocol allows (`docs/protocol.md` §8).
 *
 * - **A frame beyond the rate waits with its tunnel**, in order, and holds up no other tunnel's.
 * - **Whoever stays beyond the rate** has exceeded it: the owner ends the tunnel, and what waits goes
 *   with it.
 *
 * Held by composition: feed it with `handle*` and ask `pollTimeout`. What may be taken goes to the owner.
 */
import { Deadlines } from "../base/deadlines.ts";
import type { Instant } from "../base/time.ts";
import { FramePacer } from "../protocol/frame-pacer.ts";
import {
  AGENT_FRAMES_BURST,
  AGENT_FRAMES_PER_SECOND,
  CONNECTOR_FRAMES_FACTOR,
} from "../protocol/limits.ts";
import type { ConnectionHandle, ControlEvent } from "./endpoint-port.ts";

export interface FrameOwner {
  /** Returns `undefined` for a tunnel that is gone. */
  readonly pacerOf: (tunnel: ConnectionHandle) => FramePacer | undefined;
  readonly take: (event: ControlEvent, now: Instant) => void;
  readonly exceed: (tunnel: ConnectionHandle) => void;
}

export class PacedFrames {
  readonly #owner: FrameOwner;
  readonly #deadlines = new Deadlines<ConnectionHandle>();
  /** Tunnels with a deadline. One that is gone stays until it comes, ten seconds at most. */
  readonly #waiting = new Set<ConnectionHandle>();

  constructor(owner: FrameOwner) {
    this.#owner = owner;
  }

  handleControl(event: ControlEvent, now: Instant): void {
    const { connection } = event;
    const pacer = this.#owner.pacerOf(connection);
    switch (pacer?.handleFrame(event.frame, now)) {
      case "take":
        this.#owner.take(event, now);
        return;
      case "wait":
        this.#wait(connection, pacer);
        return;
      case "exceeded":
        this.#owner.exceed(connection);
        return;
      case undefined:
        return;
    }
  }

  handleTimeout(now: Instant): void {
    for (;;) {
      const connection = this.#deadlines.popDue(now);
      if (connection === undefined) return;
      this.#waiting.delete(connection);
      this.#takeWaiting(connection, now);
    }
  }

  pollTimeout(): Instant | undefined {
    return this.#deadlines.earliest();
  }

  #takeWaiting(connection: ConnectionHandle, now: Instant): void {
    // A frame that was taken may have ended its tunnel.
    for (;;) {
      const pacer = this.#owner.pacerOf(connection);
      const frame = pacer?.pollFrame(now);
      if (frame !== undefined) {
        this.#owner.take({ type: "control", connection, frame }, now);
      } else if (pacer?.isExceeded(now)) {
        this.#owner.exceed(connection);
        return;
      } else {
        this.#wait(connection, pacer);
        return;
      }
    }
  }

  #wait(connection: ConnectionHandle, pacer: FramePacer | undefined): void {
    const due = pacer?.pollTimeout();
    if (due === undefined || this.#waiting.has(connection)) return;
    this.#waiting.add(connection);
    this.#deadlines.set(due, connection);
  }
}

/** Returns the pace of one tunnel whose other end is an agent. */
export function agentPacer(): FramePacer {
  return new FramePacer({ perSecond: AGENT_FRAMES_PER_SECOND, burst: AGENT_FRAMES_BURST });
}

/** Returns the pace of one tunnel whose other end is a connector. */
export function connectorPacer(): FramePacer {
  return new FramePacer({
    perSecond: AGENT_FRAMES_PER_SECOND * CONNECTOR_FRAMES_FACTOR,
    burst: AGENT_FRAMES_BURST * CONNECTOR_FRAMES_FACTOR,
  });
}

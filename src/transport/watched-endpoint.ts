/**
 * An endpoint with what every role does alike around it.
 *
 * - **Figures are asked for and waited for**; a data plane that does not answer in time is busy, and
 *   the figures then keep their last value.
 * - **Commands that must succeed are waited for**: a role starts only when they did.
 * - **Events that concern no state machine end here**: figures, warnings, the end of the thread.
 */
import { ERROR_CODES, OperatorError } from "../base/error.ts";
import { after, type Clock, type Duration, seconds } from "../base/time.ts";
import type { Logger } from "../observability/logger.ts";
import type { Command, Endpoint, EndpointEvent, EndpointSnapshot } from "./endpoint.ts";

export interface WatchedEndpointOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** The data plane cannot go on. */
  readonly onStopped: (reason: string) => void;
}

const SNAPSHOT_WAIT: Duration = seconds(2);

export class WatchedEndpoint {
  readonly #endpoint: Endpoint;
  readonly #options: WatchedEndpointOptions;
  readonly #snapshots = new Map<number, (snapshot: EndpointSnapshot) => void>();
  #failedCommand: { readonly code: string; readonly message: string } | undefined;
  #snapshotRequests = 0;
  #closed = false;

  constructor(endpoint: Endpoint, options: WatchedEndpointOptions) {
    this.#endpoint = endpoint;
    this.#options = options;
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  get localAddresses(): readonly string[] {
    return this.#endpoint.localAddresses;
  }

  send(command: Command): void {
    if (!this.#closed) this.#endpoint.send(command);
  }

  /** Returns whether the event was one for this layer. */
  handleEvent(event: EndpointEvent): boolean {
    const { logger, onStopped } = this.#options;
    switch (event.type) {
      case "snapshot":
        this.#snapshots.get(event.request)?.(event.snapshot);
        return true;
      case "command-failed":
        this.#failedCommand ??= event;
        logger.error("data plane command failed", { code: event.code, detail: event.message });
        return true;
      case "warning":
        logger.warn("data plane warning", { reason: event.what, detail: event.detail });
        return true;
      case "overflow":
        logger.warn("data plane events dropped", { count: event.dropped });
        return true;
      case "stopped":
        onStopped(event.fatal ?? "the data plane stopped");
        return true;
      default:
        return false;
    }
  }

  /** Figures of the moment, or `undefined` when the data plane is too busy to give them. */
  snapshot(): Promise<EndpointSnapshot | undefined> {
    if (this.#closed) return Promise.resolve(undefined);

    this.#snapshotRequests += 1;
    const request = this.#snapshotRequests;
    const { clock } = this.#options;
    return new Promise((resolve) => {
      const settle = (snapshot: EndpointSnapshot | undefined) => {
        cancel();
        this.#snapshots.delete(request);
        resolve(snapshot);
      };
      const cancel = clock.schedule(after(clock.now(), SNAPSHOT_WAIT), () => settle(undefined));
      this.#snapshots.set(request, settle);
      this.#endpoint.send({ type: "snapshot", request });
    });
  }

  /**
   * Waits until the commands so far were carried out: they are, in order, before the figures.
   *
   * @throws OperatorError when one of them failed.
   */
  async requireCommandsDone(): Promise<void> {
    await this.snapshot();
    if (this.#failedCommand === undefined) return;

    const { code, message } = this.#failedCommand;
    throw new OperatorError(ERROR_CODES.find((known) => known === code) ?? "SYSTEM", message);
  }

  async close(code: number, reason: string): Promise<void> {
    this.#closed = true;
    await this.#endpoint.close(code, reason);
  }
}

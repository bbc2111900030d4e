/** An endpoint without a network: it keeps the commands and says what a test tells it to. */
import type {
  Command,
  Endpoint,
  EndpointEvent,
  EndpointOptions,
  EndpointSnapshot,
} from "../../src/transport/endpoint.ts";

export class MemoryEndpoint implements Endpoint {
  readonly commands: Command[] = [];
  readonly localAddresses: readonly string[];
  readonly options: EndpointOptions;
  /** What `close` was called with. */
  closed: { readonly code: number; readonly reason: string } | undefined;
  readonly #onEvents: (events: readonly EndpointEvent[]) => void;
  readonly #failing: Command["type"] | undefined;
  #issued = 0;

  constructor(
    options: EndpointOptions,
    onEvents: (events: readonly EndpointEvent[]) => void,
    /** The type of commands that fail. */
    failing?: Command["type"],
  ) {
    this.options = options;
    this.localAddresses = options.listen;
    this.#onEvents = onEvents;
    this.#failing = failing;
  }

  send(command: Command): void {
    this.commands.push(command);
    if (command.type === this.#failing) {
      const failure = { code: "TLS_MATERIAL_INVALID", message: "not today" };
      queueMicrotask(() => this.emit({ type: "command-failed", ...failure }));
    }
    if (command.type !== "snapshot") return;

    const { request } = command;
    queueMicrotask(() => this.emit({ type: "snapshot", request, snapshot: SNAPSHOT }));
  }

  emit(...events: readonly EndpointEvent[]): void {
    this.#onEvents(events);
  }

  issueConnectionHandle(): number {
    return ++this.#issued;
  }

  issueChannelId(): string {
    return (++this.#issued * 2 + 1).toString(16).padStart(16, "0");
  }

  close(code: number, reason: string): Promise<void> {
    this.closed ??= { code, reason };
    return Promise.resolve();
  }
}

const SNAPSHOT: EndpointSnapshot = {
  counters: { channel_packets: 7 },
  connections: [],
  services: [],
  channels: 0,
  connectionsTotal: 0,
  flows: 0,
};

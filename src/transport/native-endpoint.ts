/**
 * The {@link Endpoint} that the data plane's thread serves.
 *
 * - **Events come in batches after one wake-up**, never inside a call and never before the endpoint
 *   was handed out.
 * - **The boundary has a version**: an addon that speaks another one is not used.
 * - **A thread that ended by a bug ends the process** (`stopped` with `fatal`): its owner decides how.
 */
import { assert } from "../base/assert.ts";
import { OperatorError } from "../base/error.ts";
import type {
  Command,
  ConnectionHandle,
  Endpoint,
  EndpointEvent,
  EndpointOptions,
  OpenEndpoint,
} from "./endpoint.ts";
import { loadAddon } from "./load-addon.ts";
import { describeNativeError } from "./native-error.ts";

/** `ABI_VERSION` of `native/crates/ztna-napi/src/lib.rs`. */
const ABI_VERSION = 3;

export const openNativeEndpoint: OpenEndpoint = (options, onEvents) =>
  new NativeEndpoint(loadBinding(), options, onEvents);

class NativeEndpoint implements Endpoint {
  readonly localAddresses: readonly string[];
  readonly #binding: BindingEndpoint;
  readonly #onEvents: (events: readonly EndpointEvent[]) => void;
  readonly #stopped = Promise.withResolvers<void>();
  #closing = false;

  constructor(
    binding: Binding,
    options: EndpointOptions,
    onEvents: (events: readonly EndpointEvent[]) => void,
  ) {
    this.#onEvents = onEvents;
    try {
      this.#binding = new binding.BindingEndpoint(options, () => this.#drain());
    } catch (error) {
      throw describeNativeError(error);
    }
    this.localAddresses = this.#binding.localAddresses();
  }

  send(command: Command): void {
    try {
      this.#binding.send(command);
    } catch (error) {
      throw describeNativeError(error);
    }
  }

  issueConnectionHandle(): ConnectionHandle {
    return this.#binding.issueConnectionHandle();
  }

  issueChannelId(): string {
    return this.#binding.issueChannelId();
  }

  close(code: number, reason: string): Promise<void> {
    if (!this.#closing) {
      this.#closing = true;
      this.#binding.shutDown(code, reason);
    }
    return this.#stopped.promise;
  }

  #drain(): void {
    const events = this.#binding.drain();
    if (events.length === 0) return;

    const stopped = events.some((event) => event.type === "stopped");
    // The thread has nothing left to do but to return.
    if (stopped) this.#binding.join();
    try {
      this.#onEvents(events);
    } finally {
      if (stopped) this.#stopped.resolve();
    }
  }
}

interface Binding {
  readonly abiVersion: () => number;
  readonly BindingEndpoint: new (options: EndpointOptions, wake: () => void) => BindingEndpoint;
}

interface BindingEndpoint {
  send(command: Command): void;
  drain(): EndpointEvent[];
  issueConnectionHandle(): number;
  issueChannelId(): string;
  localAddresses(): string[];
  shutDown(code: number, reason: string): void;
  join(): void;
}

function loadBinding(): Binding {
  const binding = loadAddon() as Binding;
  assert(typeof binding.abiVersion === "function", "the addon exports its version");
  const version = binding.abiVersion();
  if (version !== ABI_VERSION) {
    throw new OperatorError(
      "DATA_PLANE_UNAVAILABLE",
      `the data plane speaks version ${version} of the boundary, this program ${ABI_VERSION}`,
      { hint: "Build both from one source tree: npm run build." },
    );
  }
  return binding;
}

/** A UDP client that sends one datagram and waits for the one that answers it. */
import { isIPv6 } from "node:net";
import { eventually } from "./eventually.ts";

/** What is put around each payload on its way to a proxy. */
export interface Framing {
  wrap(payload: Uint8Array): Uint8Array;
  unwrap(datagram: Buffer): Buffer;
}

export interface UdpClientOptions {
  /** 0 lets the system choose. */
  readonly localPort?: number;
  readonly framing?: Framing;
  /** Is called when the client is closed. */
  readonly onClose?: () => void;
}

const PLAIN: Framing = { wrap: (payload) => payload, unwrap: (datagram) => datagram };

export class UdpClient {
  readonly #socket: Bun.udp.ConnectedSocket<"buffer">;
  readonly #received: Buffer[];
  readonly #framing: Framing;
  readonly #onClose: () => void;

  private constructor(
    socket: Bun.udp.ConnectedSocket<"buffer">,
    received: Buffer[],
    { framing = PLAIN, onClose = () => undefined }: UdpClientOptions,
  ) {
    this.#socket = socket;
    this.#received = received;
    this.#framing = framing;
    this.#onClose = onClose;
  }

  static async open(
    hostname: string,
    port: number,
    options: UdpClientOptions = {},
  ): Promise<UdpClient> {
    const { localPort = 0, framing = PLAIN } = options;
    const received: Buffer[] = [];
    const socket = await Bun.udpSocket({
      hostname: isIPv6(hostname) ? "::" : "0.0.0.0",
      port: localPort,
      connect: { hostname, port },
      socket: {
        data(_socket, data) {
          received.push(framing.unwrap(Buffer.from(data)));
        },
        error() {
          // An ICMP error is a lost datagram to this client.
        },
      },
    });
    return new UdpClient(socket, received, options);
  }

  get received(): readonly Buffer[] {
    return this.#received;
  }

  send(payload: Uint8Array): void {
    this.#socket.send(this.#framing.wrap(payload));
  }

  /** Sends until the very same octets come back. */
  async echo(payload: Uint8Array): Promise<void> {
    await this.ask(payload, (it) => it.equals(payload));
  }

  /** Sends until something comes that is the answer, and returns that. */
  async ask(
    payload: Uint8Array,
    isAnswer: (datagram: Buffer) => boolean,
    attempts = 5,
  ): Promise<Buffer> {
    const what = `an answer to ${payload.length} octets`;
    for (let attempt = 1; ; attempt += 1) {
      this.send(payload);
      try {
        return await eventually(what, { withinMs: 1000, everyMs: 1 }, () =>
          this.#received.find(isAnswer),
        );
      } catch (error) {
        if (attempt === attempts) throw error;
      }
    }
  }

  close(): void {
    this.#socket.close();
    this.#onClose();
  }
}

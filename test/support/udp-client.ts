/** A UDP client that sends one datagram and waits for the one that answers it. */
import { isIPv6 } from "node:net";
import { eventually } from "./eventually.ts";

export class UdpClient {
  readonly #socket: Bun.udp.ConnectedSocket<"buffer">;
  readonly #received: Buffer[];

  private constructor(socket: Bun.udp.ConnectedSocket<"buffer">, received: Buffer[]) {
    this.#socket = socket;
    this.#received = received;
  }

  static async open(hostname: string, port: number, localPort = 0): Promise<UdpClient> {
    const received: Buffer[] = [];
    const socket = await Bun.udpSocket({
      hostname: isIPv6(hostname) ? "::" : "0.0.0.0",
      port: localPort,
      connect: { hostname, port },
      socket: {
        data(_socket, data) {
          received.push(Buffer.from(data));
        },
        error() {
          // An ICMP error is a lost datagram to this client.
        },
      },
    });
    return new UdpClient(socket, received);
  }

  get received(): readonly Buffer[] {
    return this.#received;
  }

  send(payload: Uint8Array): void {
    this.#socket.send(payload);
  }

  /** Sends until the very same octets come back; returns how often it took. */
  async echo(payload: Uint8Array, attempts = 5): Promise<number> {
    for (let attempt = 1; ; attempt += 1) {
      this.send(payload);
      try {
        await eventually(`${payload.length} octets come back`, { withinMs: 1000, everyMs: 1 }, () =>
          this.#received.find((it) => it.equals(payload)),
        );
        return attempt;
      } catch (error) {
        if (attempt === attempts) throw error;
      }
    }
  }

  close(): void {
    this.#socket.close();
  }
}

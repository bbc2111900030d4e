/** A TCP client whose two directions end on their own, as a conversation with half-close needs. */
import { connect, type Socket } from "node:net";

export class TcpClient {
  readonly #socket: Socket;
  readonly #chunks: Buffer[] = [];
  #received = 0;
  #ended = false;
  #failure: Error | undefined;
  #wake: () => void = () => undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#received += chunk.length;
      this.#wake();
    });
    socket.on("end", () => {
      this.#ended = true;
      this.#wake();
    });
    socket.on("error", (error) => {
      this.#failure = error;
      this.#wake();
    });
    socket.on("close", () => this.#wake());
  }

  /** @param localPort 0 lets the system choose. */
  static open(host: string, port: number, localPort = 0): Promise<TcpClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port, localPort, allowHalfOpen: true });
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(new TcpClient(socket));
      });
      socket.once("error", reject);
    });
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  /** Whether nothing more comes, for whatever reason. */
  get isClosed(): boolean {
    return this.#ended || this.#failure !== undefined || this.#socket.destroyed;
  }

  write(bytes: Uint8Array | string): Promise<void> {
    return new Promise((resolve, reject) =>
      this.#socket.write(bytes, (error) => (error ? reject(error) : resolve())),
    );
  }

  /** Says that nothing more will be written; reading goes on. */
  finish(): void {
    this.#socket.end();
  }

  /** Returns exactly `length` octets. */
  async read(length: number): Promise<Buffer> {
    await this.#until(() => this.#received >= length);
    const all = Buffer.concat(this.#chunks.splice(0));
    if (all.length > length) this.#chunks.push(all.subarray(length));
    this.#received = Math.max(0, all.length - length);
    if (all.length < length) throw new Error(`ended after ${all.length} of ${length} octets`);
    return all.subarray(0, length);
  }

  /** Returns everything up to the end that the peer announced. */
  async readToEnd(): Promise<Buffer> {
    await this.#until(() => false);
    this.#received = 0;
    return Buffer.concat(this.#chunks.splice(0));
  }

  close(): void {
    this.#socket.destroy();
  }

  async #until(enough: () => boolean): Promise<void> {
    while (!enough() && !this.#ended) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#socket.destroyed) throw new Error("closed");
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

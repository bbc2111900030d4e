/**
 * Where log lines leave the process: a bounded queue in front of a descriptor.
 *
 * - **It never blocks the caller and never grows past {@link BACKLOG_BYTES_MAX}.** Bun's own stream
 *   for standard output does neither keep count of what waits nor tell when it has left.
 * - **Order is kept, and one write is under way at a time**, so a line is never torn by the next.
 * - **A reader that went away is final**: lines are dropped from then on, the process goes on.
 */
import { write } from "node:fs";
import { type Duration, ms } from "../base/time.ts";

export interface LogOutput {
  /** Returns whether the line was taken. */
  write(line: string): boolean;
  /** Resolves when everything taken has left, or {@link FLUSH_WAIT} later. */
  flush(): Promise<void>;
}

/** Writes some of `bytes` and says how many, as `write(2)` does. */
export type WriteSome = (
  bytes: Uint8Array,
  done: (error: NodeJS.ErrnoException | null, written: number) => void,
) => void;

/** Octets waiting for a slow reader: some thousand lines, nothing beside the rest of a process. */
export const BACKLOG_BYTES_MAX = 1_048_576;

/** Within the half second that ending a role leaves for it. */
export const FLUSH_WAIT: Duration = ms(200);

/** A descriptor shared with others may be non-blocking; its reader gets this long to make room. */
const RETRY_WAIT: Duration = ms(20);

export function logToDescriptor(descriptor: number): LogOutput {
  return new QueuedOutput((bytes, done) => write(descriptor, bytes, done));
}

export class QueuedOutput implements LogOutput {
  readonly #writeSome: WriteSome;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #isWriting = false;
  #isBroken = false;
  #onIdle: (() => void)[] = [];

  constructor(writeSome: WriteSome) {
    this.#writeSome = writeSome;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  write(line: string): boolean {
    const bytes = Buffer.from(line);
    if (this.#isBroken || this.#waitingBytes + bytes.length > BACKLOG_BYTES_MAX) return false;

    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (!this.#isWriting) this.#writeNext();
    return true;
  }

  flush(): Promise<void> {
    if (!this.#isWriting) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, FLUSH_WAIT);
      this.#onIdle.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #writeNext(): void {
    const bytes = Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#isWriting = bytes.length > 0;
    if (this.#isWriting) this.#writeRest(bytes);
    else for (const idle of this.#onIdle.splice(0)) idle();
  }

  #writeRest(bytes: Buffer): void {
    this.#writeSome(bytes, (error, written) => {
      if (error?.code === "EAGAIN" || error?.code === "EINTR") {
        setTimeout(() => this.#writeRest(bytes), RETRY_WAIT);
        return;
      }
      if (error !== null) {
        this.#isBroken = true;
        this.#waiting = [];
        this.#waitingBytes = 0;
        this.#writeNext();
        return;
      }

      this.#waitingBytes -= written;
      if (written < bytes.length) this.#writeRest(bytes.subarray(written));
      else this.#writeNext();
    });
  }
}

/**
 * Where log lines leave the process: a bounded queue in front of a descriptor.
 *
 * - **It never blocks the caller and never grows past its maxima.** Bun's own stream for standard
 *   output does neither keep count of what waits nor tell when it has left.
 * - **A flood of ordinary lines drops no audit line**: those have {@link AUDIT_BYTES_MAX} of room above
 *   what ordinary lines may fill.
 * - **Order is kept, and one write is under way at a time**, so a line is never torn by the next.
 * - **A reader that went away is final**: lines are dropped from then on, the process goes on.
 * - **A full disk is not**: what cannot be written is dropped, and the next lines are tried again.
 * - **Every line that is dropped counts**, and when lines leave again it is told how many were.
 */
import { write } from "node:fs";
import { type Duration, ms } from "../base/time.ts";

export interface LogOutput {
  /** Takes a line, with its line feed, or drops it: an ordinary one long before one of the audit trail. */
  write(line: string, kind?: LineKind): void;
  /** Lines that never left. */
  readonly dropped: number;
  /** Hears how many lines were dropped since it last did, once lines leave again. */
  onResumed: (dropped: number) => void;
  /** Resolves when everything taken has left, or {@link FLUSH_WAIT} later. */
  flush(): Promise<void>;
}

export type LineKind = "ordinary" | "audit";

/** Writes some of `bytes` and says how many, as `write(2)` does. */
export type WriteSome = (
  bytes: Uint8Array,
  done: (error: NodeJS.ErrnoException | null, written: number) => void,
) => void;

/** Octets waiting for a slow reader: some thousand lines, nothing beside the rest of a process. */
export const BACKLOG_BYTES_MAX = 1_048_576;
/** Octets of audit lines that may wait when ordinary lines have filled theirs. */
export const AUDIT_BYTES_MAX = 1_048_576;

/** Octets that are left for saying how many lines were dropped. */
const REPORT_BYTES = 1024;

/** Within the half second that ending a role leaves for it. */
export const FLUSH_WAIT: Duration = ms(200);

/** Of a descriptor that nobody will read any more. */
const GONE: ReadonlySet<string | undefined> = new Set(["EPIPE", "EBADF", "ECONNRESET"]);

const LINE_FEED = 0x0a;

/** A descriptor shared with others may be non-blocking; its reader gets this long to make room. */
const RETRY_WAIT: Duration = ms(20);

export function logToDescriptor(descriptor: number): LogOutput {
  return new QueuedOutput((bytes, done) => write(descriptor, bytes, done));
}

export class QueuedOutput implements LogOutput {
  onResumed: (dropped: number) => void = () => {};
  readonly #writeSome: WriteSome;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #isWriting = false;
  #isBroken = false;
  /** Whether what was written last ended a line. */
  #endsLine = true;
  #dropped = 0;
  #untold = 0;
  #onIdle: (() => void)[] = [];

  constructor(writeSome: WriteSome) {
    this.#writeSome = writeSome;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  get dropped(): number {
    return this.#dropped;
  }

  write(line: string, kind: LineKind = "ordinary"): void {
    const bytes = Buffer.from(line);
    const room = kind === "audit" ? BACKLOG_BYTES_MAX + AUDIT_BYTES_MAX : BACKLOG_BYTES_MAX;
    if (this.#isBroken || this.#waitingBytes + bytes.length > room) {
      this.#countDropped(bytes);
      return;
    }

    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (!this.#isWriting) this.#writeNext();
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
    if (!this.#endsLine && this.#waiting.length > 0) {
      // What follows does not continue a line that was torn.
      this.#waiting.unshift(Buffer.of(LINE_FEED));
      this.#waitingBytes += 1;
    }
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
        this.#lose(bytes, GONE.has(error.code));
        return;
      }

      this.#waitingBytes -= written;
      if (written > 0) this.#endsLine = bytes[written - 1] === LINE_FEED;
      if (written < bytes.length) {
        this.#writeRest(bytes.subarray(written));
        return;
      }
      this.#tellDropped();
      this.#writeNext();
    });
  }

  /** Goes on without `bytes`, or for ever without a reader. */
  #lose(bytes: Buffer, isFinal: boolean): void {
    this.#waitingBytes -= bytes.length;
    this.#countDropped(bytes);
    if (isFinal) {
      this.#isBroken = true;
      for (const waiting of this.#waiting.splice(0)) this.#countDropped(waiting);
      this.#waitingBytes = 0;
    }
    this.#writeNext();
  }

  /** A line feed in front belongs to a line that has left, or that was counted. */
  #countDropped(bytes: Buffer): void {
    const lines = bytes.filter((octet, index) => octet === LINE_FEED && index > 0).length;
    this.#dropped += lines;
    this.#untold += lines;
  }

  #tellDropped(): void {
    const count = this.#untold;
    if (count === 0 || this.#waitingBytes + REPORT_BYTES > BACKLOG_BYTES_MAX) return;
    this.#untold = 0;
    this.onResumed(count);
  }
}

import { describe, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  AUDIT_BYTES_MAX,
  BACKLOG_BYTES_MAX,
  logToDescriptor,
  QueuedOutput,
} from "../../../src/observability/log-output.ts";

describe("log output", () => {
  test("keeps lines in order while one write is under way at a time", () => {
    const { output, writes, finish } = newOutput();

    for (const line of ["a\n", "b\n", "c\n"]) output.write(line);
    const first = [...writes];
    finish();
    finish();

    expect(first).toEqual(["a\n"]);
    expect(writes).toEqual(["a\n", "b\nc\n"]);
    expect(output.waitingBytes).toBe(0);
  });

  test("goes on where a short write ended", () => {
    const { output, writes, finish } = newOutput();

    output.write("abcdef\n");
    finish(3);

    expect(writes).toEqual(["abcdef\n", "def\n"]);
    expect(output.waitingBytes).toBe(4);
  });

  test("holds as much as the maximum for a reader that stopped, and not an octet more", () => {
    const { output, finish } = newOutput();
    const full = `${"x".repeat(BACKLOG_BYTES_MAX - 1)}\n`;

    output.write(full);
    const atTheMaximum = output.dropped;
    output.write("y\n");
    const onePast = output.dropped;
    finish(2);
    output.write("y\n");

    expect([atTheMaximum, onePast, output.dropped]).toEqual([0, 1, 1]);
    expect(output.waitingBytes).toBe(BACKLOG_BYTES_MAX);
  });

  test("takes audit lines when ordinary ones have filled their room, up to a maximum of their own", () => {
    const { output, writes, finish } = newOutput();
    output.write(`${"x".repeat(BACKLOG_BYTES_MAX - 1)}\n`);
    output.write("y\n");

    output.write(`${"a".repeat(AUDIT_BYTES_MAX - 1)}\n`, "audit");
    const atTheMaximum = output.dropped;
    output.write("b\n", "audit");
    finish();
    // What waits is of the audit trail and fills the ordinary room.
    output.write("z\n");

    expect([atTheMaximum, output.dropped]).toEqual([1, 3]);
    expect(writes[1]?.slice(0, 2)).toBe("aa");
    expect(output.waitingBytes).toBe(AUDIT_BYTES_MAX);
  });

  test("octets count, not letters", () => {
    const { output } = newOutput();

    output.write(`${"é".repeat(BACKLOG_BYTES_MAX / 2)}\n`);

    expect(output.dropped).toBe(1);
  });

  test("tells how many lines were dropped when there is room again, once", () => {
    const { output, finish, told } = newOutput();
    output.write(`${"x".repeat(BACKLOG_BYTES_MAX - 1)}\n`);
    output.write("y\n");
    output.write("y\n");

    const before = [...told];
    finish();
    output.write("z\n");
    finish();

    expect([before, told]).toEqual([[], [2]]);
  });

  test("a reader that went away ends the log and not the process", async () => {
    const { output, writes, fail, told } = newOutput();
    output.write("a\n");
    output.write("b\n");

    fail("EPIPE");
    output.write("c\n");

    expect([output.dropped, output.waitingBytes, writes.length, told]).toEqual([3, 0, 1, []]);
    await output.flush();
  });

  test("a full disk costs the lines that do not fit, and later lines are tried again", () => {
    const { output, writes, fail, finish, told } = newOutput();
    output.write("a\n");
    output.write("b\n");
    output.write("c\n");

    fail("ENOSPC");
    fail("ENOSPC");
    const whileFull = [output.dropped, output.waitingBytes];
    output.write("d\n");
    finish();

    expect(whileFull).toEqual([3, 0]);
    expect(writes).toEqual(["a\n", "b\nc\n", "d\n"]);
    expect([output.dropped, told]).toEqual([3, [3]]);
  });

  test("a line after one that a full disk tore begins on a line of its own", () => {
    const { output, writes, fail, finish } = newOutput();
    output.write("abcdef\n");
    finish(3);
    fail("ENOSPC");

    output.write("g\n");
    fail("ENOSPC");
    output.write("h\n");
    finish();

    expect(writes).toEqual(["abcdef\n", "def\n", "\ng\n", "\nh\n"]);
    expect([output.dropped, output.waitingBytes]).toEqual([2, 0]);
  });

  test("a full non-blocking descriptor is tried again", async () => {
    const { output, writes, fail, finish, attempted } = newOutput();
    output.write("a\n");

    fail("EAGAIN");
    await attempted(2);
    finish();

    expect(writes).toEqual(["a\n", "a\n"]);
    expect(output.waitingBytes).toBe(0);
  });

  test("flushing waits for what was taken", async () => {
    const { output, finish } = newOutput();
    output.write("a\n");
    let flushed = false;

    const flushing = output.flush().then(() => {
      flushed = true;
    });
    await Promise.resolve();
    const before = flushed;
    finish();
    await flushing;

    expect([before, flushed]).toEqual([false, true]);
  });

  test("flushing gives up on a reader that does not read", async () => {
    const { output } = newOutput();
    output.write("a\n");

    await output.flush();

    expect(output.waitingBytes).toBe(2);
  });

  test("a real device that is full costs the lines and nothing else", async () => {
    const descriptor = openSync("/dev/full", "w");
    const output = logToDescriptor(descriptor);

    output.write("a\n");
    output.write("b\n");
    await output.flush();

    expect(output.dropped).toBe(2);
    closeSync(descriptor);
  });

  test("reaches a real descriptor whole", async () => {
    const directory = mkdtempSync(join(tmpdir(), "ztna-log-"));
    const descriptor = openSync(join(directory, "log"), "w");
    const output = logToDescriptor(descriptor);
    const lines = Array.from({ length: 1000 }, (_, index) => `${index} ${"x".repeat(500)}\n`);

    for (const line of lines) output.write(line);
    await output.flush();

    expect(readFileSync(join(directory, "log"), "utf8")).toBe(lines.join(""));
    closeSync(descriptor);
    rmSync(directory, { recursive: true });
  });
});

function newOutput() {
  const writes: string[] = [];
  let waiting: ((count: number) => void) | undefined;
  let done: (error: NodeJS.ErrnoException | null, written: number) => void = () => {};
  let bytesUnderWay = 0;
  const output = new QueuedOutput((bytes, callback) => {
    writes.push(Buffer.from(bytes).toString());
    bytesUnderWay = bytes.length;
    done = callback;
    waiting?.(writes.length);
  });
  const told: number[] = [];
  output.onResumed = (count) => told.push(count);
  return {
    output,
    writes,
    told,
    finish: (written = bytesUnderWay) => done(null, written),
    fail: (code: string) => done(Object.assign(new Error(code), { code }), 0),
    attempted: (count: number) =>
      new Promise<void>((resolve) => {
        waiting = (attempts) => {
          if (attempts >= count) resolve();
        };
      }),
  };
}

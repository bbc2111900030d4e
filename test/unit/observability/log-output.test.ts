import { describe, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
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

    const fits = output.write("x".repeat(BACKLOG_BYTES_MAX));
    const tooMuch = output.write("y");
    finish(1);

    expect([fits, tooMuch, output.write("y")]).toEqual([true, false, true]);
  });

  test("octets count, not letters", () => {
    const { output } = newOutput();

    expect(output.write("é".repeat(BACKLOG_BYTES_MAX / 2 + 1))).toBe(false);
  });

  test("a reader that went away ends the log and not the process", async () => {
    const { output, writes, fail } = newOutput();
    output.write("a\n");
    output.write("b\n");

    fail("EPIPE");

    expect([output.write("c\n"), output.waitingBytes, writes.length]).toEqual([false, 0, 1]);
    await output.flush();
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
  return {
    output,
    writes,
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

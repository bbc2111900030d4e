import { describe, expect, test } from "bun:test";
import { OperatorError } from "../../../src/base/error.ts";
import { ExitCode } from "../../../src/cli/exit.ts";
import {
  type RunningRole,
  runUntilEnded,
  type Signal,
  STOP_DEADLINE,
} from "../../../src/cli/run-role.ts";

describe("a running role", () => {
  test.each(["SIGTERM", "SIGINT"] as const)(
    "%s stops it with a reason and success",
    async (signal) => {
      const { ended, send, stops, said } = start();

      send(signal);

      expect(await ended).toBe(ExitCode.Ok);
      expect(stops).toEqual([signal]);
      expect(said()).toEqual(["role stopping", "role stopped"]);
    },
  );

  test("ends at its deadline when stopping takes too long", async () => {
    const { ended, send, said, waits } = start({ stop: () => new Promise(() => {}) });

    send("SIGTERM");
    await flush();
    waits.shift()?.();

    expect(await ended).toBe(ExitCode.Ok);
    expect(said()).toEqual(["role stopping", "role stop overran its deadline"]);
  });

  test("leaves half a second of the three that orchestrators are promised", () => {
    expect(Number(STOP_DEADLINE)).toBe(2500);
  });

  test("a second signal ends it at once", async () => {
    const { ended, send, stops } = start({ stop: () => new Promise(() => {}) });

    send("SIGTERM");
    await flush();
    send("SIGINT");

    expect(await ended).toBe(ExitCode.Ok);
    expect(stops).toEqual(["SIGTERM"]);
  });

  test("a role that cannot go on is a failure for the supervisor", async () => {
    const { ended, fail, stops, said } = start();

    fail("the thread panicked");

    expect(await ended).toBe(ExitCode.Bug);
    expect(stops).toEqual(["data plane died"]);
    expect(said()).toEqual(["data plane died", "role stopped"]);
  });

  test("a role that cannot go on and cannot stop either still ends", async () => {
    const { ended, fail, waits } = start({ stop: () => new Promise(() => {}) });

    fail("the thread panicked");
    await flush();
    waits.shift()?.();

    expect(await ended).toBe(ExitCode.Bug);
  });

  test("SIGHUP reloads each time and goes on", async () => {
    let reloads = 0;
    const { ended, send, said } = start({ reload: () => void reloads++ });

    send("SIGHUP");
    send("SIGHUP");
    await flush();
    send("SIGTERM");
    await ended;

    expect(reloads).toBe(2);
    expect(said().slice(0, 2)).toEqual(["configuration reloaded", "configuration reloaded"]);
  });

  test("a reload that is refused is logged with its code and changes nothing", async () => {
    const reload = () => Promise.reject(new OperatorError("KEY_MISMATCH", "the key is another's"));
    const { ended, send, lines } = start({ reload });

    send("SIGHUP");
    await flush();
    send("SIGTERM");

    expect(await ended).toBe(ExitCode.Ok);
    expect(lines[0]).toEqual([
      "configuration reload refused",
      { code: "KEY_MISMATCH", detail: "the key is another's" },
    ]);
  });
});

function start(part: Partial<RunningRole> = {}) {
  const handlers = new Map<Signal, () => void>();
  const stops: string[] = [];
  const waits: (() => void)[] = [];
  const lines: [string, unknown?][] = [];
  const record = (message: string, fields?: unknown) => void lines.push([message, fields]);
  const failure = Promise.withResolvers<string>();
  const ended = runUntilEnded(
    {
      reload: () => {},
      failed: failure.promise,
      ...part,
      stop: (reason) => {
        stops.push(reason);
        return part.stop?.(reason) ?? Promise.resolve();
      },
    },
    {
      onSignal: (signal, handle) => {
        handlers.set(signal, handle);
        return () => handlers.delete(signal);
      },
      wait: () => new Promise((resolve) => waits.push(resolve)),
      log: {
        trace: record,
        debug: record,
        info: record,
        warn: record,
        error: record,
        audit: () => {},
        linesDropped: 0,
        flush: async () => {},
      },
    },
  );
  return {
    ended,
    stops,
    waits,
    lines,
    send: (signal: Signal) => handlers.get(signal)?.(),
    fail: failure.resolve,
    said: () => lines.map(([message]) => message),
  };
}

/** Lets what was caused so far happen. */
function flush(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

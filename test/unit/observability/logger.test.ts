import { describe, expect, test } from "bun:test";
import { LOG_EVENTS } from "../../../src/observability/log-events.ts";
import type { LogOutput } from "../../../src/observability/log-output.ts";
import { createLogger, type LoggerOptions } from "../../../src/observability/logger.ts";

describe("logger", () => {
  test("a line is one JSON object with level, role, time, message and fields", async () => {
    const { log, lines } = newLogger();

    log.info("path selected", { path: "DIRECT", rttMs: 12 });

    expect(lines()).toEqual([
      {
        level: "info",
        time: expect.stringMatching(/^\d{4}-.*Z$/),
        role: "relay",
        msg: "path selected",
        path: "DIRECT",
        rttMs: 12,
      },
    ]);
  });

  test("a message below the level is not written", () => {
    const { log, lines } = newLogger({ level: "warn" });

    log.info("leg up");
    log.warn("leg lost");

    expect(lines().map(({ msg }) => msg)).toEqual(["leg lost"]);
  });

  test("an audit line is written at every level", () => {
    const { log, lines } = newLogger({ level: "silent" });

    log.error("data plane died");
    log.audit({ identity: "ztna://a/agent/x", service: "s", decision: "deny", rule: "default" });

    expect(lines()).toMatchObject([{ audit: true, decision: "deny", rule: "default" }]);
  });

  test("an audit line is marked as one for the output, and no other line is", () => {
    const { log, kinds } = newLogger();

    log.info("leg up");
    log.audit({ identity: "ztna://a/agent/x", service: "s", decision: "deny", rule: "default" });
    log.warn("leg lost");

    expect(kinds).toEqual(["ordinary", "audit", "ordinary"]);
  });

  test("says how many lines were dropped when lines leave again", () => {
    const { log, lines, drop, resume } = newLogger();

    drop(2);
    log.info("role stopped");
    resume(2);

    expect(log.linesDropped).toBe(2);
    expect(lines()).toMatchObject([
      { msg: "role stopped" },
      { msg: "log lines dropped", level: "warn", count: 2 },
    ]);
  });

  test("a terminal gets readable lines", () => {
    const { log, text } = newLogger({ pretty: true });

    log.info("path selected", { path: "DIRECT" });

    expect(Bun.stripANSI(text())).toMatch(/INFO.*path selected.*"path":\s?"DIRECT"/);
  });

  test("every message is a lower-case fact without values or full stop", () => {
    const odd = Object.keys(LOG_EVENTS).filter((it) => !/^[a-z]+( [a-z]+)*$/.test(it));

    expect(odd).toEqual([]);
  });
});

function newLogger(options: Partial<LoggerOptions> = {}) {
  let text = "";
  let dropped = 0;
  const kinds: unknown[] = [];
  const output: LogOutput = {
    write: (line, kind) => {
      text += line;
      kinds.push(kind);
    },
    get dropped() {
      return dropped;
    },
    onResumed: () => {},
    flush: async () => {},
  };
  const log = createLogger({ level: "info", role: "relay", output, pretty: false, ...options });
  return {
    ...{ log, kinds },
    text: () => text,
    drop: (count: number) => {
      dropped += count;
    },
    resume: (count: number) => output.onResumed(count),
    lines: (): Record<string, unknown>[] =>
      text
        .split("\n")
        .filter((it) => it !== "")
        .map((it) => JSON.parse(it)),
  };
}

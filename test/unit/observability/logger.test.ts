import { describe, expect, test } from "bun:test";
import { Writable } from "node:stream";
import { LOG_EVENTS } from "../../../src/observability/log-events.ts";
import {
  BACKLOG_BYTES_MAX,
  createLogger,
  type Logger,
  type LoggerOptions,
} from "../../../src/observability/logger.ts";

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

  test("a reader that stops reading costs counted lines and no memory", async () => {
    const output = new StalledReader();
    const log = createLogger({ level: "info", role: "relay", output, pretty: false });
    const detail = "x".repeat(64 * 1024);

    for (let count = 0; count < 40; count++) log.info("leg up", { detail });
    const held = output.writableLength;
    await output.resume();
    log.info("role stopped");
    await output.resume();

    expect(held).toBeLessThanOrEqual(BACKLOG_BYTES_MAX);
    expect(held).toBeGreaterThan(BACKLOG_BYTES_MAX - 2 * detail.length);
    const dropped = output.text.match(/"count":(\d+),"msg":"log lines dropped"/)?.[1];
    expect(Number(dropped)).toBe(40 - output.text.split('"msg":"leg up"').length + 1);
  });

  test("a reader that went away does not end the process", () => {
    const output = new Writable({ write: (_chunk, _encoding, done) => done(new Error("EPIPE")) });
    const log = createLogger({ level: "info", role: "relay", output, pretty: false });

    log.info("leg up");

    expect(() => log.info("leg up")).not.toThrow();
  });

  test("flushing waits for a reader that reads and gives up on one that does not", async () => {
    const output = new StalledReader();
    const log = createLogger({ level: "info", role: "relay", output, pretty: false });
    log.info("leg up");
    log.info("role stopped");

    await log.flush();
    const unread = output.text;
    await output.resume();
    await log.flush();

    expect(unread).not.toContain("role stopped");
    expect(output.text).toContain("role stopped");
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

function newLogger(options: Partial<LoggerOptions> = {}): {
  log: Logger;
  text: () => string;
  lines: () => Record<string, unknown>[];
} {
  let text = "";
  const output = new Writable({
    write: (chunk, _encoding, done) => {
      text += String(chunk);
      done();
    },
  });
  const log = createLogger({ level: "info", role: "relay", output, pretty: false, ...options });
  return {
    log,
    text: () => text,
    lines: () =>
      text
        .split("\n")
        .filter((it) => it !== "")
        .map((it) => JSON.parse(it)),
  };
}

/** Takes nothing until it is resumed; then takes everything that waits. */
class StalledReader extends Writable {
  text = "";
  #release: (() => void) | undefined;
  #open = false;

  override _write(chunk: unknown, _encoding: string, done: () => void): void {
    this.text += String(chunk);
    if (this.#open) done();
    else this.#release = done;
  }

  async resume(): Promise<void> {
    this.#open = true;
    this.#release?.();
    this.#release = undefined;
    await new Promise((resolve) => this.write("", resolve));
  }
}

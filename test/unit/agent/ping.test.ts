import { describe, expect, test } from "bun:test";
import { PINGS_MAX, Pinger, type PingLine } from "../../../src/agent/ping.ts";
import { seconds } from "../../../src/base/time.ts";
import type { Command } from "../../../src/transport/endpoint.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

describe("pinger", () => {
  test("pings at once when the service is ready, and sums up after the last reply", () => {
    const bench = new Bench(true);
    const { lines } = bench.begin();

    expect(bench.commands).toEqual([
      { type: "ping", request: 1, service: "echo", count: 2, intervalMs: 1000, size: 56 },
    ]);
    bench.pinger.handleReply({ type: "ping-reply", request: 1, sequence: 0, rttUs: 800 });
    bench.pinger.handleReply({ type: "ping-reply", request: 1, sequence: 1 });

    expect(lines).toEqual([
      { type: "reply", sequence: 0, rttUs: 800 },
      { type: "reply", sequence: 1 },
      { type: "summary", sent: 2, received: 1 },
    ]);
  });

  test("waits for a session and pings when it is granted", () => {
    const bench = new Bench(false);
    bench.begin();
    expect(bench.wanted).toEqual(["echo"]);
    expect(bench.commands).toEqual([]);

    bench.pinger.handleGranted("echo");

    expect(bench.commands).toMatchObject([{ type: "ping", service: "echo" }]);
  });

  test("says why there is no session", () => {
    const bench = new Bench(false);
    const { lines, ended } = bench.begin();

    bench.pinger.handleFailed("web", "no-connector", "another service");
    expect(lines).toEqual([]);
    bench.pinger.handleFailed("echo", "no-connector", "the relay refused");

    expect(lines).toEqual([{ type: "failed", code: "no-connector", reason: "the relay refused" }]);
    expect(ended()).toBe(true);
  });

  test("gives up when no session comes", () => {
    const bench = new Bench(false);
    const { lines } = bench.begin();

    bench.clock.advance(seconds(12));

    expect(lines).toMatchObject([{ type: "failed", code: "timed-out" }]);
  });

  test("ends a series whose replies stay away", () => {
    const bench = new Bench(true);
    const { lines } = bench.begin();

    bench.clock.advance(seconds(7));

    expect(lines).toEqual([{ type: "summary", sent: 2, received: 0 }]);
  });

  test("tells what the connector answered to the echo flow", () => {
    const bench = new Bench(true);
    const { lines } = bench.begin();

    bench.pinger.handleReply({ type: "ping-reply", request: 1, sequence: 0, refused: 1 });

    expect(lines).toEqual([{ type: "refused", sequence: 0, answer: 1 }]);
  });

  test("a series that was cancelled says nothing more", () => {
    const bench = new Bench(true);
    const { lines, cancel } = bench.begin();

    cancel();
    bench.pinger.handleReply({ type: "ping-reply", request: 1, sequence: 0, rttUs: 1 });
    bench.clock.advance(seconds(60));

    expect(lines).toEqual([]);
  });

  test("runs as many series as allowed and not one more", () => {
    const bench = new Bench(true);
    for (let count = 0; count < PINGS_MAX; count++) expect(bench.begin().ended()).toBe(false);

    expect(bench.begin().lines).toMatchObject([{ type: "failed", code: "limit-exceeded" }]);
  });
});

class Bench {
  readonly clock = new VirtualClock();
  readonly commands: Command[] = [];
  readonly wanted: string[] = [];
  readonly pinger: Pinger;

  constructor(ready: boolean) {
    this.pinger = new Pinger({
      clock: this.clock,
      send: (command) => this.commands.push(command),
      want: (service) => this.wanted.push(service),
      isReady: () => ready,
    });
  }

  begin() {
    const lines: PingLine[] = [];
    let isEnded = false;
    const cancel = this.pinger.begin(
      { service: "echo", count: 2, intervalMs: 1000, size: 56 },
      (line) => lines.push(line),
      () => {
        isEnded = true;
      },
    );
    return { lines, cancel, ended: () => isEnded };
  }
}

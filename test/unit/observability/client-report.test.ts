/** What agent and connector say of their legs, and how often. */
import { describe, expect, test } from "bun:test";
import { ms, seconds } from "../../../src/base/time.ts";
import { ClientReport } from "../../../src/observability/client-report.ts";
import { REASONS_MAX, SUM_AFTER } from "../../../src/observability/repeats.ts";
import { MemoryLogger } from "../../support/memory-logger.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const RELAY = "relay.example:4433";
const OTHER = "other.example:4433";

describe("the report of a relay that refuses", () => {
  test("says a reason once, however often it is dialled, and counts each refusal", () => {
    const { report, refuse, warnings, debugs } = bench();

    for (let dial = 0; dial < 5; dial++) refuse("wrong-name");

    expect(warnings()).toEqual([{ relay: RELAY, reason: "wrong-name" }]);
    expect(debugs("leg refused again")).toHaveLength(4);
    expect(report.counters.ztna_handshakes_refused_total).toBe(5);
  });

  test("says another reason, and the reason of another relay", () => {
    const { refuse, warnings } = bench();

    refuse("wrong-name");
    refuse("expired");
    refuse("expired", OTHER);

    expect(warnings().map(({ relay, reason }) => [relay, reason])).toEqual([
      [RELAY, "wrong-name"],
      [RELAY, "expired"],
      [OTHER, "expired"],
    ]);
  });

  test("says after five minutes how often it happened since, and not a moment before", () => {
    const { clock, refuse, warnings } = bench();
    refuse("expired");
    clock.advance(ms(SUM_AFTER - 1));
    refuse("expired");
    const before = warnings().length;

    clock.advance(ms(1));
    refuse("expired");
    refuse("expired");

    expect(before).toBe(1);
    expect(warnings().slice(1)).toEqual([{ relay: RELAY, reason: "expired", count: 2 }]);
  });

  test("says it again once a leg to that relay was up", () => {
    const { report, refuse, warnings } = bench();
    refuse("expired");
    refuse("expired", OTHER);

    report.noteLeg({ type: "relay-ready", relay: RELAY, observed: "192.0.2.9:1", newEpoch: false });
    refuse("expired");
    refuse("expired", OTHER);

    expect(warnings().map(({ relay }) => relay)).toEqual([RELAY, OTHER, RELAY]);
  });

  test("remembers as many reasons as allowed, so that a peer cannot grow it with its words", () => {
    const { refuse, warnings } = bench();
    for (let word = 0; word < REASONS_MAX; word++) refuse(`word ${word}`);
    refuse("word 0");
    const remembered = warnings().length;

    refuse("one more");
    refuse("word 0");

    expect([remembered, warnings().length]).toEqual([REASONS_MAX, REASONS_MAX + 2]);
  });

  test("leaves a leg that the data plane refused to the line with the relay's name", () => {
    const { report, logger } = bench();

    report.noteRefusedHandshake({ remote: "192.0.2.1:4433", reason: "unknown-ca", detail: "" });
    report.noteRefusedHandshake({ reason: "unknown-ca", detail: "of a tunnel" });

    expect(logger.lines.map(({ fields }) => fields.detail)).toEqual(["of a tunnel"]);
    expect(report.counters.ztna_handshakes_refused_total).toBe(1);
  });
});

describe("the report of flows", () => {
  test("is one line for those that are alike, with their number", () => {
    const { report, debugs } = bench();
    const flow = { service: "echo", kind: "tcp" };

    report.noteFlow({ ...flow, change: "opened", count: 3 });
    report.noteFlow({ ...flow, change: "closed", code: 0, count: 2 });
    report.noteFlow({ ...flow, change: "closed", count: 1 });

    expect(debugs("flow opened")).toEqual([{ ...flow, count: 3 }]);
    expect(debugs("flow closed")).toEqual([{ ...flow, code: 0, count: 2 }, flow]);
  });
});

describe("the report of a peer that breaks the protocol", () => {
  test("counts each violation and says each reason once", () => {
    const { clock, report, logger } = bench();

    for (let dial = 0; dial < 3; dial++) {
      report.noteLeg({ type: "relay-violation", relay: RELAY, reason: "invalid-json" });
      report.noteLeg({ type: "relay-ready", relay: RELAY, observed: "", newEpoch: false });
      clock.advance(seconds(2));
    }
    report.noteTunnelViolation("ztna://example/connector/edge", "invalid-json");

    expect(report.counters.ztna_protocol_violations_total).toBe(4);
    const said = logger.lines.filter(({ message }) => message === "protocol violation");
    expect(said.map(({ fields }) => fields)).toEqual([
      { relay: RELAY, reason: "invalid-json" },
      { peer: "ztna://example/connector/edge", reason: "invalid-json" },
    ]);
  });
});

function bench() {
  const clock = new VirtualClock();
  const logger = new MemoryLogger();
  const report = new ClientReport(logger, clock);
  const fieldsOf = (wanted: string) =>
    logger.lines.filter(({ message }) => message === wanted).map(({ fields }) => fields);
  return {
    ...{ clock, logger, report },
    refuse: (reason: string, relay = RELAY) =>
      report.noteLeg({ type: "relay-attempt-failed", relay, reason, refused: true }),
    warnings: () => fieldsOf("leg refused"),
    debugs: fieldsOf,
  };
}

/** What the connector says of its agents, and how often. */
import { describe, expect, test } from "bun:test";
import { ms } from "../../../src/base/time.ts";
import type { AccessRule } from "../../../src/connector/connector-event.ts";
import { ConnectorReport, DENIAL_SUM_AFTER } from "../../../src/connector/connector-report.ts";
import { MemoryLogger } from "../../support/memory-logger.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const ALICE = "ztna://example/agent/alice";
const BOB = "ztna://example/agent/bob";

describe("the audit trail of a connector", () => {
  test("says the same denial once, and counts each", () => {
    const { report, audits, access } = bench();

    for (let count = 0; count < 5; count++) access("session");

    expect(audits).toEqual([
      { identity: ALICE, service: "echo", decision: "deny", rule: "session" },
    ]);
    expect(report.counters.ztna_connector_sessions_refused_total).toBe(5);
  });

  test("says a denial of another service, by another rule, of another agent", () => {
    const { audits, access } = bench();

    access("session");
    access("certificate");
    access("session", { service: "web" });
    access("session", { identity: BOB });

    expect(audits).toHaveLength(4);
  });

  test("says after a minute how often it happened since, and not a moment before", () => {
    const { clock, audits, access } = bench();
    access("session");
    clock.advance(ms(DENIAL_SUM_AFTER - 1));
    access("session");
    const before = audits.length;

    clock.advance(ms(1));
    access("session");

    expect(before).toBe(1);
    expect(audits[1]).toMatchObject({ decision: "deny", count: 2 });
  });

  test("says each access that was allowed, and what is denied after it", () => {
    const { audits, access } = bench();

    for (const rule of ["session", "granted", "granted", "session"] as const) access(rule);

    expect(audits.map(({ decision }) => decision)).toEqual(["deny", "allow", "allow", "deny"]);
  });

  test("says a denial again on another tunnel", () => {
    const { report, audits, access } = bench();
    access("session");

    report.note({ type: "tunnel-admitted", identity: ALICE });
    access("session");

    expect(audits).toHaveLength(2);
  });
});

test("revocations that are left out are told once, not each", () => {
  const { report, logger } = bench();

  for (let count = 1; count < 9; count++) report.note({ type: "revocations-left-out", count });

  expect(logger.lines).toMatchObject([
    { level: "warn", message: "limit reached", fields: { reason: "revocations", count: 1 } },
  ]);
});

function bench() {
  const logger = new MemoryLogger();
  const clock = new VirtualClock();
  const report = new ConnectorReport(logger, clock);
  const { audits } = logger;
  const access = (rule: AccessRule, of: { identity?: string; service?: string } = {}) => {
    const decision = rule === "granted" ? "allow" : "deny";
    report.note({ type: "access", identity: ALICE, service: "echo", ...of, decision, rule });
  };
  return { logger, clock, report, audits, access };
}

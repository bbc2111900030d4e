import { describe, expect, test } from "bun:test";
import { NAMES_PER_LINE_MAX, RelayReport } from "../../../src/relay/relay-report.ts";
import { MemoryLogger } from "../../support/memory-logger.ts";

const identity = "ztna://corp.example/connector/one";
const names = Array.from({ length: 256 }, (_, index) => `s${index}`);

describe("what the relay reports of a registration", () => {
  test("is one line for all names that were refused, with the first of them and every code", () => {
    const { report, logger } = start();
    const rejected = names.map((name, index) => ({
      name,
      code: index === 200 ? ("invalid" as const) : ("refused" as const),
    }));

    report.note({ type: "registration-rejected", identity, rejected });

    const service = names.slice(0, NAMES_PER_LINE_MAX).join(", ");
    expect(logger.lines).toEqual([
      {
        level: "warn",
        message: "service registration rejected",
        fields: { identity, service, count: 256, code: "refused, invalid" },
      },
    ]);
    expect(report.counters.ztna_registration_rejections_total).toBe(256);
  });

  test("is one line for all that came and one for all that went, while each service counts", () => {
    const { report, logger } = start();

    report.note({ type: "registered", identity, services: ["echo", "web"] });
    report.note({ type: "withdrawn", identity, services: ["echo"] });

    expect(logger.lines.map(({ message, fields }) => [message, fields])).toEqual([
      ["service registered", { identity, service: "echo, web", count: 2 }],
      ["service withdrawn", { identity, service: "echo", count: 1 }],
    ]);
    expect(report.counters.ztna_registrations_total).toBe(2);
  });
});

function start() {
  const logger = new MemoryLogger();
  return { logger, report: new RelayReport(logger) };
}

import { describe, expect, test } from "bun:test";
import { includesService, readGrants } from "../../../src/policy/grants.ts";

const OURS = { starGrantsAll: false };

describe("grants", () => {
  test("are read by role, whatever the case of the name", () => {
    const grants = readGrants(["Agent.ECHO-service.ZTNA", "connector.web-app.ztna"], OURS);

    expect(grants).toEqual({ use: new Set(["echo-service"]), provide: new Set(["web-app"]) });
  });

  test("of a role alone are for all services", () => {
    const grants = readGrants(["agent.ztna"], OURS);

    expect(grants).toEqual({ use: "all", provide: new Set() });
    expect(includesService(grants.use, "anything")).toBe(true);
    expect(includesService(grants.use, "not a name")).toBe(false);
  });

  test.each([
    "*",
    "agent.*.ztna",
    "*.ztna",
    "agent.a.b.ztna",
    "agent..ztna",
    "agent.a.ztna.",
    "agent.a.ztna.example",
    "relay.a.ztna",
    "agent.-a.ztna",
    "ztna",
  ])("are not made by %s", (name) => {
    expect(readGrants([name], OURS)).toEqual({ use: new Set(), provide: new Set() });
  });
});

import { describe, expect, test } from "bun:test";
import { EMPTY_TABLE, isGranted, PolicyEngine } from "../../../src/policy/engine.ts";
import { readGrants } from "../../../src/policy/grants.ts";
import { parseIdentity } from "../../../src/policy/identity.ts";
import { patternMatches, type Rule } from "../../../src/policy/rule.ts";

describe("the policy engine", () => {
  test("without a table the certificate decides", () => {
    const engine = new PolicyEngine(EMPTY_TABLE);

    expect(engine.decide(ALICE, "echo")).toEqual({ effect: "allow", rule: "default" });
    expect(engine.decide(ALICE, "other")).toEqual({ effect: "deny", rule: "certificate" });
  });

  test("no rule allows what the certificate does not grant", () => {
    const engine = new PolicyEngine({ rules: [rule("all", "allow")], default: "allow" });

    expect(engine.decide(ALICE, "other")).toEqual({ effect: "deny", rule: "certificate" });
  });

  test("deny wins wherever it stands", () => {
    const rules = [
      rule("everybody", "allow"),
      rule("not-alice", "deny", { identities: ["*/alice"] }),
    ];

    expect(new PolicyEngine({ rules, default: "allow" }).decide(ALICE, "echo")).toEqual({
      effect: "deny",
      rule: "not-alice",
    });
    expect(new PolicyEngine({ rules, default: "deny" }).decide(BOB, "echo")).toEqual({
      effect: "allow",
      rule: "everybody",
    });
  });

  test("with a default of deny, a service needs a rule", () => {
    const rules = [rule("web", "allow", { services: ["web-*"] })];
    const engine = new PolicyEngine({ rules, default: "deny" });

    expect(engine.decide(ALICE, "echo")).toEqual({ effect: "deny", rule: "default" });
    expect(engine.decide(ALICE, "web-app")).toEqual({ effect: "allow", rule: "web" });
  });

  test("a connector is asked for what it may provide, an agent for what it may use", () => {
    const both = readGrants(["agent.echo.ztna", "connector.web.ztna"], { starGrantsAll: false });
    const as = (role: string) => peer(`ztna://corp.example/${role}/x`, both);

    expect(isGranted(as("agent"), "echo")).toBe(true);
    expect(isGranted(as("agent"), "web")).toBe(false);
    expect(isGranted(as("connector"), "web")).toBe(true);
    expect(isGranted(as("connector"), "echo")).toBe(false);
    expect(isGranted(as("relay"), "echo")).toBe(false);
    expect(isGranted(as("admin"), "web")).toBe(false);
  });
});

describe("a pattern", () => {
  test.each([
    { pattern: "*", text: "anything", matches: true },
    { pattern: "*", text: "", matches: true },
    { pattern: "", text: "a", matches: false },
    { pattern: "echo", text: "echo", matches: true },
    { pattern: "echo", text: "echo-2", matches: false },
    { pattern: "web-*", text: "web-", matches: true },
    { pattern: "*-app", text: "web-app-app", matches: true },
    { pattern: "a*b*c", text: "a-b-b-c", matches: true },
    { pattern: "a*b*c", text: "a-c-b", matches: false },
    { pattern: "a.c", text: "abc", matches: false },
    { pattern: "**a", text: "ba", matches: true },
  ])("$pattern matches $text: $matches", ({ pattern, text, matches }) => {
    expect(patternMatches(pattern, text)).toBe(matches);
  });

  test("of many stars costs no more than the product of the lengths", () => {
    // Exponential matching of this pair would not end.
    expect(patternMatches("*a".repeat(40), "a".repeat(39))).toBe(false);
  });
});

const GRANTS = readGrants(["agent.echo.ztna", "agent.web-app.ztna"], { starGrantsAll: false });
const ALICE = peer("ztna://corp.example/agent/alice", GRANTS);
const BOB = peer("ztna://corp.example/agent/bob", GRANTS);

function peer(uri: string, grants: typeof GRANTS) {
  const identity = parseIdentity(uri);
  if (identity === undefined) throw new Error(`${uri} is no identity`);
  return { identity, grants };
}

function rule(id: string, effect: Rule["effect"], more: Partial<Rule> = {}): Rule {
  return { id, effect, identities: ["*"], services: ["*"], ...more };
}

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { PolicyEngine } from "../../../src/policy/engine.ts";
import { readGrants } from "../../../src/policy/grants.ts";
import { judgeLeaf, parseIdentity } from "../../../src/policy/identity.ts";
import { patternMatches } from "../../../src/policy/rule.ts";
import { runs } from "../../support/property-runs.ts";

const CONFIG = { trustDomains: ["a"], spiffe: new Map(), identities: new Map() };

describe("the judgement of a leaf", () => {
  test("of any names gives a result, and a peer only for a role that was expected", () => {
    fc.assert(
      fc.property(leaf(), (leaf) => {
        const judged = judgeLeaf(leaf, { peer: "dialled-us", roles: ["agent"] }, CONFIG);
        if (!judged.ok) return;
        expect(judged.value.identity.role).toBe("agent");
        expect(leaf.clientAuth).toBe(true);
        expect(leaf.uris).toHaveLength(1);
      }),
      runs(2000),
    );
  });
});

describe("the policy engine", () => {
  test("allows nothing that the certificate does not grant or a rule denies", () => {
    fc.assert(
      fc.property(
        rules(),
        fc.constantFrom("allow", "deny"),
        service(),
        (rules, fallback, service) => {
          const identity = parseIdentity("ztna://a/agent/x");
          if (identity === undefined) throw new Error("an identity");
          const grants = readGrants(["agent.a.ztna", "agent.ab.ztna"], { starGrantsAll: false });
          const engine = new PolicyEngine({ rules, default: fallback });
          if (engine.decide({ identity, grants }, service).effect === "deny") return;

          expect(["a", "ab"]).toContain(service);
          const denying = rules.filter(({ effect }) => effect === "deny");
          expect(denying.some(({ services }) => matches(services, service))).toBe(false);
        },
      ),
      runs(2000),
    );
  });

  test("a pattern means what a regular expression of the same meaning does", () => {
    fc.assert(
      fc.property(
        fc.stringMatching(/^[ab*]{0,8}$/),
        fc.stringMatching(/^[ab]{0,8}$/),
        (pattern, text) => {
          const expected = new RegExp(`^${pattern.replaceAll("*", ".*")}$`).test(text);
          expect(patternMatches(pattern, text)).toBe(expected);
        },
      ),
      runs(5000),
    );
  });
});

function matches(patterns: readonly string[], text: string): boolean {
  return patterns.some((pattern) => new RegExp(`^${pattern.replaceAll("*", ".*")}$`).test(text));
}

function service(): fc.Arbitrary<string> {
  return fc.constantFrom("a", "ab", "b", "c");
}

function rules() {
  return fc.array(
    fc.record({
      id: fc.constant("r"),
      effect: fc.constantFrom("allow" as const, "deny" as const),
      identities: fc.constant(["*"]),
      services: fc.array(fc.constantFrom("*", "a", "a*", "b", "*b"), {
        minLength: 1,
        maxLength: 2,
      }),
    }),
    { maxLength: 5 },
  );
}

function leaf() {
  const uri = fc.oneof(
    fc.string({ maxLength: 40 }),
    fc.constantFrom("ztna://a/agent/x", "ztna://a/relay/x", "ztna://b/agent/x", "spiffe://a/x"),
  );
  return fc.record({
    spkiSha256: fc.constant("00"),
    issuer: fc.constant("00"),
    serial: fc.constant("00"),
    uris: fc.array(uri, { maxLength: 3 }),
    dnsNames: fc.array(fc.string({ maxLength: 40 }), { maxLength: 5 }),
    ipAddresses: fc.constant([]),
    clientAuth: fc.boolean(),
    serverAuth: fc.boolean(),
    notAfter: fc.integer(),
  });
}

import { describe, expect, test } from "bun:test";
import { z } from "zod";
import {
  identityConfigFields,
  identityConfigOf,
  ownIdentity,
} from "../../../src/policy/identity-config.ts";

const KEYS = { trustDomains: ["partner.example"], spiffe: {}, identities: {} };
const RELAY = "ztna://corp.example/relay/one";

describe("the trust that a role is configured with", () => {
  test("begins with the domain of its own certificate", () => {
    const own = ownIdentity({ uris: [RELAY], spkiSha256: "00" }, KEYS);
    if (own === undefined) throw new Error("the certificate names a relay");

    expect(identityConfigOf(own, KEYS).trustDomains).toEqual(["corp.example", "partner.example"]);
  });

  test("names its own certificate by SPIFFE or by key as well", () => {
    const spki = "ab".repeat(32);
    const keys = { ...KEYS, spiffe: { "spiffe://a/b": RELAY }, identities: { [spki]: RELAY } };

    expect(ownIdentity({ uris: ["spiffe://a/b"], spkiSha256: "00" }, keys)?.uri).toBe(RELAY);
    expect(ownIdentity({ uris: [], spkiSha256: spki }, keys)?.uri).toBe(RELAY);
  });

  test("is nothing for a certificate of nobody", () => {
    expect(ownIdentity({ uris: [], spkiSha256: "00" }, KEYS)).toBeUndefined();
    expect(ownIdentity({ uris: [RELAY, RELAY], spkiSha256: "00" }, KEYS)).toBeUndefined();
    expect(ownIdentity({ uris: ["spiffe://a/b"], spkiSha256: "00" }, KEYS)).toBeUndefined();
  });

  test("refuses keys that mean nothing", () => {
    const schema = z.strictObject(identityConfigFields);

    expect(schema.safeParse({ identities: { ["ab".repeat(32)]: RELAY } }).success).toBe(true);
    expect(schema.safeParse({ identities: { ["ab".repeat(31)]: RELAY } }).success).toBe(false);
    expect(schema.safeParse({ spiffe: { "https://a": RELAY } }).success).toBe(false);
    expect(schema.safeParse({ spiffe: { "spiffe://a/b": "ztna://a/boss/b" } }).success).toBe(false);
    expect(schema.safeParse({ trustDomains: ["Corp"] }).success).toBe(false);
  });
});

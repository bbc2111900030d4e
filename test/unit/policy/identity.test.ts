import { describe, expect, test } from "bun:test";
import {
  type Expectation,
  type IdentityConfig,
  judgeLeaf,
  type LeafInfo,
  parseIdentity,
} from "../../../src/policy/identity.ts";

const SPKI = "ab".repeat(32);
const AGENT = identity("ztna://corp.example/agent/alice");
const CONFIG: IdentityConfig = {
  trustDomains: ["corp.example", "partner.example"],
  spiffe: new Map([["spiffe://cluster.local/ns/prod/sa/web", AGENT]]),
  identities: new Map([[SPKI, AGENT]]),
};
const DIALLED_RELAY: Expectation = { peer: "dialled-us", roles: ["agent", "connector"] };

describe("the judgement of a leaf", () => {
  test("a URI SAN of a trusted domain names the peer", () => {
    const judged = judgeLeaf(leaf(), DIALLED_RELAY, CONFIG);

    expect(judged).toMatchObject({
      ok: true,
      value: {
        identity: { uri: AGENT.uri, trustDomain: "corp.example", role: "agent", name: "alice" },
        spki: SPKI,
        notAfter: 2_000_000_000,
      },
    });
  });

  test.each([
    {
      name: "no URI SAN and no mapping",
      change: { uris: [], spkiSha256: "00" },
      reason: "no-uri-san",
    },
    { name: "two URI SANs", change: { uris: [AGENT.uri, AGENT.uri] }, reason: "several-uri-sans" },
    {
      name: "a URI of another scheme",
      change: { uris: ["https://corp.example/agent/alice"] },
      reason: "uri-malformed",
    },
    {
      name: "a SPIFFE URI that is not mapped",
      change: { uris: ["spiffe://cluster.local/ns/x"] },
      reason: "spiffe-unmapped",
    },
    {
      name: "another trust domain",
      change: { uris: ["ztna://evil.example/agent/alice"] },
      reason: "foreign-trust-domain",
    },
    {
      name: "the role of a relay",
      change: { uris: ["ztna://corp.example/relay/r"] },
      reason: "wrong-role",
    },
    { name: "no usage as a client", change: { clientAuth: false }, reason: "wrong-key-usage" },
  ])("a certificate with $name is nobody", ({ change, reason }) => {
    expect(judgeLeaf(leaf(change), DIALLED_RELAY, CONFIG)).toMatchObject({
      ok: false,
      error: { reason },
    });
  });

  test("a configured trust domain is trusted beside one's own", () => {
    const partner = leaf({ uris: ["ztna://partner.example/agent/bob"] });

    expect(judgeLeaf(partner, DIALLED_RELAY, CONFIG).ok).toBe(true);
  });

  test("a SPIFFE URI is who the configuration says", () => {
    const spiffe = leaf({ uris: ["spiffe://cluster.local/ns/prod/sa/web"] });

    expect(judgeLeaf(spiffe, DIALLED_RELAY, CONFIG)).toMatchObject({ value: { identity: AGENT } });
  });

  test("a mapped key does not speak for a certificate that has a URI SAN", () => {
    const foreign = leaf({ uris: ["ztna://evil.example/agent/alice"], spkiSha256: SPKI });

    expect(judgeLeaf(foreign, DIALLED_RELAY, CONFIG).ok).toBe(false);
  });

  test("a star grants all services to a certificate of the predecessor only", () => {
    const old = judgeLeaf(leaf({ uris: [], dnsNames: ["*"] }), DIALLED_RELAY, CONFIG);
    const own = judgeLeaf(leaf({ dnsNames: ["*"] }), DIALLED_RELAY, CONFIG);

    expect(old).toMatchObject({ value: { identity: AGENT, grants: { use: "all" } } });
    expect(own).toMatchObject({ value: { grants: { use: new Set() } } });
  });

  test.each([
    { role: "agent", peer: "dialled-us", client: true, server: false, fits: true },
    { role: "agent", peer: "dialled-us", client: false, server: true, fits: false },
    { role: "relay", peer: "was-dialled", client: false, server: true, fits: true },
    { role: "relay", peer: "was-dialled", client: true, server: false, fits: false },
    { role: "connector", peer: "dialled-us", client: true, server: true, fits: true },
    { role: "connector", peer: "dialled-us", client: true, server: false, fits: false },
    { role: "connector", peer: "was-dialled", client: true, server: true, fits: true },
    { role: "connector", peer: "was-dialled", client: false, server: true, fits: false },
  ] as const)(
    "usage of a $role that $peer: client $client, server $server fits: $fits",
    ({ role, peer, client, server, fits }) => {
      const certificate = leaf({
        uris: [`ztna://corp.example/${role}/x`],
        clientAuth: client,
        serverAuth: server,
      });

      expect(judgeLeaf(certificate, { peer, roles: [role] }, CONFIG).ok).toBe(fits);
    },
  );
});

describe("the URI of an identity", () => {
  test.each([
    { name: "the longest trust domain", uri: `ztna://${"a".repeat(253)}/agent/a` },
    { name: "the longest name", uri: `ztna://a/agent/${"a".repeat(128)}` },
    { name: "dots, hyphens and underscores", uri: "ztna://a_b.c-d/connector/e_f.g-h" },
    { name: "an admin", uri: "ztna://a/admin/root" },
  ])("takes $name", ({ uri }) => {
    expect(parseIdentity(uri)?.uri).toBe(uri);
  });

  test.each([
    { name: "a trust domain one too long", uri: `ztna://${"a".repeat(254)}/agent/a` },
    { name: "a name one too long", uri: `ztna://a/agent/${"a".repeat(129)}` },
    { name: "capitals", uri: "ztna://a/agent/Alice" },
    { name: "an unknown role", uri: "ztna://a/root/alice" },
    { name: "a port", uri: "ztna://a:1/agent/alice" },
    { name: "a user", uri: "ztna://u@a/agent/alice" },
    { name: "a query", uri: "ztna://a/agent/alice?x" },
    { name: "a fragment", uri: "ztna://a/agent/alice#x" },
    { name: "percent-encoding", uri: "ztna://a/agent/al%69ce" },
    { name: "no name", uri: "ztna://a/agent/" },
    { name: "no trust domain", uri: "ztna:///agent/a" },
    { name: "a path too long", uri: "ztna://a/agent/alice/x" },
    { name: "a line break at the end", uri: "ztna://a/agent/alice\n" },
    { name: "another scheme's case", uri: "ZTNA://a/agent/alice" },
  ])("refuses $name", ({ uri }) => {
    expect(parseIdentity(uri)).toBeUndefined();
  });
});

function leaf(change: Partial<LeafInfo> = {}): LeafInfo {
  return {
    spkiSha256: SPKI,
    issuer: "300d",
    serial: "01",
    uris: [AGENT.uri],
    dnsNames: [],
    ipAddresses: [],
    clientAuth: true,
    serverAuth: true,
    notAfter: 2_000_000_000,
    ...change,
  };
}

function identity(uri: string) {
  const parsed = parseIdentity(uri);
  if (parsed === undefined) throw new Error(`${uri} is no identity`);
  return parsed;
}

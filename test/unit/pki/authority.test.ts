import { describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import {
  type Authority,
  createAuthority,
  issue,
  type PemPair,
  readAuthority,
} from "../../../src/pki/authority.ts";
import { type CertificateRequest, profileOf } from "../../../src/pki/certificate-profile.ts";
import { describeCertificates } from "../../../src/pki/describe-certificate.ts";

const NOW = new Date("2026-06-01T00:00:00Z");
const DAY_MS = 86_400_000;

describe("certificate authority", () => {
  test("a leaf verifies against the authority and names its holder", async () => {
    const { root, authority } = await newAuthority();

    const leaf = await issueTo(authority, { role: "agent", name: "alice", services: ["echo"] });

    const parsed = new X509Certificate(leaf.certificatePem);
    const issuer = new X509Certificate(root.certificatePem);
    expect(parsed.checkIssued(issuer)).toBe(true);
    expect(parsed.verify(issuer.publicKey)).toBe(true);
    expect(parsed.subjectAltName).toBe("URI:ztna://corp.example/agent/alice, DNS:agent.echo.ztna");
    expect(parsed.keyUsage).toEqual(["1.3.6.1.5.5.7.3.2"]);
    expect(parsed.ca).toBe(false);
  });

  test("the key that comes with a leaf is the leaf's", async () => {
    const { authority } = await newAuthority();

    const { certificatePem, keyPem } = await issueTo(authority, {});

    const { createPrivateKey } = await import("node:crypto");
    expect(new X509Certificate(certificatePem).checkPrivateKey(createPrivateKey(keyPem))).toBe(
      true,
    );
  });

  test("lives as long as asked, beginning five minutes ago for clocks that run behind", async () => {
    const { authority } = await newAuthority();

    const [leaf] = describeCertificates(
      (await issueTo(authority, { days: 7 })).certificatePem,
      NOW,
    );

    expect(leaf?.notBefore).toBe("2026-05-31T23:55:00.000Z");
    expect(leaf?.notAfter).toBe("2026-06-08T00:00:00.000Z");
  });

  test("a leaf never outlives its authority", async () => {
    const { authority } = await newAuthority(10);

    const [leaf] = describeCertificates(
      (await issueTo(authority, { days: 90 })).certificatePem,
      NOW,
    );

    expect(leaf?.notAfter).toBe(new Date(NOW.getTime() + 10 * DAY_MS).toISOString());
  });

  test("two leaves differ in serial number and key", async () => {
    const { authority } = await newAuthority();

    const [a, b] = await Promise.all([issueTo(authority, {}), issueTo(authority, {})]);

    const [first] = describeCertificates(a.certificatePem, NOW);
    const [second] = describeCertificates(b.certificatePem, NOW);
    expect(first?.serial).not.toBe(second?.serial);
    expect(first?.spkiSha256).not.toBe(second?.spkiSha256);
    expect(first?.serial.length).toBeGreaterThanOrEqual(30);
  });

  test("the authority remembers its trust domain", async () => {
    expect((await newAuthority()).authority.trustDomain).toBe("corp.example");
  });

  test("the key of another authority is refused", async () => {
    const [one, other] = await Promise.all([createAuthority("a", NOW), createAuthority("a", NOW)]);
    const mixed = { certificatePem: one.certificatePem, keyPem: other.keyPem };

    await expect(readAuthority(mixed, NOW)).rejects.toMatchObject({ code: "KEY_MISMATCH" });
  });

  test("an expired authority issues nothing", async () => {
    const { root } = await newAuthority(10);
    const lastMoment = new Date(NOW.getTime() + 10 * DAY_MS - 1);
    const end = new Date(NOW.getTime() + 10 * DAY_MS);

    await expect(readAuthority(root, lastMoment)).resolves.toBeDefined();
    await expect(readAuthority(root, end)).rejects.toMatchObject({ code: "CERTIFICATE_EXPIRED" });
  });

  test("a leaf is no authority", async () => {
    const { authority } = await newAuthority();

    const leaf = await issueTo(authority, {});

    await expect(readAuthority(leaf, NOW)).rejects.toMatchObject({ code: "TLS_MATERIAL_INVALID" });
  });

  test("an unusable key is refused without being quoted", async () => {
    const { root } = await newAuthority();
    const keyPem = root.keyPem.replace(/.{20}\n-----END/, "c2VjcmV0\n-----END");

    const failure = await readAuthority({ ...root, keyPem }, NOW).catch((error) => error);

    expect(failure).toMatchObject({ code: "TLS_MATERIAL_INVALID", cause: undefined });
  });
});

describe("certificate description", () => {
  test.each([
    {
      name: "an agent may use what is granted",
      request: { role: "agent", services: ["echo"] },
      verdict: { as: "agent", use: ["echo"], provide: [] },
    },
    {
      name: "a connector may provide what is granted",
      request: { role: "connector", services: "all" },
      verdict: { as: "connector", use: [], provide: "all" },
    },
    {
      name: "a relay needs no clientAuth",
      request: { role: "relay", services: [], hosts: ["relay.example"] },
      verdict: { as: "relay", identity: "ztna://corp.example/relay/alice" },
    },
  ] as const)("$name", async ({ request, verdict }) => {
    const { authority } = await newAuthority();

    const { certificatePem } = await issueTo(authority, request);

    expect(describeCertificates(certificatePem, NOW)).toMatchObject([{ verdict }]);
  });

  test("a chain is described certificate by certificate", async () => {
    const { root, authority } = await newAuthority();
    const { certificatePem } = await issueTo(authority, {});

    const both = describeCertificates(certificatePem + root.certificatePem, NOW);

    expect(both.map(({ verdict }) => verdict.as)).toEqual(["agent", "authority"]);
  });

  test("an expired certificate is nobody", async () => {
    const { authority } = await newAuthority();
    const { certificatePem } = await issueTo(authority, { days: 1 });

    const later = describeCertificates(certificatePem, new Date(NOW.getTime() + DAY_MS));

    expect(later).toMatchObject([{ verdict: { as: "nobody", reason: "expired" } }]);
  });

  test("an agent that cannot dial is nobody", async () => {
    const { authority } = await newAuthority();
    const profile = { ...profileOf(requestOf({})), usages: ["serverAuth"] as const };

    const { certificatePem } = await issue(authority, profile, NOW);

    expect(describeCertificates(certificatePem, NOW)).toMatchObject([
      { verdict: { as: "nobody", reason: "wrong-key-usage" } },
    ]);
  });

  test("a name that the configuration gives stands for one that is not ours", async () => {
    const { authority } = await newAuthority();
    const uri = "spiffe://corp.example/ns/web/sa/connector";
    const profile = { ...profileOf(requestOf({ role: "connector" })), uri };
    const { certificatePem } = await issue(authority, profile, NOW);
    const identity = "ztna://corp.example/connector/web";

    const unmapped = describeCertificates(certificatePem, NOW);
    const mapped = describeCertificates(certificatePem, NOW, {
      spiffe: { [uri]: identity },
      identities: {},
    });

    expect(unmapped).toMatchObject([{ verdict: { as: "nobody", reason: "uri-malformed" } }]);
    expect(mapped).toMatchObject([{ verdict: { as: "connector", identity } }]);
  });

  test("a private key is refused and not shown", async () => {
    const { root } = await newAuthority();

    const failure = catchError(() => describeCertificates(root.keyPem, NOW));

    expect(failure).toMatchObject({
      code: "TLS_MATERIAL_INVALID",
      message: "the file holds a private key and no certificate",
    });
  });

  test.each(["", "garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])(
    "refuses %p",
    (text) => {
      expect(catchError(() => describeCertificates(text, NOW))).toMatchObject({
        code: "TLS_MATERIAL_INVALID",
      });
    },
  );
});

async function newAuthority(days?: number): Promise<{ root: PemPair; authority: Authority }> {
  const root = await createAuthority("corp.example", NOW, days);
  return { root, authority: await readAuthority(root, NOW) };
}

function issueTo(authority: Authority, part: Partial<CertificateRequest>): Promise<PemPair> {
  return issue(authority, profileOf(requestOf(part)), NOW);
}

function requestOf(part: Partial<CertificateRequest>): CertificateRequest {
  return {
    role: "agent",
    name: "alice",
    trustDomain: "corp.example",
    services: ["echo"],
    hosts: [],
    days: 90,
    ...part,
  };
}

function catchError(action: () => unknown): unknown {
  try {
    return action();
  } catch (error) {
    return error;
  }
}

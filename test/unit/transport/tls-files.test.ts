import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createAuthority, issue, readAuthority } from "../../../src/pki/authority.ts";
import { profileOf } from "../../../src/pki/certificate-profile.ts";
import { pairFiles, writePair } from "../../../src/pki/files.ts";
import {
  loadTlsFiles,
  TLS_FILE_BYTES_MAX,
  type TlsFiles,
  watchTlsFiles,
} from "../../../src/transport/tls-files.ts";

describe("tls files", () => {
  test("become material for the data plane and what the own leaf says", () => {
    const { material, leaf } = loadTlsFiles(filesOf("alice"), NOW);

    expect(Buffer.from(material.chainPem).toString()).toStartWith("-----BEGIN CERTIFICATE-----");
    expect(leaf).toEqual({
      spkiSha256: expect.stringMatching(/^[0-9a-f]{64}$/),
      uris: ["ztna://corp.example/agent/alice"],
      dnsNames: ["agent.echo.ztna"],
      notAfter: NOW.getTime() / 1000 + 90 * 86_400,
    });
  });

  test.each([
    { name: "an absent certificate", part: { certificate: "absent" }, code: "FILE_UNREADABLE" },
    { name: "an absent key", part: { key: "absent" }, code: "FILE_UNREADABLE" },
    { name: "an absent CA", part: { ca: "absent" }, code: "FILE_UNREADABLE" },
    { name: "another certificate's key", part: { key: "agent-bob.key" }, code: "KEY_MISMATCH" },
    { name: "a key in the certificate's place", part: { certificate: "ca.key" }, code: unusable() },
    { name: "a certificate in the key's place", part: { key: "ca.crt" }, code: unusable() },
    { name: "a leaf in the CA's place", part: { ca: "agent-bob.crt" }, code: unusable() },
    { name: "a malformed certificate", part: { certificate: "malformed" }, code: unusable() },
    { name: "a file that is too large", part: { ca: "large" }, code: unusable() },
  ])("refuses $name", ({ part, code }) => {
    const paths = Object.entries(part).map(([what, file]) => [what, join(directory, file)]);

    expect(failureOf({ ...filesOf("alice"), ...Object.fromEntries(paths) }, NOW)).toMatchObject({
      name: "OperatorError",
      code,
    });
  });

  test("a file may be as large as the maximum", () => {
    const ca = join(directory, "padded");
    writeFileSync(ca, readFileSync(join(directory, "ca.crt"), "utf8").padEnd(TLS_FILE_BYTES_MAX));

    expect(failureOf({ ...filesOf("alice"), ca }, NOW)).toBeUndefined();
  });

  test("a leaf is good up to its last moment", () => {
    const end = NOW.getTime() + 90 * 86_400_000;

    expect(failureOf(filesOf("alice"), new Date(end - 1))).toBeUndefined();
    expect(failureOf(filesOf("alice"), new Date(end))).toMatchObject({
      code: "CERTIFICATE_EXPIRED",
    });
  });

  test("a leaf whose time has not come points to the clock", () => {
    expect(failureOf(filesOf("alice"), new Date(0))).toMatchObject({
      code: "CERTIFICATE_INVALID",
      hint: "Set the clock of this machine.",
    });
  });

  test("a change of contents is reported once, a file that is away for a moment is not", () => {
    const files = { ...filesOf("alice"), ca: join(directory, "watched") };
    copyFileSync(join(directory, "ca.crt"), files.ca);
    let tick: () => void = () => {};
    let changes = 0;
    watchTlsFiles(
      files,
      () => changes++,
      (run) => {
        tick = run;
        return () => {};
      },
    );
    const changesAfter = (change: () => void) => {
      change();
      tick();
      return changes;
    };

    expect(changesAfter(() => {})).toBe(0);
    expect(changesAfter(() => rmSync(files.ca))).toBe(0);
    expect(changesAfter(() => copyFileSync(join(directory, "ca.crt"), files.ca))).toBe(0);
    expect(changesAfter(() => copyFileSync(join(directory, "agent-bob.crt"), files.ca))).toBe(1);
    expect(changesAfter(() => {})).toBe(1);
  });
});

const NOW = new Date("2026-06-01T00:00:00Z");

let directory = "";

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "ztna-tls-"));
  const root = await createAuthority("corp.example", NOW);
  writePair(pairFiles(directory, "ca"), root, false);
  const authority = await readAuthority(root, NOW);
  for (const name of ["alice", "bob"]) {
    const request = { role: "agent", name, trustDomain: "corp.example", hosts: [] } as const;
    const profile = profileOf({ ...request, services: ["echo"], days: 90 });
    writePair(pairFiles(directory, `agent-${name}`), await issue(authority, profile, NOW), false);
  }
  const malformed = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
  writeFileSync(join(directory, "malformed"), malformed);
  writeFileSync(join(directory, "large"), "x".repeat(TLS_FILE_BYTES_MAX + 1));
});

afterAll(() => rmSync(directory, { recursive: true }));

function filesOf(name: string): TlsFiles {
  const { certificate, key } = pairFiles(directory, `agent-${name}`);
  return { certificate, key, ca: join(directory, "ca.crt") };
}

function failureOf(files: TlsFiles, now: Date): unknown {
  try {
    loadTlsFiles(files, now);
    return undefined;
  } catch (error) {
    return error;
  }
}

function unusable(): string {
  return "TLS_MATERIAL_INVALID";
}

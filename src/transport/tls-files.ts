/**
 * Certificates and keys: files into what the data plane takes, and a watch over them.
 *
 * - **What is handed over fits together**: the key belongs to the leaf, the leaf is in force, the
 *   authorities are certificates. A reload that would break a running process is refused before it
 *   reaches the data plane.
 * - **Contents count, not events.** Orchestrators swap symbolic links and network file systems send
 *   no notifications, so the watch compares what the files hold.
 *
 * Messages name files and never quote them.
 */
import { createHash, createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { OperatorError } from "../base/error.ts";
import { ms } from "../base/time.ts";
import type { Logger } from "../observability/logger.ts";
import type { Revocation, TlsMaterial } from "./endpoint.ts";

export interface TlsFiles {
  /** PEM, leaf first. */
  readonly certificate: string;
  /** PEM, not encrypted. */
  readonly key: string;
  /** PEM, one or several authorities. */
  readonly ca: string;
}

/** What one's own leaf says. */
export interface OwnLeaf {
  readonly spkiSha256: string;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  /** Seconds since 1970. */
  readonly notAfter: number;
}

export interface LoadedTls {
  readonly material: TlsMaterial;
  readonly leaf: OwnLeaf;
}

/** No file of certificates is near it; a wrong path to something large is found out at once. */
export const TLS_FILE_BYTES_MAX = 1_048_576;

/** @throws OperatorError when a file is unusable or they do not fit together. */
export function loadTlsFiles(
  files: TlsFiles,
  now: Date,
  revoked: readonly Revocation[] = [],
): LoadedTls {
  const chainPem = read("certificate", files.certificate);
  const keyPem = read("key", files.key);
  const rootsPem = read("CA", files.ca);

  const [leaf] = certificatesOf("certificate", files.certificate, chainPem);
  for (const root of certificatesOf("CA", files.ca, rootsPem)) requireAuthority(root, files.ca);
  if (leaf === undefined) throw invalid("certificate", files.certificate, "it holds none");

  requireInForce(leaf, files.certificate, now);
  requireOwnKey(leaf, files, keyPem);
  return { material: { chainPem, keyPem, rootsPem, revoked }, leaf: ownLeafOf(leaf) };
}

export const WATCH_INTERVAL = ms(2000);

/**
 * Calls `onChange` whenever the files came to hold something else. Returns a function that ends
 * the watch. Files that cannot be read at the moment are taken as unchanged: a swap is under way.
 */
export function watchTlsFiles(
  files: TlsFiles,
  onChange: () => void,
  every: (run: () => void) => () => void = everyInterval,
): () => void {
  let known = fingerprint(files);
  return every(() => {
    const current = fingerprint(files);
    if (current === undefined || current === known) return;
    known = current;
    onChange();
  });
}

/** Takes over files that changed, or says why not and goes on with those in force. */
export function takeOver(reload: () => void, logger: Logger): void {
  try {
    reload();
    logger.info("certificates reloaded");
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    logger.error("configuration reload refused", { code: error.code, detail: error.message });
  }
}

function everyInterval(run: () => void): () => void {
  const timer = setInterval(run, WATCH_INTERVAL);
  timer.unref();
  return () => clearInterval(timer);
}

function fingerprint({ certificate, key, ca }: TlsFiles): string | undefined {
  const hash = createHash("sha256");
  try {
    for (const path of [certificate, key, ca]) {
      const bytes = readFileSync(path);
      hash.update(`${bytes.length}:`).update(bytes);
    }
  } catch {
    return undefined;
  }
  return hash.digest("hex");
}

type What = "certificate" | "key" | "CA";

function read(what: What, path: string): Buffer {
  const bytes = tryRead(what, path);
  if (bytes.length <= TLS_FILE_BYTES_MAX) return bytes;
  throw invalid(what, path, `it has more than ${TLS_FILE_BYTES_MAX} octets`);
}

function tryRead(what: What, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new OperatorError("FILE_UNREADABLE", `cannot read the ${what} file ${path}`, {
      cause,
      hint: `Set ${what.toLowerCase()} to a PEM file that this user may read.`,
    });
  }
}

function certificatesOf(what: What, path: string, pem: Buffer): X509Certificate[] {
  const blocks = pem.toString("latin1").match(CERTIFICATE) ?? [];
  if (blocks.length === 0) throw invalid(what, path, "it holds no PEM certificate");
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch {
    throw invalid(what, path, "a certificate in it is malformed");
  }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

function requireAuthority(certificate: X509Certificate, path: string): void {
  if (certificate.ca) return;
  throw invalid("CA", path, `${oneLine(certificate.subject)} may not sign certificates`);
}

function requireInForce(leaf: X509Certificate, path: string, now: Date): void {
  const [from, to] = [new Date(leaf.validFrom), new Date(leaf.validTo)];
  if (now < from) {
    throw new OperatorError(
      "CERTIFICATE_INVALID",
      `the certificate ${path} begins at ${from.toISOString()}, it is ${now.toISOString()}`,
      { hint: "Set the clock of this machine." },
    );
  }
  if (now < to) return;
  throw new OperatorError(
    "CERTIFICATE_EXPIRED",
    `the certificate ${path} expired at ${to.toISOString()}, it is ${now.toISOString()}`,
    { hint: "Issue a fresh one, for example with `ztna pki issue`." },
  );
}

function requireOwnKey(leaf: X509Certificate, files: TlsFiles, keyPem: Buffer): void {
  const key = privateKeyOf(files.key, keyPem);
  if (leaf.checkPrivateKey(key)) return;
  throw new OperatorError(
    "KEY_MISMATCH",
    `the key ${files.key} does not belong to the certificate ${files.certificate} with SPKI ` +
      `sha256 ${spkiOf(leaf)}`,
    { hint: "Point certificate and key to files that were issued together." },
  );
}

function privateKeyOf(path: string, keyPem: Buffer): KeyObject {
  try {
    return createPrivateKey(keyPem);
  } catch {
    // What the parser says may quote the key, so it is no cause.
    throw invalid("key", path, "it holds no private key in PEM, or one that is encrypted");
  }
}

function ownLeafOf(leaf: X509Certificate): OwnLeaf {
  const names = (leaf.subjectAltName ?? "").split(", ");
  const valuesOf = (kind: string) =>
    names.filter((it) => it.startsWith(kind)).map((it) => it.slice(kind.length));
  return {
    spkiSha256: spkiOf(leaf),
    uris: valuesOf("URI:"),
    dnsNames: valuesOf("DNS:"),
    notAfter: Math.floor(new Date(leaf.validTo).getTime() / 1000),
  };
}

function spkiOf(leaf: X509Certificate): string {
  const spki = leaf.publicKey.export({ type: "spki", format: "der" });
  return createHash("sha256").update(spki).digest("hex");
}

function invalid(what: What, path: string, detail: string): OperatorError {
  return new OperatorError(
    "TLS_MATERIAL_INVALID",
    `the ${what} file ${path} is unusable: ${detail}`,
  );
}

function oneLine(subject: string): string {
  return subject.replaceAll("\n", ", ");
}

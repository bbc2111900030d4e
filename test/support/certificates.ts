/**
 * Certificates that no sane authority issues, and some of other authorities, made by openssl.
 *
 * The product's own `pki` refuses to make most of them, and judging only what it makes itself would
 * prove little.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { must } from "./process.ts";

export interface OddCertificate {
  /** Entries of subjectAltName in openssl's notation: `URI:…`, `DNS:…`, `IP:…`. */
  readonly names: readonly string[];
  /** Absent: no extended key usage at all. */
  readonly usages?: readonly string[];
  /** openssl's arguments that make the key; P-256 unless given. */
  readonly key?: readonly string[];
  /** openssl's form of "not before" and "not after", e.g. `20200101000000Z`. */
  readonly validity?: readonly [notBefore: string, notAfter: string];
  /** Seconds until it expires; wins over `validity`. */
  readonly seconds?: number;
  /** Files of the authority without their extension; the deployment's own unless given. */
  readonly authority?: string;
}

/** Makes `name.crt` and `name.key` in `directory`. */
export async function makeCertificate(
  directory: string,
  name: string,
  odd: OddCertificate,
): Promise<void> {
  const file = (it: string) => join(directory, it);
  const keyKind = odd.key ?? ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
  await must(["openssl", "genpkey", ...keyKind, "-out", file(`${name}.key`)]);

  writeFileSync(file(`${name}.cnf`), configOf(directory, odd));
  writeFileSync(file("openssl.index"), "");
  const request = ["openssl", "req", "-new", "-key", file(`${name}.key`), "-subj", "/CN=test"];
  await must([...request, "-out", file(`${name}.csr`), "-config", file(`${name}.cnf`)]);

  const authority = odd.authority ?? "ca";
  await must([
    ...["openssl", "ca", "-batch", "-notext", "-config", file(`${name}.cnf`)],
    ...["-cert", file(`${authority}.crt`), "-keyfile", file(`${authority}.key`)],
    ...["-in", file(`${name}.csr`), "-out", file(`${name}.crt`), "-outdir", directory],
    ...["-name", "authority", "-extensions", "leaf"],
    ...["-startdate", validityOf(odd)[0], "-enddate", validityOf(odd)[1]],
  ]);
}

/** Makes an authority that nobody was told to trust. */
export async function makeForeignAuthority(directory: string, name: string): Promise<void> {
  const file = (it: string) => join(directory, it);
  await must([
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    ...["-nodes", "-days", "2", "-subj", "/CN=ztna authority/O=example"],
    ...["-keyout", file(`${name}.key`), "-out", file(`${name}.crt`)],
  ]);
}

function configOf(directory: string, { names, usages }: OddCertificate): string {
  return `
[ authority ]
database = ${join(directory, "openssl.index")}
new_certs_dir = ${directory}
default_md = sha256
rand_serial = yes
policy = policy
unique_subject = no
[ policy ]
commonName = optional
[ req ]
distinguished_name = subject
[ subject ]
[ leaf ]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
${usages === undefined ? "" : `extendedKeyUsage = ${usages.join(", ")}`}
${names.length === 0 ? "" : `subjectAltName = ${names.join(", ")}`}
`;
}

function validityOf({ validity, seconds }: OddCertificate): readonly [string, string] {
  if (seconds !== undefined) return [stamp(-60), stamp(seconds)];
  return validity ?? [stamp(-60), stamp(24 * 3600)];
}

function stamp(secondsFromHere: number): string {
  const iso = new Date(Date.now() + secondsFromHere * 1000).toISOString();
  return `${iso.replace(/\.\d+Z$/, "").replace(/[-:T]/g, "")}Z`;
}

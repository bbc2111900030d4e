/** `ztna pki`: an authority, certificates and what they mean. Keys are written and never printed. */
import { resolve } from "node:path";
import { OperatorError } from "../../base/error.ts";
import { createAuthority, issue, readAuthority } from "../../pki/authority.ts";
import { AUTHORITY_DAYS, DAYS_BY_ROLE, profileOf } from "../../pki/certificate-profile.ts";
import {
  type CertificateDescription,
  describeCertificates,
} from "../../pki/describe-certificate.ts";
import {
  type PairFiles,
  pairFiles,
  readPair,
  readText,
  requireFree,
  writePair,
} from "../../pki/files.ts";
import { hasFlag, type Invocation, listFlag, textFlag } from "../command.ts";
import { ExitCode } from "../exit.ts";
import { nearestName } from "../nearest.ts";

export async function initAuthority(invocation: Invocation): Promise<ExitCode> {
  const files = pairFiles(outOf(invocation), "ca");
  const force = hasFlag(invocation, "force");
  requireFree(files, force);

  const trustDomain = textFlag(invocation, "trust-domain") ?? DEFAULT_TRUST_DOMAIN;
  const pair = await createAuthority(trustDomain, new Date(), daysOf(invocation, AUTHORITY_DAYS));
  writePair(files, pair, force);
  return report(invocation, files, pair.certificatePem);
}

export async function issueCertificate(invocation: Invocation): Promise<ExitCode> {
  const [roleText = "", name = ""] = invocation.arguments;
  const role = roleOf(roleText);
  const out = outOf(invocation);
  const authorityFiles = pairFiles(textFlag(invocation, "ca-dir") ?? out, "ca");
  const files = filesFor(name, out, authorityFiles);
  const force = hasFlag(invocation, "force");
  const now = new Date();

  const authority = await readAuthority(readPair(authorityFiles), now);
  const profile = profileOf({
    role,
    name,
    trustDomain: textFlag(invocation, "trust-domain") ?? authority.trustDomain,
    services: servicesOf(invocation),
    hosts: listFlag(invocation, "host"),
    days: daysOf(invocation, DAYS_BY_ROLE[role]),
  });
  requireFree(files, force);
  const pair = await issue(authority, profile, now);
  writePair(files, pair, force);
  return report(invocation, files, pair.certificatePem);
}

export async function showCertificates(invocation: Invocation): Promise<ExitCode> {
  const [file = ""] = invocation.arguments;
  const certificates = describeCertificates(readText(file), new Date());
  const { stdout } = invocation.console;
  if (hasFlag(invocation, "json")) {
    stdout.write(`${JSON.stringify({ version: 1, certificates })}\n`);
  } else {
    stdout.write(certificates.map((it) => textOf(it)).join("\n"));
  }
  return ExitCode.Ok;
}

const DEFAULT_OUT = "pki";
const DEFAULT_TRUST_DOMAIN = "ztna.internal";
const ROLES = ["agent", "connector", "relay", "admin"] as const;

function outOf(invocation: Invocation): string {
  return textFlag(invocation, "out") ?? DEFAULT_OUT;
}

/** One --force too many must not replace the authority by a leaf that happens to be called `ca`. */
function filesFor(name: string, out: string, authority: PairFiles): PairFiles {
  const files = pairFiles(out, name);
  if (resolve(files.key) !== resolve(authority.key)) return files;
  throw new OperatorError("USAGE", `${files.key} is the authority's`, {
    hint: "Pass another --out, or choose another name.",
  });
}

function daysOf(invocation: Invocation, otherwise: number): number {
  const text = textFlag(invocation, "days");
  if (text === undefined) return otherwise;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new OperatorError("USAGE", `--days: "${text}" is no number of days`);
}

function roleOf(text: string): (typeof ROLES)[number] {
  const role = ROLES.find((it) => it === text);
  if (role !== undefined) return role;

  const near = nearestName(text, ROLES);
  throw new OperatorError("USAGE", `"${text}" is no role`, {
    hint: near === undefined ? `Choose one of ${ROLES.join(", ")}.` : `Did you mean ${near}?`,
  });
}

function servicesOf(invocation: Invocation): readonly string[] | "all" {
  const services = listFlag(invocation, "service");
  if (!hasFlag(invocation, "all-services")) return services;
  if (services.length === 0) return "all";
  throw new OperatorError("USAGE", "--all-services and --service exclude each other");
}

function report({ console }: Invocation, files: PairFiles, pem: string): ExitCode {
  const [certificate] = describeCertificates(pem, new Date());
  console.stdout.write(`${files.certificate}\n${files.key}\n`);
  if (certificate !== undefined) {
    const name = certificate.uris[0] ?? certificate.subject;
    console.stderr.write(`${name}, valid until ${certificate.notAfter.slice(0, 10)}\n`);
  }
  return ExitCode.Ok;
}

function textOf(certificate: CertificateDescription): string {
  const list = (items: readonly string[]) => (items.length === 0 ? "-" : items.join(", "));
  const rows = [
    ["subject", certificate.subject],
    ["issuer", certificate.issuer],
    ["serial", certificate.serial],
    ["key", certificate.key],
    ["SPKI sha256", certificate.spkiSha256],
    ["valid", `${certificate.notBefore} to ${certificate.notAfter}`],
    ["URI SANs", list(certificate.uris)],
    ["DNS SANs", list(certificate.dnsNames)],
    ["IP SANs", list(certificate.ipAddresses)],
    ["usages", list(certificate.usages)],
    ["judged as", verdictText(certificate.verdict)],
  ];
  return rows.map(([label = "", value]) => `${label.padEnd(13)}${value}\n`).join("");
}

function verdictText(verdict: CertificateDescription["verdict"]): string {
  switch (verdict.as) {
    case "authority":
      return "authority: signs others and is nobody itself";
    case "nobody":
      return `nobody (${verdict.reason}): ${verdict.detail}`;
    case "agent":
      return `${verdict.identity}, may use ${servicesText(verdict.use)}`;
    case "connector":
      return `${verdict.identity}, may provide ${servicesText(verdict.provide)}`;
    default:
      return verdict.identity;
  }
}

function servicesText(services: readonly string[] | "all"): string {
  if (services === "all") return "every service";
  return services.length === 0 ? "no service" : services.join(", ");
}

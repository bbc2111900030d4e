/**
 * What stands in a certificate of each role (`docs/protocol.md` §4), before anything is signed.
 *
 * One URI SAN names the peer, DNS SANs `agent.<service>.ztna` and `connector.<service>.ztna` grant,
 * and a relay also carries the hosts it is dialled by. Whoever dials has `clientAuth`, whoever
 * accepts has `serverAuth`; a connector does both.
 */
import { OperatorError } from "../base/error.ts";
import { isTrustDomain, type PeerRole, parseIdentity } from "../policy/identity.ts";
import { formatIp, isDnsName, parseIp } from "../protocol/address.ts";
import { isServiceName } from "../protocol/service-name.ts";

export interface CertificateRequest {
  readonly role: PeerRole;
  readonly name: string;
  readonly trustDomain: string;
  readonly services: readonly string[] | "all";
  /** DNS names and addresses under which a relay is dialled. */
  readonly hosts: readonly string[];
  readonly days: number;
}

export interface CertificateProfile {
  readonly uri: string;
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly usages: readonly ("clientAuth" | "serverAuth")[];
  readonly days: number;
}

/** 397 days is what browsers accept of a server; people's certificates are renewed more often. */
export const DAYS_BY_ROLE = { agent: 90, connector: 397, relay: 397, admin: 90 } as const;

export const AUTHORITY_DAYS = 3650;

/** Twenty years: the upper bound of an authority, and of everything it signs. */
export const DAYS_MAX = 7300;

/** As many as a connector may register, which keeps a chain within a few QUIC packets. */
export const SERVICES_MAX = 256;

const HOSTS_MAX = 64;

/** @throws OperatorError when the request describes no usable certificate. */
export function profileOf(request: CertificateRequest): CertificateProfile {
  const uri = uriOf(request);
  requireDays(request.days);

  const hosts = hostsOf(request);
  return {
    uri,
    dnsNames: [...grantsOf(request), ...hosts.dnsNames],
    ipAddresses: hosts.ipAddresses,
    usages: USAGES[request.role],
    days: request.days,
  };
}

export function requireTrustDomain(text: string): string {
  if (isTrustDomain(text)) return text;
  throw new OperatorError("USAGE", `"${text}" is not a trust domain`, {
    hint: "Use 1 to 253 of a-z, 0-9, dot, hyphen and underscore, for example corp.example.",
  });
}

export function requireDays(days: number): number {
  if (Number.isInteger(days) && days >= 1 && days <= DAYS_MAX) return days;
  throw new OperatorError("USAGE", `a certificate cannot live ${days} days`, {
    hint: `Pass --days with a whole number from 1 to ${DAYS_MAX}.`,
  });
}

const USAGES = {
  agent: ["clientAuth"],
  admin: ["clientAuth"],
  relay: ["serverAuth"],
  connector: ["clientAuth", "serverAuth"],
} as const;

function uriOf({ role, name, trustDomain }: CertificateRequest): string {
  const uri = `ztna://${requireTrustDomain(trustDomain)}/${role}/${name}`;
  if (parseIdentity(uri) !== undefined) return uri;

  throw new OperatorError("USAGE", `"${name}" cannot name the ${role}`, {
    hint: "Use 1 to 128 of a-z, 0-9, dot, hyphen and underscore.",
  });
}

function grantsOf({ role, services }: CertificateRequest): string[] {
  const granting = role === "agent" || role === "connector";
  const none = services !== "all" && services.length === 0;
  if (granting && none) {
    throw new OperatorError("USAGE", `the ${role}'s certificate would grant nothing`, {
      hint: "Pass --service NAME for each service, or --all-services.",
    });
  }
  if (!granting && !none) {
    throw new OperatorError("USAGE", `a certificate of role ${role} grants no services`, {
      hint: "Leave out --service and --all-services.",
    });
  }
  if (services === "all") return [`${role}.ztna`];

  const names = [...new Set(services)];
  if (names.length > SERVICES_MAX) {
    throw new OperatorError("USAGE", `${names.length} services exceed ${SERVICES_MAX}`, {
      hint: "Use --all-services and restrict it by the relay's policy.",
    });
  }
  const wrong = names.find((service) => !isServiceName(service));
  if (wrong === undefined) return names.map((service) => `${role}.${service}.ztna`);

  throw new OperatorError("USAGE", `"${wrong}" is not a service name`, {
    hint: "Use 1 to 63 of a-z, 0-9 and hyphen, with a letter or digit at both ends.",
  });
}

function hostsOf({ role, hosts }: CertificateRequest): {
  dnsNames: string[];
  ipAddresses: string[];
} {
  if (role === "relay" && hosts.length === 0) {
    throw new OperatorError("USAGE", "the relay's certificate would name no host", {
      hint: "Pass --host with each name or address that peers dial.",
    });
  }
  if (role !== "relay" && hosts.length > 0) {
    throw new OperatorError("USAGE", `a certificate of role ${role} names no host`, {
      hint: "Leave out --host: only a relay is dialled by its host.",
    });
  }
  if (hosts.length > HOSTS_MAX) {
    throw new OperatorError("USAGE", `${hosts.length} hosts exceed ${HOSTS_MAX}`);
  }

  const dnsNames: string[] = [];
  const ipAddresses: string[] = [];
  for (const host of new Set(hosts)) {
    const ip = parseIp(host);
    if (ip !== undefined) ipAddresses.push(formatIp(ip));
    else if (isDnsName(host)) dnsNames.push(host.toLowerCase());
    else {
      throw new OperatorError("USAGE", `"${host}" is neither a DNS name nor an IP address`, {
        hint: "Pass --host without port and brackets.",
      });
    }
  }
  return { dnsNames, ipAddresses };
}

/**
 * IP addresses with ports as messages carry them: `1.2.3.4:5` and `[2001:db8::1]:5`.
 *
 * Parsing is strict where readers are known to disagree: no leading zeros, no zone, no port 0.
 * Formatting is RFC 5952, which is also how the data plane writes an address, so addresses that are
 * equal are equal as strings.
 */
import { U16_MAX } from "./limits.ts";

export interface SocketAddress {
  readonly ip: IpAddress;
  readonly port: number;
}

export interface IpAddress {
  readonly family: 4 | 6;
  /** Network order: four octets or sixteen. */
  readonly octets: readonly number[];
}

/** A name or an address, and a port: where a relay is dialled. */
export interface HostPort {
  /** Without brackets. */
  readonly host: string;
  readonly port: number;
}

export function parseSocketAddress(text: string): SocketAddress | undefined {
  const parts = splitPort(text);
  if (parts === undefined) return undefined;

  const ip = parts.bracketed ? parseIpv6(parts.host) : parseIpv4(parts.host);
  return ip === undefined ? undefined : { ip, port: parts.port };
}

export function formatSocketAddress({ ip, port }: SocketAddress): string {
  return ip.family === 4 ? `${formatIp(ip)}:${port}` : `[${formatIp(ip)}]:${port}`;
}

/** Returns the one spelling of an address, or `undefined` for what is none. */
export function canonicalSocketAddress(text: string): string | undefined {
  const address = parseSocketAddress(text);
  return address === undefined ? undefined : formatSocketAddress(address);
}

/** Parses `host:port`, where the host is a DNS name, an IPv4 address or a bracketed IPv6 address. */
export function parseHostPort(text: string): HostPort | undefined {
  const parts = splitPort(text);
  if (parts === undefined) return undefined;

  const { bracketed, host, port } = parts;
  const valid = bracketed
    ? parseIpv6(host) !== undefined
    : parseIpv4(host) !== undefined || isDnsName(host);
  return valid ? { host, port } : undefined;
}

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

export function parseIp(text: string): IpAddress | undefined {
  return text.includes(":") ? parseIpv6(text) : parseIpv4(text);
}

export function formatIp({ family, octets }: IpAddress): string {
  return family === 4 ? octets.join(".") : formatIpv6(octets);
}

/** Returns whether `text` is a host name: labels of letters, digits and hyphens, not all digits at the end. */
export function isDnsName(text: string): boolean {
  return text.length <= DNS_NAME_CHARS_MAX && DNS_NAME.test(text) && !/(?:^|\.)[0-9]+$/.test(text);
}

const DNS_NAME_CHARS_MAX = 253;
const DNS_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
const DNS_NAME = new RegExp(`^${DNS_LABEL}(?:\\.${DNS_LABEL})*$`);

function splitPort(text: string): (HostPort & { readonly bracketed: boolean }) | undefined {
  const match = /^(?:\[([^[\]]*)\]|([^:[\]]*)):([1-9][0-9]{0,4})$/.exec(text);
  if (match === null) return undefined;

  const [, inBrackets, plain] = match;
  const port = Number(match[3]);
  if (port > U16_MAX) return undefined;

  return { host: inBrackets ?? plain ?? "", port, bracketed: inBrackets !== undefined };
}

function parseIpv4(text: string): IpAddress | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^(?:0|[1-9][0-9]{0,2})$/.test(part))) {
    return undefined;
  }

  const octets = parts.map(Number);
  return octets.every((octet) => octet <= 0xff) ? { family: 4, octets } : undefined;
}

function parseIpv6(text: string): IpAddress | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;

  const [head, tail] = halves.map((half, index) => parseGroups(half, index === halves.length - 1));
  if (head === undefined) return undefined;
  if (halves.length === 1) return head.length === 16 ? { family: 6, octets: head } : undefined;

  // "::" stands for at least one group of zeros (RFC 5952 §4.2.2 forbids it for none).
  if (tail === undefined || head.length + tail.length > 14) return undefined;
  const zeros = Array<number>(16 - head.length - tail.length).fill(0);
  return { family: 6, octets: [...head, ...zeros, ...tail] };
}

/** Returns the octets of groups between colons; the last may be a dotted IPv4 address. */
function parseGroups(text: string, last: boolean): number[] | undefined {
  if (text === "") return [];

  const octets: number[] = [];
  const groups = text.split(":");
  for (const [index, group] of groups.entries()) {
    if (last && index === groups.length - 1 && group.includes(".")) {
      const ipv4 = parseIpv4(group);
      if (ipv4 === undefined) return undefined;
      octets.push(...ipv4.octets);
    } else if (/^[0-9a-fA-F]{1,4}$/.test(group)) {
      const value = Number.parseInt(group, 16);
      octets.push(value >> 8, value & 0xff);
    } else {
      return undefined;
    }
  }
  return octets;
}

function formatIpv6(octets: readonly number[]): string {
  if (isIpv4Mapped(octets)) return `::ffff:${octets.slice(12).join(".")}`;

  const groups: number[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(((octets[at] ?? 0) << 8) | (octets[at + 1] ?? 0));
  const run = longestZeroRun(groups);
  const text = (part: readonly number[]) => part.map((group) => group.toString(16)).join(":");
  if (run === undefined) return text(groups);

  return `${text(groups.slice(0, run.start))}::${text(groups.slice(run.start + run.length))}`;
}

/** RFC 5952 §5: written with the dotted quad, as the standard library of the data plane does. */
function isIpv4Mapped(octets: readonly number[]): boolean {
  return octets.slice(0, 12).every((octet, index) => octet === (index < 10 ? 0 : 0xff));
}

/** RFC 5952 §4.2: the first of the longest runs, and never one of a single group. */
function longestZeroRun(groups: readonly number[]) {
  let best: { readonly start: number; readonly length: number } | undefined;
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === 0) length++;
    if (length >= 2 && length > (best?.length ?? 0)) best = { start, length };
  }
  return best;
}

/** IPv4 networks as numbers: parse, format, overlap. For the agent's pool of virtual addresses. */

export interface Ipv4Network {
  /** First address, host bits zero. */
  readonly base: number;
  /** 0..32. */
  readonly prefix: number;
}

/** Returns the address as an unsigned number, or `undefined` when it is not dotted-decimal. */
export function parseIpv4(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return undefined;

  const octets = match.slice(1).map(Number);
  if (octets.some((octet) => octet > 255)) return undefined;
  return octets.reduce((sum, octet) => sum * 256 + octet, 0);
}

export function formatIpv4(address: number): string {
  return [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join(".");
}

/** Returns the network of `a.b.c.d/p`, host bits cleared, or `undefined`. */
export function parseIpv4Network(text: string): Ipv4Network | undefined {
  const [address, length, ...rest] = text.split("/");
  const number = parseIpv4(address ?? "");
  if (number === undefined || rest.length > 0 || !/^\d{1,2}$/.test(length ?? "")) return undefined;

  const prefix = Number(length);
  return prefix > 32 ? undefined : { base: baseOf(number, prefix), prefix };
}

export function formatIpv4Network({ base, prefix }: Ipv4Network): string {
  return `${formatIpv4(base)}/${prefix}`;
}

export function networkSize(prefix: number): number {
  return 2 ** (32 - prefix);
}

export function contains(network: Ipv4Network, address: number): boolean {
  return baseOf(address, network.prefix) === network.base;
}

export function overlaps(a: Ipv4Network, b: Ipv4Network): boolean {
  const prefix = Math.min(a.prefix, b.prefix);
  return baseOf(a.base, prefix) === baseOf(b.base, prefix);
}

function baseOf(address: number, prefix: number): number {
  return address - (address % networkSize(prefix));
}

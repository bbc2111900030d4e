/**
 * Which virtual addresses stand for which service on this agent.
 *
 * - **IPv6 follows from the name alone**: `fd7a:7a74:6e61::/48` and the first 80 bits of the
 *   SHA-256 of the service name. It is the same on every agent and needs no memory.
 * - **IPv4 comes from a pool**: slot = hash of the name, the next free one on collision. A slot that
 *   was given once is kept in the agent's state, so an address in somebody's notes stays true.
 * - **A pin beats both**, and no other service is ever given a pinned address.
 * - **The pool never overlaps an interface or route of the host**: it moves as a whole.
 *
 * The network address, the broadcast address and the address below it (the TUN device's own) are
 * never given out.
 */
import { createHash } from "node:crypto";
import { formatIp } from "../protocol/address.ts";
import {
  contains,
  formatIpv4,
  formatIpv4Network,
  type Ipv4Network,
  networkSize,
  overlaps,
  parseIpv4,
} from "./ipv4-network.ts";

/** "fd" (RFC 4193), then "zt", "na" in ASCII after 0x7a: fixed by the protocol. */
const IPV6_PREFIX: readonly number[] = [0xfd, 0x7a, 0x7a, 0x74, 0x6e, 0x61];

/** The TUN device's own address; no service hashes to it (the chance is 2^-80). */
export const TUN_IPV6 = "fd7a:7a74:6e61::1/48";

export const IPV4_POOL_DEFAULT = "10.100.0.0/16";

export interface VirtualAddresses {
  /** Absent when the pool is exhausted or there is none. */
  readonly ipv4?: string;
  readonly ipv6: string;
}

export type Pins = Readonly<Record<string, { readonly ipv4?: string; readonly ipv6?: string }>>;

export class ServiceMap {
  readonly pool: Ipv4Network | undefined;
  readonly #pins: Pins;
  /** Addresses by service, also of services that are not offered at the moment. */
  readonly #assigned = new Map<string, number>();
  readonly #taken = new Set<number>();

  /** @param remembered IPv4 addresses of an earlier run; those outside the pool are forgotten. */
  constructor(
    pool: Ipv4Network | undefined,
    pins: Pins,
    remembered: Readonly<Record<string, string>> = {},
  ) {
    this.pool = pool;
    this.#pins = pins;
    for (const pin of Object.values(pins)) {
      const address = parseIpv4(pin.ipv4 ?? "");
      if (address !== undefined) this.#taken.add(address);
    }
    for (const [service, text] of Object.entries(remembered)) this.#recall(service, text);
  }

  /** Returns the addresses of `service`, giving it an IPv4 address if it has none. */
  addressesOf(service: string): VirtualAddresses {
    const pin = this.#pins[service];
    const ipv6 = pin?.ipv6 ?? ipv6Of(service);
    const ipv4 = pin?.ipv4 ?? this.#assign(service);
    return ipv4 === undefined ? { ipv6 } : { ipv4, ipv6 };
  }

  /** What the next run is to remember. */
  get remembered(): Record<string, string> {
    return Object.fromEntries(
      [...this.#assigned].map(([service, address]) => [service, formatIpv4(address)]),
    );
  }

  /** Forgets services that are not among `offered` once the pool is half full of memories. */
  prune(offered: ReadonlySet<string>): void {
    if (this.pool === undefined) return;
    if (this.#assigned.size <= Math.min(MEMORIES_MAX, networkSize(this.pool.prefix) / 2)) return;

    for (const [service, address] of this.#assigned) {
      if (offered.has(service)) continue;
      this.#assigned.delete(service);
      this.#taken.delete(address);
    }
  }

  /** "address/prefix" of the TUN device, whose on-link routes lead every service to it. */
  get tunAddresses(): string[] {
    if (this.pool === undefined) return [TUN_IPV6];
    const { base, prefix } = this.pool;
    return [`${formatIpv4(base + networkSize(prefix) - 2)}/${prefix}`, TUN_IPV6];
  }

  #recall(service: string, text: string): void {
    const address = parseIpv4(text);
    if (address === undefined || this.pool === undefined) return;
    if (!contains(this.pool, address) || this.#taken.has(address)) return;
    if (!this.#isUsable(address)) return;

    this.#assigned.set(service, address);
    this.#taken.add(address);
  }

  #assign(service: string): string | undefined {
    const known = this.#assigned.get(service);
    if (known !== undefined) return formatIpv4(known);
    if (this.pool === undefined) return undefined;

    const { base, prefix } = this.pool;
    const usable = networkSize(prefix) - RESERVED_ADDRESSES;
    const start = sha256(service).readUInt32BE(0);
    for (let step = 0; step < usable; step++) {
      const address = base + 1 + ((start + step) % usable);
      if (this.#taken.has(address)) continue;
      this.#assigned.set(service, address);
      this.#taken.add(address);
      return formatIpv4(address);
    }
    return undefined;
  }

  #isUsable(address: number): boolean {
    if (this.pool === undefined) return false;
    const offset = address - this.pool.base;
    return offset >= 1 && offset <= networkSize(this.pool.prefix) - RESERVED_ADDRESSES;
  }
}

export function ipv6Of(service: string): string {
  return formatIp({ family: 6, octets: [...IPV6_PREFIX, ...sha256(service).subarray(0, 10)] });
}

/**
 * Returns `preferred`, or the first network of its size in the private ranges that touches none of
 * `taken`. `undefined`: the host routes them all elsewhere, so there is no IPv4 for services.
 */
export function chooseIpv4Pool(
  preferred: Ipv4Network,
  taken: readonly Ipv4Network[],
): Ipv4Network | undefined {
  const isFree = (pool: Ipv4Network) => !taken.some((network) => overlaps(network, pool));
  if (isFree(preferred)) return preferred;

  const { prefix } = preferred;
  for (const range of FALLBACK_RANGES) {
    const pools = Math.min(POOLS_TRIED_MAX, networkSize(range.prefix) / networkSize(prefix));
    for (let index = 0; index < pools; index++) {
      const pool = { base: range.base + index * networkSize(prefix), prefix };
      if (isFree(pool)) return pool;
    }
  }
  return undefined;
}

export function describePool(pool: Ipv4Network | undefined): string {
  return pool === undefined ? "none" : formatIpv4Network(pool);
}

/** Network, broadcast and the TUN device's own address. */
const RESERVED_ADDRESSES = 3;

/** Twice the services that an agent may have. */
const MEMORIES_MAX = 8192;

/** Far more than a host has routes; keeps a tiny pool from walking a whole range. */
const POOLS_TRIED_MAX = 4096;

/** RFC 1918 without its crowded beginnings, then the benchmarking range (RFC 2544). */
const FALLBACK_RANGES: readonly Ipv4Network[] = [
  { base: 0x0a_65_00_00, prefix: 16 },
  { base: 0x0a_66_00_00, prefix: 15 },
  { base: 0x0a_68_00_00, prefix: 13 },
  { base: 0x0a_70_00_00, prefix: 12 },
  { base: 0x0a_80_00_00, prefix: 9 },
  { base: 0xac_10_00_00, prefix: 12 },
  { base: 0xc6_12_00_00, prefix: 15 },
];

function sha256(text: string): Buffer {
  return createHash("sha256").update(text, "utf8").digest();
}

/** Which IPv4 networks this host already reaches: what the pool of virtual addresses must avoid. */
import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { type Ipv4Network, parseIpv4Network } from "./ipv4-network.ts";

/**
 * Returns the networks of interfaces and of routes, without the default route.
 *
 * @param ownDevice a device that an earlier run may have left: its networks are our own.
 */
export function hostNetworks(ownDevice?: string): Ipv4Network[] {
  const ofInterfaces = Object.entries(networkInterfaces())
    .filter(([name]) => name !== ownDevice)
    .flatMap(([, addresses]) => addresses ?? [])
    .flatMap(({ cidr }) => parseIpv4Network(cidr ?? "") ?? []);
  return [...ofInterfaces, ...parseRoutes(readRoutes(), ownDevice)];
}

/** Reads the table of `/proc/net/route`: hexadecimal, in the byte order of a little-endian host. */
export function parseRoutes(table: string, ownDevice?: string): Ipv4Network[] {
  return table
    .split("\n")
    .slice(1)
    .map((line) => line.split(/\s+/))
    .filter(([device]) => device !== ownDevice)
    .flatMap(([, destination = "", , , , , , mask = ""]) => {
      if (!/^[0-9A-Fa-f]{8}$/.test(destination) || !/^[0-9A-Fa-f]{8}$/.test(mask)) return [];
      const prefix = ones(swapped(mask));
      return prefix === 0 ? [] : [{ base: swapped(destination), prefix }];
    });
}

/** Other systems have no such file; there the interfaces alone count. */
function readRoutes(): string {
  try {
    return readFileSync("/proc/net/route", "utf8");
  } catch {
    return "";
  }
}

function swapped(hex: string): number {
  const octets = hex.match(/../g) ?? [];
  return Number.parseInt(octets.reverse().join(""), 16);
}

function ones(mask: number): number {
  return mask.toString(2).replaceAll("0", "").length;
}

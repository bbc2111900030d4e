/** A relay as a client's configuration names it. */
import { parseHostPort } from "../protocol/address.ts";

export interface RelayAddress {
  /** "host:port": what is dialled. */
  readonly address: string;
  /** The name that its certificate must have; by default the host that is dialled. */
  readonly name?: string | undefined;
}

/** Returns the name that the relay's certificate must have. */
export function expectedName({ address, name }: RelayAddress): string {
  return name ?? parseHostPort(address)?.host ?? address;
}

/** Returns the relay of a configuration's entry: "host:port", or that with the name to expect. */
export function relayAddress(entry: string | RelayAddress): RelayAddress {
  return typeof entry === "string" ? { address: entry } : entry;
}

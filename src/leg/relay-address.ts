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

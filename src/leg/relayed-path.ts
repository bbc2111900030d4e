/** A path over a relay, as agent and connector hand it to their data planes. */
import { NEAR_RTT_MS } from "../protocol/limits.ts";
import type { ConnectionHandle } from "./endpoint-port.ts";

export interface RelayedPath {
  readonly leg: ConnectionHandle;
  /** The id that the relay issued. */
  readonly sendId: string;
  /** The id that this side issued. */
  readonly receiveId: string;
  /** Whether both ends are close: a tunnel that starts then has a large window. */
  readonly near: boolean;
}

/** Returns the path that a relay's message tells of; one of unknown length is not near. */
export function pathOf(
  leg: ConnectionHandle,
  { channel, rttMs }: { readonly channel: string; readonly rttMs?: number },
  receiveId: string,
): RelayedPath {
  return { leg, sendId: channel, receiveId, near: rttMs !== undefined && rttMs <= NEAR_RTT_MS };
}

/** Returns the path over the leg that came after: this side may be elsewhere, so it is not near. */
export function movedTo(leg: ConnectionHandle, path: RelayedPath): RelayedPath {
  return { ...path, leg, near: false };
}

/**
 * What `ztna status --json` prints: relays, services, tunnels, and why something does not work.
 *
 * `version` grows when a field changes its meaning; fields are only added otherwise.
 */
import type { Instant } from "../base/time.ts";
import type { OfferedService, ServicePort } from "../protocol/messages.ts";
import type { ConnectionSnapshot, EndpointSnapshot, PathSnapshot } from "../transport/endpoint.ts";
import type { AgentView } from "./agent-state.ts";
import type { Access, Bond } from "./service-access.ts";
import { bondsOf } from "./service-access.ts";
import type { VirtualAddresses } from "./service-map.ts";

export const STATUS_VERSION = 1;

export interface AgentStatus {
  readonly version: typeof STATUS_VERSION;
  readonly software: string;
  readonly identity: string;
  readonly uptimeSeconds: number;
  /** Seconds since 1970. */
  readonly certificateNotAfter: number;
  readonly tun?: string;
  /** "a.b.c.d/p" of the virtual addresses, or `none`. */
  readonly ipv4Pool: string;
  readonly relays: readonly RelayStatus[];
  readonly services: readonly ServiceStatus[];
  readonly tunnels: readonly TunnelStatus[];
}

export interface RelayStatus {
  readonly address: string;
  readonly state: "connected" | "connecting";
  /** This agent's address as the relay sees it. */
  readonly observed?: string;
  /** Why it is not connected. */
  readonly error?: string;
}

export interface ServiceStatus {
  readonly name: string;
  readonly ipv4?: string;
  readonly ipv6: string;
  readonly ports: readonly ServicePort[];
  readonly state: "idle" | "opening" | "ready" | "silent" | "failed";
  /** The connector's identity. */
  readonly peer?: string;
  readonly path?: PathStatus;
  readonly sessions: readonly SessionStatus[];
  readonly flows: number;
  readonly bytesUp: number;
  readonly bytesDown: number;
  /** Why flows were refused last; absent since it works again. */
  readonly error?: { readonly code: string; readonly reason: string };
}

export interface SessionStatus {
  readonly session: string;
  readonly relay: string;
  readonly leaseSecondsLeft: number;
}

export interface PathStatus {
  readonly kind: "relayed" | "direct";
  /** The relay, or the peer. */
  readonly address: string;
  readonly rttUs: number;
}

export interface TunnelStatus {
  readonly peer: string;
  readonly silent: boolean;
  readonly flows: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly paths: readonly PathSnapshot[];
}

export interface StatusSources {
  readonly software: string;
  readonly identity: string;
  readonly uptimeSeconds: number;
  readonly certificateNotAfter: number;
  readonly tun: string | undefined;
  readonly ipv4Pool: string;
  readonly view: AgentView;
  readonly services: readonly OfferedService[];
  readonly addressesOf: (service: string) => VirtualAddresses;
  readonly endpoint: EndpointSnapshot | undefined;
  readonly now: Instant;
}

export function describeStatus(sources: StatusSources): AgentStatus {
  const { software, identity, uptimeSeconds, certificateNotAfter, tun, ipv4Pool } = sources;
  const accesses = [...sources.view.sessions.accesses];
  const known = new Map(accesses.map((access) => [access.service, access] as const));
  return {
    version: STATUS_VERSION,
    ...{ software, identity, uptimeSeconds, certificateNotAfter, ipv4Pool },
    ...(tun === undefined ? {} : { tun }),
    relays: describeRelays(sources.view),
    services: sources.services.map((it) => describeService(it, known.get(it.name), sources)),
    tunnels: describeTunnels(accesses, sources.endpoint),
  };
}

function describeRelays({ relays }: AgentView): RelayStatus[] {
  return relays.map(({ name: address, leg, observed, lastFailure }) =>
    leg.connection === undefined
      ? {
          ...{ address, state: "connecting" },
          ...(lastFailure === undefined ? {} : { error: lastFailure }),
        }
      : { address, state: "connected", ...(observed === undefined ? {} : { observed }) },
  );
}

function describeService(
  { name, ports }: OfferedService,
  access: Access | undefined,
  sources: StatusSources,
): ServiceStatus {
  const bond = access?.bond ?? access?.standby.at(-1);
  const traffic = sources.endpoint?.services.find((it) => it.service === name);
  const path = bond && selectedPath(connectionOf(bond, sources.endpoint));
  const error = access?.lastFailure;
  const { flows = 0, bytesUp = 0, bytesDown = 0 } = traffic ?? {};
  return {
    name,
    ...sources.addressesOf(name),
    ports,
    state: stateOf(access),
    ...(bond === undefined ? {} : { peer: bond.pair.identity }),
    ...(path === undefined ? {} : { path }),
    sessions: bond === undefined ? [] : sessionsOf(bond, sources),
    ...{ flows, bytesUp, bytesDown },
    ...(error === undefined ? {} : { error: { code: error.code, reason: error.reason } }),
  };
}

function stateOf(access: Access | undefined): ServiceStatus["state"] {
  if (access === undefined) return "idle";
  if (access.bond?.state === "granted") return "ready";
  if (access.bond !== undefined || access.ask !== undefined) return "opening";
  if (access.standby.length > 0) return "silent";
  return access.lastFailure === undefined ? "idle" : "failed";
}

function sessionsOf({ links }: Bond, { view, now }: StatusSources): SessionStatus[] {
  return [...links].flatMap(([relay, { session, leaseUntil }]) =>
    session === undefined
      ? []
      : [
          {
            session,
            relay: view.relays[relay]?.name ?? "",
            leaseSecondsLeft: Math.max(0, Math.round(((leaseUntil ?? now) - now) / 1000)),
          },
        ],
  );
}

function describeTunnels(
  accesses: readonly Access[],
  endpoint: EndpointSnapshot | undefined,
): TunnelStatus[] {
  const pairs = new Set(accesses.flatMap(bondsOf).map(({ pair }) => pair));
  return [...pairs].flatMap(({ tunnel, identity: peer, silentUntil }) => {
    const found = endpoint?.connections.find((it) => it.connection === tunnel?.connection);
    if (found === undefined) return [];
    const { flows, sentBytes, receivedBytes, paths } = found;
    return [{ peer, silent: silentUntil !== undefined, flows, sentBytes, receivedBytes, paths }];
  });
}

function connectionOf(
  { pair }: Bond,
  endpoint: EndpointSnapshot | undefined,
): ConnectionSnapshot | undefined {
  return endpoint?.connections.find((it) => it.connection === pair.tunnel?.connection);
}

function selectedPath(connection: ConnectionSnapshot | undefined): PathStatus | undefined {
  const selected = connection?.paths.find((it) => it.selected);
  if (connection === undefined || selected === undefined) return undefined;

  // Until a check was answered QUIC's own estimate is the only one.
  const { path, rttUs } = selected;
  return { ...path, rttUs: rttUs > 0 ? rttUs : connection.rttUs };
}

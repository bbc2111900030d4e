/**
 * What a QUIC endpoint can do, as plain values: the boundary to the data plane.
 *
 * Commands ask and return nothing; events tell. Both mirror `native/crates/ztna-dataplane/src/`
 * `command.rs` and `event.rs`, where every field is described. Wire ids are 16 lower-case hex digits;
 * times are milliseconds unless the name says otherwise.
 */

/** A QUIC connection, unique for the life of the process. Not a QUIC connection id. */
export type ConnectionHandle = number;

/** An (agent instance, connector instance) pair, numbered by its owner. */
export type PairId = number;

export interface Endpoint {
  /** Carries out `command` after all earlier ones. Throws only after {@link close}. */
  send(command: Command): void;
  /** Returns a handle for a connection that this side dials. */
  issueConnectionHandle(): ConnectionHandle;
  /** Returns a channel id that this process has not used before. */
  issueChannelId(): string;
  /** Addresses of the primary sockets, with the ports that the system chose. */
  readonly localAddresses: readonly string[];
  /** Ends the thread; resolves when it has. May be called twice. */
  close(code: number, reason: string): Promise<void>;
}

/**
 * Opens an endpoint. Events come in order and in batches, never before this returned.
 *
 * @throws OperatorError when a socket cannot be had.
 */
export type OpenEndpoint = (
  options: EndpointOptions,
  onEvents: (events: readonly EndpointEvent[]) => void,
) => Endpoint;

export type Role = "agent" | "connector" | "relay";

export interface EndpointOptions {
  readonly role: Role;
  /** "ip:port", at most one a family. */
  readonly listen: readonly string[];
  /** 32 octets: key of Retry tokens and stateless resets. */
  readonly resetKey: Uint8Array;
  readonly allowLoopback: boolean;
  readonly limits: Partial<EndpointLimits>;
}

export interface EndpointLimits {
  readonly flowsPerTunnelMax: number;
  readonly datagramFlowsPerTunnelMax: number;
  readonly flowsMax: number;
  readonly handshakesMax: number;
  readonly tunnelBufferBytesMax: number;
  readonly tunnelBuffersMax: number;
  readonly processBufferBytesMax: number;
  readonly legsMax: number;
  readonly retriesPerSource: number;
  readonly heldSynsMax: number;
  readonly eventsMax: number;
}

export type Command =
  | ({ readonly type: "set-tls" } & TlsMaterial)
  | {
      readonly type: "connect-leg";
      readonly connection: ConnectionHandle;
      readonly remote: string;
      readonly serverName?: string;
    }
  | {
      readonly type: "connect-tunnel";
      readonly connection: ConnectionHandle;
      readonly pair: PairId;
    }
  | { readonly type: "admit"; readonly connection: ConnectionHandle }
  | {
      readonly type: "close-connection";
      readonly connection: ConnectionHandle;
      readonly code: number;
      readonly reason: string;
    }
  | { readonly type: "ping-leg"; readonly connection: ConnectionHandle }
  | {
      readonly type: "send-control";
      readonly connection: ConnectionHandle;
      readonly frame: Uint8Array;
    }
  | {
      readonly type: "open-channel";
      readonly a: ChannelSide;
      readonly b: ChannelSide;
      readonly rateBps: number;
    }
  | {
      readonly type: "move-channels";
      readonly from: ConnectionHandle;
      readonly to: ConnectionHandle;
    }
  | {
      readonly type: "open-relayed-path";
      readonly pair: PairId;
      readonly leg: ConnectionHandle;
      readonly sendId: string;
      readonly receiveId: string;
      /** Whether both ends are close: a tunnel that starts then has a large window. */
      readonly near: boolean;
    }
  | { readonly type: "close-channel"; readonly channel: string }
  | {
      readonly type: "set-local-credentials";
      readonly tunnel: ConnectionHandle;
      readonly credentials: Credentials;
    }
  | {
      readonly type: "set-candidates";
      readonly tunnel: ConnectionHandle;
      readonly generation: number;
      readonly credentials: Credentials;
      readonly candidates: readonly string[];
    }
  | {
      readonly type: "set-path-policy";
      readonly tunnel: ConnectionHandle;
      readonly policy: PathPolicy;
    }
  | {
      readonly type: "set-services";
      readonly services: readonly AgentService[];
      readonly listeners: readonly LocalListener[];
    }
  | { readonly type: "set-backends"; readonly services: readonly BackendService[] }
  | { readonly type: "grant"; readonly tunnel: ConnectionHandle; readonly service: string }
  | {
      readonly type: "revoke";
      readonly tunnel: ConnectionHandle;
      readonly service: string;
      readonly code: number;
    }
  | { readonly type: "refuse-service"; readonly service: string; readonly answer: number }
  | {
      readonly type: "open-tun";
      /** A name, or the number of an inherited descriptor. */
      readonly source: { readonly name: string } | { readonly descriptor: number };
      readonly mtu: number;
      /** "address/prefix". */
      readonly addresses: readonly string[];
    }
  | { readonly type: "attach-packets"; readonly path: string; readonly mtu: number }
  | {
      readonly type: "ping";
      readonly request: number;
      readonly service: string;
      readonly count: number;
      readonly intervalMs: number;
      readonly size: number;
    }
  | { readonly type: "snapshot"; readonly request: number };

export interface TlsMaterial {
  readonly chainPem: Uint8Array;
  readonly keyPem: Uint8Array;
  readonly rootsPem: Uint8Array;
  readonly revoked: readonly Revocation[];
}

export type Revocation =
  | { readonly type: "spki"; readonly spkiSha256: string }
  | { readonly type: "certificate"; readonly issuer: string; readonly serial: string };

export interface ChannelSide {
  readonly leg: ConnectionHandle;
  /** The id that the relay issued: comes in. */
  readonly relayId: string;
  /** The id that the client issued: goes out. */
  readonly clientId: string;
}

export interface Credentials {
  readonly ufrag: string;
  readonly password: string;
}

export interface PathPolicy {
  readonly preference: "prefer-direct" | "require-direct" | "relay-only";
  readonly silenceMinMs: number;
  readonly activeCheckIntervalMs: number;
  readonly standbyCheckIntervalMs: number;
  readonly idleCheckIntervalMs: number;
}

export interface ServicePort {
  readonly protocol: "tcp" | "udp";
  readonly port: number;
}

export interface AgentService {
  readonly name: string;
  readonly ipv4?: string;
  readonly ipv6?: string;
  readonly ports: readonly ServicePort[];
}

export type LocalListener =
  | {
      readonly type: "forward";
      readonly protocol: "tcp" | "udp";
      readonly bind: string;
      readonly service: string;
      readonly port: number;
    }
  | { readonly type: "socks"; readonly bind: string };

export interface BackendService {
  readonly name: string;
  readonly ports: readonly BackendPort[];
  readonly healthy: boolean;
  readonly idleMs: number;
}

export interface BackendPort extends ServicePort {
  /** "ip:port", tried in turn. */
  readonly addresses: readonly string[];
}

export type EndpointEvent =
  | HandshakeEvent
  | {
      readonly type: "control";
      readonly connection: ConnectionHandle;
      readonly frame: Uint8Array;
      /** Least round-trip time of the connection so far. */
      readonly rttUs?: number;
    }
  | ClosedEvent
  | {
      readonly type: "handshake-refused";
      readonly remote?: string;
      readonly reason: string;
      readonly detail: string;
    }
  | { readonly type: "leg-silent"; readonly connection: ConnectionHandle }
  | PathEvent
  | FlowEvent
  | { readonly type: "wanted"; readonly service: string }
  | { readonly type: "tunnel-silent"; readonly tunnel: ConnectionHandle; readonly silent: boolean }
  | PingReplyEvent
  | { readonly type: "snapshot"; readonly request: number; readonly snapshot: EndpointSnapshot }
  | { readonly type: "command-failed"; readonly code: string; readonly message: string }
  | { readonly type: "tun-opened"; readonly name: string }
  | { readonly type: "warning"; readonly what: string; readonly detail: string }
  | { readonly type: "overflow"; readonly dropped: number }
  | { readonly type: "stopped"; readonly fatal?: string };

export interface HandshakeEvent {
  readonly type: "handshake";
  readonly connection: ConnectionHandle;
  readonly kind: "leg" | "tunnel";
  /** Whether the peer dialled. */
  readonly accepted: boolean;
  /** Of a leg: the peer's address as observed. */
  readonly remote?: string;
  /** Of a tunnel: over whose paths it came. */
  readonly pair?: PairId;
  readonly leaf: LeafInfo;
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[];
}

export interface ClosedEvent {
  readonly type: "closed";
  readonly connection: ConnectionHandle;
  readonly kind: "leg" | "tunnel";
  readonly by: "local" | "peer" | "idle-timeout" | "stateless-reset";
  /** Close code, or 0x100 + TLS alert of a failed handshake. */
  readonly code: number;
  /** Whether `code` is ours and not QUIC's. */
  readonly application: boolean;
  readonly reason: string;
}

/** Read by the library that verified it, so that no second parser can disagree. */
export interface LeafInfo {
  readonly spkiSha256: string;
  readonly issuer: string;
  readonly serial: string;
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly clientAuth: boolean;
  readonly serverAuth: boolean;
  /** Seconds since 1970. */
  readonly notAfter: number;
}

export interface PathName {
  readonly kind: "relayed" | "direct";
  /** The relay, or the peer. */
  readonly address: string;
}

export interface PathEvent {
  readonly type: "path";
  readonly tunnel: ConnectionHandle;
  readonly path: PathName;
  readonly change: "proven" | "selected" | "suspect" | "recovered" | "lost" | "mtu";
  /** Why it was selected. */
  readonly reason?: string;
  readonly mtu?: number;
  readonly rttUs: number;
}

export interface FlowEvent {
  readonly type: "flow";
  readonly tunnel: ConnectionHandle;
  readonly service: string;
  readonly kind: "tcp" | "udp" | "echo";
  readonly change: "opened" | "refused" | "closed";
  /** Answer of a refusal, or stream error code of an unclean end. */
  readonly code?: number;
  /** How many flows it happened to, at least one. */
  readonly count: number;
  /** Of all of them. */
  readonly bytesUp: number;
  readonly bytesDown: number;
}

export interface PingReplyEvent {
  readonly type: "ping-reply";
  readonly request: number;
  readonly sequence: number;
  /** Absent: lost after 2 s, or refused. */
  readonly rttUs?: number;
  readonly path?: PathName;
  readonly refused?: number;
}

export interface EndpointSnapshot {
  readonly counters: Readonly<Record<string, number>>;
  readonly connections: readonly ConnectionSnapshot[];
  readonly services: readonly ServiceSnapshot[];
  readonly channels: number;
  readonly connectionsTotal: number;
  readonly flows: number;
}

export interface ConnectionSnapshot {
  readonly connection: ConnectionHandle;
  readonly kind: "leg" | "tunnel";
  readonly remote?: string;
  readonly rttUs: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  readonly lostPackets: number;
  readonly flows: number;
  readonly paths: readonly PathSnapshot[];
}

export interface PathSnapshot {
  readonly path: PathName;
  readonly selected: boolean;
  readonly state: "unproven" | "proven" | "suspect";
  readonly rttUs: number;
  readonly jitterUs: number;
  readonly mtu: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

export interface ServiceSnapshot {
  readonly service: string;
  readonly bytesUp: number;
  readonly bytesDown: number;
  readonly flowsOpened: number;
  readonly flowsRefused: number;
  readonly flows: number;
}

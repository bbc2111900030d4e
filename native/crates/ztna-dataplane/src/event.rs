//! What the endpoint tells its owner. Plain data, drained in batches.

use std::net::SocketAddr;
use std::time::Duration;

use crate::id::{ConnectionHandle, PairId};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A handshake is done: the owner answers with `Admit` or `CloseConnection`.
    Handshake {
        /// Which connection.
        connection: ConnectionHandle,
        /// Leg or tunnel.
        kind: ConnectionKind,
        /// Whether the peer dialled.
        accepted: bool,
        /// Of a leg: the peer's address as observed. Of a tunnel: none.
        remote: Option<SocketAddr>,
        /// Of a tunnel: over whose paths it came.
        pair: Option<PairId>,
        /// The certificate that signed.
        leaf: LeafInfo,
        /// DER, leaf first.
        chain: Vec<Vec<u8>>,
    },
    /// One control frame of an admitted connection.
    Control {
        /// Which connection.
        connection: ConnectionHandle,
        /// The body, without its length.
        frame: Vec<u8>,
        /// Least round-trip time of the connection so far.
        rtt: Option<Duration>,
    },
    /// A connection ended, also one whose handshake failed.
    Closed {
        /// Which connection.
        connection: ConnectionHandle,
        /// Leg or tunnel.
        kind: ConnectionKind,
        /// Who ended it.
        by: ClosedBy,
        /// Close code, or the TLS alert of a failed handshake + 0x100.
        code: u64,
        /// Whether `code` is ours and not QUIC's.
        application: bool,
        /// What the peer said, or what was wrong.
        reason: String,
    },
    /// A handshake with a stranger failed; counted always, told at most 20 times a second.
    HandshakeRefused {
        /// From where.
        remote: Option<SocketAddr>,
        /// One of a closed set, for a counter.
        reason: &'static str,
        /// For the log line.
        detail: String,
    },
    /// Nothing answered a leg's PING in time: its owner opens another.
    LegSilent {
        /// Which leg.
        connection: ConnectionHandle,
    },
    /// A tunnel's path changed.
    Path {
        /// Which tunnel.
        tunnel: ConnectionHandle,
        /// What it is.
        path: PathName,
        /// What happened to it.
        change: PathChange,
        /// Smoothed round-trip time in microseconds, 0 = unknown.
        rtt_us: u32,
    },
    /// Flows were opened, refused or closed.
    Flow(FlowReport),
    /// Agent: applications ask for a service that no tunnel serves.
    Wanted {
        /// Which service.
        service: String,
    },
    /// Agent: all paths of a tunnel have been silent for 1 s, or answer again.
    TunnelSilent {
        /// Which tunnel.
        tunnel: ConnectionHandle,
        /// Whether it is silent.
        silent: bool,
    },
    /// One answer, or its absence, to `Command::Ping`.
    PingReply {
        /// Of the command.
        request: u32,
        /// From 0.
        sequence: u16,
        /// Round-trip time in microseconds, `None` = lost after 2 s or refused.
        rtt_us: Option<u32>,
        /// The path it was sent on.
        path: Option<PathName>,
        /// The connector's answer when the flow was refused.
        refused: Option<u8>,
    },
    /// Answer to `Command::Snapshot`.
    Snapshot {
        /// Of the command.
        request: u32,
        /// The figures.
        snapshot: Box<Snapshot>,
    },
    /// A command could not be carried out.
    CommandFailed {
        /// `EndpointError::code`.
        code: &'static str,
        /// For people.
        message: String,
    },
    /// A TUN device is up, with the name that the system gave it.
    TunOpened {
        /// Of the device.
        name: String,
    },
    /// Something an operator should read.
    Warning {
        /// A constant of a closed set.
        what: &'static str,
        /// For people.
        detail: String,
    },
    /// Events were dropped because the owner did not drain them.
    Overflow {
        /// How many; a flow report is one, of however many flows.
        dropped: u64,
    },
    /// The thread ended: asked to, or by a bug.
    Stopped {
        /// `None` when asked to.
        fatal: Option<String>,
    },
}

/// Leg or tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectionKind {
    /// With a relay: control only.
    Leg,
    /// Between agent and connector: all user traffic.
    Tunnel,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClosedBy {
    /// This side.
    Local,
    /// The other side.
    Peer,
    /// Nothing was heard for the idle time-out.
    IdleTimeout,
    /// The peer does not know the connection any more.
    StatelessReset,
}

/// What a leaf certificate says; read by the library that verified it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeafInfo {
    /// SHA-256 of its SubjectPublicKeyInfo, lower-case hex.
    pub spki_sha256: String,
    /// DER of its issuer's name, lower-case hex.
    pub issuer: String,
    /// Lower-case hex, no leading zero octets.
    pub serial: String,
    /// URI SANs, as they stand.
    pub uris: Vec<String>,
    /// DNS SANs, as they stand.
    pub dns_names: Vec<String>,
    /// IP SANs, textual.
    pub ip_addresses: Vec<String>,
    /// EKU is present and has clientAuth.
    pub client_auth: bool,
    /// EKU is present and has serverAuth.
    pub server_auth: bool,
    /// Seconds since 1970.
    pub not_after: i64,
}

/// A path, as people see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathName {
    /// Over this relay.
    Relayed(SocketAddr),
    /// To this address.
    Direct(SocketAddr),
}

/// What happened to a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PathChange {
    /// A check was answered for the first time.
    Proven,
    /// It carries the traffic from here on, and why.
    Selected(&'static str),
    /// It fell silent.
    Suspect,
    /// It answered again.
    Recovered,
    /// It is gone.
    Lost,
    /// Its size in octets was found.
    Mtu(u16),
}

/// What became of flows of one kind.
#[derive(Clone, Debug)]
pub struct FlowReport {
    /// In which tunnel.
    pub tunnel: ConnectionHandle,
    /// To which service.
    pub service: String,
    /// TCP, UDP or echo.
    pub kind: FlowKind,
    /// What happened.
    pub change: FlowChange,
    /// To how many of them, at least one.
    pub count: u64,
    /// Octets from agent to connector, of all of them.
    pub bytes_up: u64,
    /// Octets from connector to agent, of all of them.
    pub bytes_down: u64,
}

/// Kinds of flow, with their wire values.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum FlowKind {
    /// Stream of octets.
    Tcp = 1,
    /// Datagrams.
    Udp = 2,
    /// ICMP echo.
    Echo = 3,
}

/// What happened to a flow.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum FlowChange {
    /// The backend is connected.
    Opened,
    /// With this answer.
    Refused(u8),
    /// Ended, with the stream error code or `None` for a clean end.
    Closed(Option<u64>),
}

/// Figures of the moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Monotonic counters by name, in `snake_case`.
    pub counters: Vec<(&'static str, u64)>,
    /// Connections, oldest first, at most 1,024.
    pub connections: Vec<ConnectionSnapshot>,
    /// Bytes by service and path kind.
    pub services: Vec<ServiceSnapshot>,
    /// Channels at a relay.
    pub channels: u64,
    /// Connections in all.
    pub connections_total: u64,
    /// Flows in all.
    pub flows: u64,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct ConnectionSnapshot {
    /// Which.
    pub connection: ConnectionHandle,
    /// Leg or tunnel.
    pub kind: ConnectionKind,
    /// Of a leg.
    pub remote: Option<SocketAddr>,
    /// QUIC's estimate in microseconds.
    pub rtt_us: u32,
    /// Octets that QUIC sent.
    pub sent_bytes: u64,
    /// Octets that QUIC received.
    pub received_bytes: u64,
    /// Packets that QUIC declared lost.
    pub lost_packets: u64,
    /// Flows under way.
    pub flows: u32,
    /// Paths of a tunnel.
    pub paths: Vec<PathSnapshot>,
}

/// One path.
#[derive(Clone, Debug)]
pub struct PathSnapshot {
    /// What it is.
    pub name: PathName,
    /// Whether it carries the traffic.
    pub selected: bool,
    /// `unproven`, `proven` or `suspect`.
    pub state: &'static str,
    /// Smoothed, by checks, in microseconds, 0 = unknown.
    pub rtt_us: u32,
    /// Mean deviation in microseconds.
    pub jitter_us: u32,
    /// Largest proven payload.
    pub mtu: u16,
    /// Payload octets sent.
    pub sent_bytes: u64,
    /// Payload octets received.
    pub received_bytes: u64,
}

/// One service's traffic.
#[derive(Clone, Debug)]
pub struct ServiceSnapshot {
    /// Its name.
    pub service: String,
    /// Octets from agent to connector.
    pub bytes_up: u64,
    /// Octets from connector to agent.
    pub bytes_down: u64,
    /// Flows opened so far.
    pub flows_opened: u64,
    /// Flows refused so far.
    pub flows_refused: u64,
    /// Flows under way.
    pub flows: u32,
}

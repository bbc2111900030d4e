//! What the owner asks of the endpoint. Plain data; every command is carried out in order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::config::PathPolicy;
use crate::id::{ConnectionHandle, PairId, WireId};

/// One request to the data-plane thread.
#[derive(Clone, Debug)]
pub enum Command {
    /// Uses this material for new connections and judges the live ones by it again.
    SetTls(TlsMaterial),
    /// Dials a relay.
    ConnectLeg {
        /// Handle that the connection will have.
        connection: ConnectionHandle,
        /// The relay's address.
        remote: SocketAddr,
        /// SNI: the host that was dialled, unless it is an address.
        server_name: Option<String>,
    },
    /// Agent: dials the connector of a pair over its relayed paths.
    ConnectTunnel {
        /// Handle that the connection will have.
        connection: ConnectionHandle,
        /// Whose relayed paths carry it.
        pair: PairId,
    },
    /// Takes a connection whose handshake event was judged good: its frames are read from here on.
    Admit {
        /// Which connection.
        connection: ConnectionHandle,
    },
    /// Ends a connection with an application close code.
    CloseConnection {
        /// Which connection.
        connection: ConnectionHandle,
        /// One of the close codes of `docs/protocol.md`.
        code: u64,
        /// Shown to the peer.
        reason: String,
    },
    /// Sends a QUIC PING; `Event::LegSilent` follows if nothing answers in max(300 ms, 4 srtt).
    PingLeg {
        /// Which leg.
        connection: ConnectionHandle,
    },
    /// Sends one control frame on stream 0.
    SendControl {
        /// Which connection.
        connection: ConnectionHandle,
        /// The body: the endpoint writes the length before it.
        frame: Vec<u8>,
    },
    /// Relay: forwards between two legs. Opening a channel that exists replaces its legs and rate.
    OpenChannel {
        /// One side.
        a: ChannelSide,
        /// The other side.
        b: ChannelSide,
        /// Bits a second each way, 0 = no limit.
        rate_bps: u64,
    },
    /// Relay: the channels of one leg belong to another from here on.
    MoveChannels {
        /// The superseded leg.
        from: ConnectionHandle,
        /// The leg that supersedes it.
        to: ConnectionHandle,
    },
    /// Agent, connector: a relayed path of a pair. Opening one whose `receive_id` exists replaces the
    /// rest of it; another pair loses it.
    OpenRelayedPath {
        /// Whose path.
        pair: PairId,
        /// The leg whose relay forwards it.
        leg: ConnectionHandle,
        /// The id that the relay issued: goes out.
        send_id: WireId,
        /// The id that this side issued: comes in.
        receive_id: WireId,
        /// Whether the relay found both ends close: a tunnel that starts then has a large window.
        near: bool,
    },
    /// Relay: ends the channel that has this id on either side. Agent, connector: ends the relayed
    /// path with this `receive_id`.
    CloseChannel {
        /// Which channel.
        channel: WireId,
    },
    /// The credentials that checks towards this side carry; sent in `candidates` by the caller.
    SetLocalCredentials {
        /// Which tunnel.
        tunnel: ConnectionHandle,
        /// Old ones stay valid for 10 s.
        credentials: Credentials,
    },
    /// What the peer's `candidates` said.
    SetCandidates {
        /// Which tunnel.
        tunnel: ConnectionHandle,
        /// Grows with each list.
        generation: u32,
        /// What checks towards the peer carry.
        credentials: Credentials,
        /// At most 24.
        candidates: Vec<SocketAddr>,
    },
    /// Sets intervals, silence and preference of one tunnel.
    SetPathPolicy {
        /// Which tunnel.
        tunnel: ConnectionHandle,
        /// The policy.
        policy: PathPolicy,
    },
    /// Agent: the whole list of services that exist for it, and where applications reach them.
    SetServices {
        /// At most 4,096.
        services: Vec<AgentService>,
        /// Local listeners; those that are open and listed stay open.
        listeners: Vec<LocalListener>,
    },
    /// Connector: the whole list of services it provides.
    SetBackends {
        /// At most 256.
        services: Vec<BackendService>,
    },
    /// Agent: flows of this service go into this tunnel. Connector: this tunnel may open it.
    Grant {
        /// Which tunnel.
        tunnel: ConnectionHandle,
        /// Which service.
        service: String,
    },
    /// Ends a grant and cuts its flows within 100 ms.
    Revoke {
        /// Which tunnel.
        tunnel: ConnectionHandle,
        /// Which service.
        service: String,
        /// Stream error code of the flows that are cut.
        code: u64,
    },
    /// Agent: no session for the service now; its waiting flows are answered so.
    RefuseService {
        /// Which service.
        service: String,
        /// The answer, as the connector would have given it.
        answer: u8,
    },
    /// Agent: opens a TUN device.
    OpenTun(TunConfig),
    /// Agent: accepts one PacketTunnel shim on a Unix socket.
    AttachPackets {
        /// Path of the socket, mode 0600.
        path: String,
        /// Largest IP packet.
        mtu: u16,
    },
    /// Agent: a series of echo requests through the tunnel; one `Event::PingReply` each.
    Ping {
        /// Comes back in the replies.
        request: u32,
        /// Which service.
        service: String,
        /// How many, at most 10,000.
        count: u16,
        /// Between them.
        interval: Duration,
        /// Octets of each, at most 9,216.
        size: u16,
    },
    /// Asks for `Event::Snapshot`.
    Snapshot {
        /// Comes back in the event.
        request: u32,
    },
    /// Closes every connection with a code, sends what can be sent for `grace` and ends the thread.
    Shutdown {
        /// Close code.
        code: u64,
        /// Shown to the peers.
        reason: String,
        /// How long to wait for the close frames to leave.
        grace: Duration,
    },
}

/// Certificate chain, key, roots and revocations.
#[derive(Clone)]
pub struct TlsMaterial {
    /// Leaf first.
    pub chain_pem: Vec<u8>,
    /// PKCS #8 or SEC 1.
    pub key_pem: Vec<u8>,
    /// One or more roots.
    pub roots_pem: Vec<u8>,
    /// Keys and certificates that are refused although they verify.
    pub revoked: Vec<Revocation>,
}

impl std::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsMaterial").field("revoked", &self.revoked.len()).finish_non_exhaustive()
    }
}

/// What is revoked: never a hash of the signed bytes, which are malleable.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Revocation {
    /// SHA-256 of a SubjectPublicKeyInfo, lower-case hex.
    Spki(String),
    /// One certificate of one issuer.
    Certificate {
        /// DER of the issuer's name, lower-case hex.
        issuer: String,
        /// Lower-case hex, no leading zero octets.
        serial: String,
    },
}

/// One leg's side of a channel at the relay.
#[derive(Clone, Copy, Debug)]
pub struct ChannelSide {
    /// Whose address frames of this side come from and go to.
    pub leg: ConnectionHandle,
    /// The id that the relay issued: comes in.
    pub relay_id: WireId,
    /// The id that the client issued: goes out.
    pub client_id: WireId,
}

/// Short-term credentials of checks: 16 and 32 lower-case hex digits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// Names the receiver.
    pub ufrag: String,
    /// Keys the integrity.
    pub password: String,
}

/// Transport of a service's port.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// A port that a service offers.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ServicePort {
    /// Of this transport.
    pub protocol: Protocol,
    /// 1..65535.
    pub port: u16,
}

/// A service as an agent knows it.
#[derive(Clone, Debug)]
pub struct AgentService {
    /// 1..63 of `[a-z0-9-]`.
    pub name: String,
    /// Its virtual address, local to this agent.
    pub ipv4: Option<Ipv4Addr>,
    /// Its virtual address, local to this agent.
    pub ipv6: Option<Ipv6Addr>,
    /// What it offers; anything else is refused without asking the connector.
    pub ports: Vec<ServicePort>,
}

/// A local socket whose connections or datagrams go to a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LocalListener {
    /// Everything that arrives goes to one port of one service.
    Forward {
        /// Of this transport.
        protocol: Protocol,
        /// Local address.
        bind: SocketAddr,
        /// Where to.
        service: String,
        /// Where to.
        port: u16,
    },
    /// SOCKS5 (RFC 1928) without authentication: CONNECT and UDP ASSOCIATE, by service name or
    /// virtual address.
    Socks {
        /// Local address.
        bind: SocketAddr,
    },
}

/// A service as its connector knows it.
#[derive(Clone, Debug)]
pub struct BackendService {
    /// 1..63 of `[a-z0-9-]`.
    pub name: String,
    /// What it offers and where that is.
    pub ports: Vec<BackendPort>,
    /// Whether echo is answered: the backend is alive.
    pub healthy: bool,
    /// UDP and echo flows end after this long without a datagram.
    pub idle: Duration,
}

/// Where one port of a service really is.
#[derive(Clone, Debug)]
pub struct BackendPort {
    /// What the agent asks for.
    pub port: ServicePort,
    /// Tried in turn. Empty: unreachable.
    pub addresses: Vec<SocketAddr>,
}

/// How to get a TUN device.
#[derive(Clone, Debug)]
pub struct TunConfig {
    /// By name or inherited.
    pub source: TunSource,
    /// Of the device.
    pub mtu: u16,
    /// Addresses with prefix lengths: their on-link routes go with the device. Not used with an
    /// inherited descriptor, whose owner configured it.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// Where a TUN device comes from.
#[derive(Clone, Debug)]
pub enum TunSource {
    /// Created, or attached to when it exists.
    Name(String),
    /// Open already; the endpoint owns it from here on.
    Descriptor(i32),
}

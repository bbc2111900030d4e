//! What an endpoint is told once, when it opens, and the limits it keeps.

use std::net::SocketAddr;
use std::time::Duration;

/// Which of the three roles this process plays.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The user's side: dials legs and tunnels, opens flows.
    Agent,
    /// The service's side: dials legs, accepts tunnels, owns backends.
    Connector,
    /// The middle: accepts legs, forwards channels.
    Relay,
}

/// What an endpoint needs to open.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// Which role it plays.
    pub role: Role,
    /// Addresses of the primary UDP sockets, at most one a family.
    pub listen: Vec<SocketAddr>,
    /// Key of Retry tokens and stateless resets; kept on disk by a relay so that it survives a restart.
    pub reset_key: [u8; 32],
    /// Whether checks may go to loopback addresses. Only for tests on one machine.
    pub allow_loopback: bool,
    /// The bounds of `docs/protocol.md`, limits.
    pub limits: Limits,
}

/// Bounds on everything that a peer can grow (`docs/protocol.md`, limits).
#[derive(Clone, Debug)]
pub struct Limits {
    /// Flows of every kind in one tunnel.
    pub flows_per_tunnel_max: usize,
    /// UDP and echo flows in one tunnel.
    pub datagram_flows_per_tunnel_max: usize,
    /// Flows of the process: its descriptors less 256.
    pub flows_max: usize,
    /// Handshakes under way in the process.
    pub handshakes_max: usize,
    /// Bytes that quiche may hold for one tunnel.
    pub tunnel_buffer_bytes_max: usize,
    /// Buffers that quiche may hold for one tunnel.
    pub tunnel_buffers_max: usize,
    /// Bytes that quiche may hold for the process.
    pub process_buffer_bytes_max: usize,
    /// Connections that a relay serves.
    pub legs_max: usize,
    /// Retries a second to one source, and twice as many at once. An office behind one address may
    /// need more.
    pub retries_per_source: u32,
    /// SYNs held while a service's session is opened.
    pub held_syns_max: usize,
    /// Events waiting for JavaScript.
    pub events_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows_per_tunnel_max: 8_192,
            datagram_flows_per_tunnel_max: 4_096,
            flows_max: 16_384,
            handshakes_max: 1_024,
            tunnel_buffer_bytes_max: 192 << 20,
            tunnel_buffers_max: 262_144,
            process_buffer_bytes_max: 2 << 30,
            legs_max: 65_536,
            retries_per_source: 20,
            held_syns_max: 1_024,
            events_max: 65_536,
        }
    }
}

/// How quickly paths are checked and left (`docs/protocol.md`, tunnels and paths).
#[derive(Clone, Debug)]
pub struct PathPolicy {
    /// Which kinds of path may carry user traffic.
    pub preference: PathPreference,
    /// A silent path is suspected after max(this, 1.5 srtt + 20 ms + 2 jitter).
    pub silence_min: Duration,
    /// Interval of checks on the selected path of an active tunnel.
    pub active_check_interval: Duration,
    /// Interval of checks on the other paths of an active tunnel.
    pub standby_check_interval: Duration,
    /// Interval of checks while a tunnel is idle.
    pub idle_check_interval: Duration,
}

/// Which kinds of path may carry user traffic.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PathPreference {
    /// Direct when one is proven, else relayed.
    PreferDirect,
    /// Direct or nothing.
    RequireDirect,
    /// Relayed only.
    RelayOnly,
}

impl Default for PathPolicy {
    fn default() -> Self {
        Self {
            preference: PathPreference::PreferDirect,
            silence_min: Duration::from_millis(40),
            active_check_interval: Duration::from_millis(50),
            standby_check_interval: Duration::from_secs(1),
            idle_check_interval: Duration::from_secs(15),
        }
    }
}

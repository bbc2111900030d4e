//! Everything the data-plane thread owns.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use mio::{Poll, Token};
use slab::Slab;

use crate::channel::ChannelTable;
use crate::config::{EndpointConfig, Role};
use crate::connection::Connection;
use crate::demux::IdMap;
use crate::error::EndpointError;
use crate::event::Event;
use crate::id::{ConnectionHandle, PairId, WireId};
use crate::path::CheckBudget;
use crate::reset::{RESET_RATES, StatelessReset};
use crate::retry::{Retry, retry_rates};
use crate::tls::TlsContext;
use crate::udp::{RecvBuffers, UdpPort};
use crate::user_udp::UdpBatch;

use super::agent::AgentSide;
use super::connector::ConnectorSide;
use super::flow_reports::FlowReports;
use super::flows::FlowTable;
use super::forwarding::FORWARDED_OCTETS_A_CALL;
use super::queue::Shared;
use super::staging::Staging;
use super::waiting::Heard;

pub(crate) const WAKE: Token = Token(0);
pub(super) const PORT_BASE: usize = 1;
pub(super) const PORTS_MAX: usize = 2;
pub(super) const LINK_BASE: usize = PORT_BASE + PORTS_MAX;
/// A TUN device and a PacketTunnel shim, say.
pub(super) const LINKS_MAX: usize = 4;
pub(super) const LISTENER_BASE: usize = LINK_BASE + LINKS_MAX;
pub(super) const LISTENERS_MAX: usize = 4_096;
pub(super) const FLOW_BASE: usize = LISTENER_BASE + LISTENERS_MAX;

/// What an id leads to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    /// A connection of the slab.
    Connection(usize),
    /// A relayed path, by its pair.
    Channel(PairId),
}

/// The relayed paths and tunnels of one (agent instance, connector instance) pair.
#[derive(Default)]
pub(super) struct Pair {
    pub(super) channels: Vec<PairChannel>,
    pub(super) tunnels: Vec<usize>,
}

impl Pair {
    /// Returns whether every path is a short one.
    pub(super) fn is_near(&self) -> bool {
        !self.channels.is_empty() && self.channels.iter().all(|channel| channel.near)
    }
}

/// One relayed path of a pair.
#[derive(Clone, Copy)]
pub(super) struct PairChannel {
    pub(super) leg: ConnectionHandle,
    pub(super) port: usize,
    pub(super) relay: SocketAddr,
    pub(super) send_id: WireId,
    pub(super) receive_id: WireId,
    pub(super) near: bool,
}

/// How a leg's address is reached: by the socket and the own address that its packets came to.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) leg: ConnectionHandle,
    pub(super) port: usize,
    pub(super) src_ip: Option<IpAddr>,
}

/// The counters that are not somebody else's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) dropped_invalid: u64,
    pub(super) dropped_unknown_id: u64,
    pub(super) dropped_wrong_source: u64,
    pub(super) dropped_unproven_source: u64,
    pub(super) dropped_check: u64,
    pub(super) dropped_foreign_packet: u64,
    pub(super) retries_sent: u64,
    pub(super) retry_tokens_validated: u64,
    pub(super) retry_tokens_refused: u64,
    pub(super) retries_limited: u64,
    pub(super) resets_sent: u64,
    pub(super) resets_limited: u64,
    pub(super) handshakes_limited: u64,
    pub(super) handshakes_refused: u64,
    pub(super) handshakes_done: u64,
    pub(super) connections_closed: u64,
    pub(super) datagrams_dropped_queue: u64,
    pub(super) datagrams_dropped_unknown_flow: u64,
    pub(super) datagrams_dropped_early: u64,
    pub(super) datagrams_dropped_malformed: u64,
    pub(super) flows_refused_limit: u64,
    pub(super) flows_refused_unknown: u64,
    pub(super) flows_reset_pressure: u64,
    pub(super) headers_invalid: u64,
    pub(super) packets_via_direct: u64,
    pub(super) packets_via_relay: u64,
}

/// The data plane.
pub(crate) struct Plane {
    pub(super) config: EndpointConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) poll: Poll,
    pub(super) ports: Vec<UdpPort>,
    /// Taken while a train is being read from it.
    pub(super) buffers: Option<Box<RecvBuffers>>,
    pub(super) staging: Staging,
    pub(super) heard: Heard,
    /// Where trains are built before they are sent.
    pub(super) train: Vec<u8>,
    pub(super) connections: Slab<Connection>,
    pub(super) handles: HashMap<ConnectionHandle, usize>,
    pub(super) ids: IdMap<Target>,
    /// Tunnels under way, by the channel and the id that the client chose for its first packets.
    pub(super) initials: BTreeMap<(WireId, Vec<u8>), usize>,
    pub(super) pairs: HashMap<PairId, Pair>,
    pub(super) channels: ChannelTable,
    /// The own address that a leg's packets came to, for multi-homed relays.
    pub(super) sources: HashMap<SocketAddr, Source>,
    /// The legs that this side dialled.
    pub(super) dialled_legs: Vec<usize>,
    pub(super) tls: Option<TlsContext>,
    pub(super) retry: Retry,
    pub(super) resets: StatelessReset,
    /// Bounds checks to addresses that have proven nothing.
    pub(super) check_budget: CheckBudget,
    pub(super) timers: BinaryHeap<Reverse<(Instant, usize)>>,
    pub(super) dirty: Vec<usize>,
    /// Connections that met a socket without room for more.
    pub(super) awaiting_room: Vec<usize>,
    /// Connections whose control frames wait to be read.
    pub(super) unread_control: Vec<usize>,
    pub(super) flows: FlowTable,
    pub(super) agent: AgentSide,
    pub(super) connector: ConnectorSide,
    /// Listeners that may have something.
    pub(super) ready_listeners: BTreeSet<usize>,
    /// Where applications' and backends' datagrams are read to; made when first needed, taken while
    /// they are read.
    pub(super) user_batch: Option<Box<UdpBatch>>,
    /// Where packets are read to; taken while they are.
    pub(super) packet_buffer: Option<Vec<u8>>,
    /// Where packets are built.
    pub(super) built_packet: Vec<u8>,
    pub(super) events: Vec<Event>,
    pub(super) reports: FlowReports,
    pub(super) counters: Counters,
    pub(super) handshakes: usize,
    pub(super) next_judgement: Instant,
    pub(super) refusals_told: (u64, u32),
    pub(super) stopping: Option<Instant>,
}

impl Plane {
    /// Binds and registers the primary sockets.
    pub(crate) fn bind(
        config: &EndpointConfig,
        poll: &Poll,
    ) -> Result<Vec<UdpPort>, EndpointError> {
        let mut ports = Vec::new();
        for (index, address) in config.listen.iter().take(PORTS_MAX).enumerate() {
            let mut port = UdpPort::bind(*address)?;
            port.watch(poll.registry(), Token(PORT_BASE + index))
                .map_err(|error| super::system("watch a socket", &error))?;
            ports.push(port);
        }
        Ok(ports)
    }

    pub(crate) fn new(
        config: EndpointConfig,
        poll: Poll,
        ports: Vec<UdpPort>,
        shared: Arc<Shared>,
    ) -> Self {
        let now = clock();
        Self {
            shared,
            poll,
            ports,
            buffers: Some(Box::new(RecvBuffers::new(match config.role {
                Role::Relay => FORWARDED_OCTETS_A_CALL,
                Role::Agent | Role::Connector => usize::MAX,
            }))),
            staging: Staging::default(),
            heard: Heard::default(),
            train: vec![0; 65_536],
            connections: Slab::new(),
            handles: HashMap::new(),
            ids: IdMap::default(),
            initials: BTreeMap::new(),
            pairs: HashMap::new(),
            channels: ChannelTable::new(),
            sources: HashMap::new(),
            dialled_legs: Vec::new(),
            tls: None,
            retry: Retry::new(config.reset_key, retry_rates(config.limits.retries_per_source), now),
            resets: StatelessReset::new(config.reset_key, RESET_RATES, now),
            check_budget: CheckBudget::new(config.allow_loopback),
            timers: BinaryHeap::new(),
            dirty: Vec::new(),
            awaiting_room: Vec::new(),
            unread_control: Vec::new(),
            flows: FlowTable::new(),
            agent: AgentSide::default(),
            connector: ConnectorSide::new(),
            ready_listeners: BTreeSet::new(),
            user_batch: None,
            packet_buffer: Some(Vec::new()),
            built_packet: Vec::new(),
            events: Vec::new(),
            reports: FlowReports::default(),
            counters: Counters::default(),
            handshakes: 0,
            next_judgement: now + super::drive::JUDGEMENT_INTERVAL,
            refusals_told: (0, 0),
            stopping: None,
            config,
        }
    }

    /// Has a connection driven and sent from in this turn.
    pub(super) fn mark_dirty(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.must_send = true;
        }
        self.mark_received(key);
    }

    /// Has a connection driven: something came for it, and an acknowledgement may be all it has to say.
    pub(super) fn mark_received(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(key);
        }
    }

    pub(super) fn port_for(&self, remote: SocketAddr) -> Option<usize> {
        self.ports.iter().position(|port| port.local.is_ipv4() == remote.is_ipv4())
    }

    pub(super) fn warn(&mut self, what: &'static str, detail: String) {
        self.events.push(Event::Warning { what, detail });
    }

    pub(super) fn is_relay(&self) -> bool {
        self.config.role == Role::Relay
    }

    /// A relay under load needs room for bursts; the default of most systems is a twentieth of it.
    pub(super) fn warn_of_small_buffers(&mut self) {
        const ENOUGH: usize = 1 << 20;
        for index in 0..self.ports.len() {
            let Some(port) = self.ports.get(index) else { continue };
            let (local, bytes) = (port.local, port.receive_buffer_bytes);
            if bytes < ENOUGH {
                self.warn(
                    "socket receive buffer is small",
                    format!(
                        "{local} got {bytes} octets; raise net.core.rmem_max and net.core.wmem_max to 7340032"
                    ),
                );
            }
        }
    }
}

/// Reads the monotonic clock: the only place that does.
#[expect(clippy::disallowed_methods, reason = "the endpoint is where time comes in")]
pub(super) fn clock() -> Instant {
    Instant::now()
}

/// Reads the wall clock, for certificates: seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the endpoint is where time comes in")]
pub(super) fn unix_time() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_near_when_each_of_its_paths_is() {
        let pair_of = |lengths: &[bool]| {
            let channels = lengths.iter().map(|near| PairChannel {
                leg: ConnectionHandle(1),
                port: 0,
                relay: "192.0.2.1:4433".parse().unwrap(),
                send_id: WireId([1; 8]),
                receive_id: WireId([2; 8]),
                near: *near,
            });
            Pair { channels: channels.collect(), tunnels: Vec::new() }
        };

        assert!(pair_of(&[true]).is_near() && pair_of(&[true, true]).is_near());
        assert!(!pair_of(&[true, false]).is_near());
        assert!(!pair_of(&[]).is_near());
    }
}

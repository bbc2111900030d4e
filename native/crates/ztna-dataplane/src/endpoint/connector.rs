//! The connector's side of flows: header, authority, backend, answer.
//!
//! - **One answer for everything that is not available**: no grant, no such service, no such port; given
//!   before any look-up.
//! - **Authority is the owner's grant** for (this tunnel, this service); without it a header waits for at
//!   most a second, because headers may follow `open` at once.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::backend::tcp::{ConnectProgress, TcpEnd};
use crate::backend::udp::UdpEnd;
use crate::command::{BackendService, Protocol};
use crate::connection::{Connection, Kind, Tunnel};
use crate::event::FlowKind;
use crate::flow::answer::{FlowAnswer, StreamError};
use crate::flow::header::{FlowHeaderError, HEADER_BYTES_MAX};

use super::flows::{Flow, FlowTable, Local, Stage};
use super::plane::Plane;

/// A header is complete within this.
pub(super) const HEADER_WAIT: Duration = Duration::from_secs(5);
/// Headers of a service whose `open` is not judged yet wait this long.
pub(super) const HELD_WAIT: Duration = Duration::from_secs(1);
/// Headers that wait so in one tunnel.
pub(super) const HELD_MAX: usize = 256;
/// All addresses of a backend together have this long.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// What a connector provides.
pub(super) struct ConnectorSide {
    pub(super) services: HashMap<Rc<str>, BackendService>,
}

impl ConnectorSide {
    pub(super) fn new() -> Self {
        Self { services: HashMap::new() }
    }

    pub(super) fn set(&mut self, services: Vec<BackendService>) {
        self.services =
            services.into_iter().map(|service| (Rc::from(&*service.name), service)).collect();
    }
}

impl Plane {
    /// A new stream of an agent.
    pub(super) fn accept_flow(&mut self, tunnel_key: usize, stream: u64, now: Instant) {
        let process_full = self.flows.slab.len() >= self.config.limits.flows_max;
        let most = self.config.limits.flows_per_tunnel_max;
        let over_budget = self.is_over_budget(tunnel_key, now);
        let Some(connection) = self.connections.get_mut(tunnel_key) else { return };
        let Some(tunnel) = connection.tunnel_mut() else { return };

        let full = process_full || over_budget || tunnel.flows.len() >= most;
        let mut flow = Flow::new(FlowKind::Tcp, Stage::Header, Local::None, now);
        flow.tunnel = Some(tunnel_key);
        flow.up.stream = stream;
        flow.deadline = Some(now + HEADER_WAIT);
        let key = self.flows.slab.insert(flow);
        tunnel.flows.insert(stream, key);
        self.want_sweep(now);
        if full {
            self.counters.flows_refused_limit += 1;
            self.refuse_flow(key, FlowAnswer::LimitExceeded);
        } else {
            self.read_header(key, now);
        }
    }

    pub(super) fn read_header(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let Some(connection) = flow.tunnel.and_then(|it| self.connections.get_mut(it)) else {
            return;
        };
        let mut buffer = [0; HEADER_BYTES_MAX];
        let (count, finished) = match connection.quic.stream_recv(flow.up.stream, &mut buffer) {
            Ok(got) => got,
            Err(quiche::Error::Done) => return,
            Err(_) => return self.fail_flow(key, StreamError::PeerReset, now),
        };
        let mut rest = buffer.get(..count).unwrap_or_default();
        let header = match flow.header.read(&mut rest) {
            Ok(Some(header)) => header,
            Ok(None) if finished => {
                self.counters.headers_invalid += 1;
                return self.fail_flow(key, StreamError::Internal, now);
            }
            Ok(None) => return self.flows.mark(key),
            Err(FlowHeaderError::UnknownKind(_)) => {
                self.counters.headers_invalid += 1;
                return self.refuse_flow(key, FlowAnswer::KindNotSupported);
            }
            Err(FlowHeaderError::InvalidPort(_) | FlowHeaderError::InvalidService) => {
                self.counters.headers_invalid += 1;
                return self.refuse_flow(key, FlowAnswer::NotAvailable);
            }
        };
        // What came behind the header belongs to the backend.
        flow.down.begin(rest, finished);
        flow.kind = header.kind;
        flow.port = header.port;
        flow.service = Rc::from(header.service());
        flow.deadline = None;
        if header.kind != FlowKind::Tcp {
            self.admit_datagram_flow(key, now);
        }
        self.judge_flow(key, now);
    }

    /// Makes room for one more UDP or echo flow by ending the one that rested longest.
    fn admit_datagram_flow(&mut self, key: usize, now: Instant) {
        let most = self.config.limits.datagram_flows_per_tunnel_max;
        let Some(tunnel) = self.tunnel_of_flow(key) else { return };
        tunnel.datagram_flows += 1;
        if tunnel.datagram_flows > most {
            self.evict_datagram_flow(key, now);
        }
    }

    /// Ends the datagram flow of `key`'s tunnel that rested longest; returns whether there was one.
    pub(super) fn evict_datagram_flow(&mut self, key: usize, now: Instant) -> bool {
        let Some(tunnel) = self.flows.slab.get(key).and_then(|flow| flow.tunnel) else {
            return false;
        };
        let connection = self.connections.get_mut(tunnel);
        let Some(tunnel) = connection.and_then(|it| it.tunnel_mut()) else { return false };
        let flows = &self.flows.slab;
        let oldest = tunnel.resting.longest(|it| flows.get(it).map_or(now, |flow| flow.last_used));
        if let Some(oldest) = oldest {
            self.fail_flow(oldest, StreamError::Idle, now);
        }
        oldest.is_some()
    }

    /// Lets a datagram flow be the one that makes room for another. One that waits for its answer at
    /// the agent has sent, and is among them.
    pub(super) fn note_resting(&mut self, key: usize) {
        let Some(flow) = self.flows.slab.get(key).filter(|flow| flow.kind != FlowKind::Tcp) else {
            return;
        };
        let (tunnel, last_used) = (flow.tunnel, flow.last_used);
        let connection = tunnel.and_then(|it| self.connections.get_mut(it));
        if let Some(tunnel) = connection.and_then(|it| it.tunnel_mut()) {
            tunnel.resting.insert(key, last_used);
        }
    }

    fn tunnel_of_flow(&mut self, key: usize) -> Option<&mut Tunnel> {
        let tunnel = self.flows.slab.get(key)?.tunnel?;
        self.connections.get_mut(tunnel)?.tunnel_mut()
    }

    /// Answers a header, or holds it while its service's `open` is being judged.
    pub(super) fn judge_flow(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        let service = Rc::clone(&flow.service);
        let was_held = flow.stage == Stage::Held;
        let (kind, port, stream) = (flow.kind, flow.port, flow.up.stream);
        let Some(tunnel) = self.tunnel_of_flow(key) else { return };
        if !tunnel.is_granted(&service) {
            if was_held {
                return;
            }
            if tunnel.held.len() >= HELD_MAX {
                return self.refuse_flow(key, FlowAnswer::NotAvailable);
            }
            tunnel.held.insert(stream, key);
            if let Some(flow) = self.flows.slab.get_mut(key) {
                flow.stage = Stage::Held;
                flow.deadline = Some(now + HELD_WAIT);
            }
            return;
        }
        tunnel.held.remove(&stream);

        match self.connect_backend(key, &service, kind, port, now) {
            Ok(()) => {}
            Err(answer) => self.refuse_flow(key, answer),
        }
    }

    fn connect_backend(
        &mut self,
        key: usize,
        service: &str,
        kind: FlowKind,
        port: u16,
        now: Instant,
    ) -> Result<(), FlowAnswer> {
        let service = self.connector.services.get(service).ok_or(FlowAnswer::NotAvailable)?;
        let flow = self.flows.slab.get_mut(key).ok_or(FlowAnswer::NotAvailable)?;
        flow.idle = service.idle;
        flow.deadline = None;
        let protocol = match kind {
            FlowKind::Tcp => Protocol::Tcp,
            FlowKind::Udp => Protocol::Udp,
            FlowKind::Echo => {
                if !service.healthy {
                    return Err(FlowAnswer::Unreachable);
                }
                flow.local = Local::Echo;
                self.answer_connected(key, now);
                return Ok(());
            }
        };
        let backend = service
            .ports
            .iter()
            .find(|it| it.port.protocol == protocol && it.port.port == port)
            .ok_or(FlowAnswer::NotAvailable)?;
        let token = FlowTable::token(key);
        let registry = self.poll.registry();
        if protocol == Protocol::Udp {
            flow.local = Local::Udp(UdpEnd::connect(&backend.addresses, registry, token)?);
            self.answer_connected(key, now);
        } else {
            flow.stage = Stage::Connecting;
            flow.deadline = Some(now + CONNECT_WAIT);
            let (tcp, progress) = TcpEnd::connect(&backend.addresses, registry, token, now);
            flow.local = Local::Tcp(tcp);
            if let ConnectProgress::Failed(answer) = progress {
                return Err(answer);
            }
            self.want_sweep(now);
        }
        Ok(())
    }

    /// Looks whether a backend took the connection.
    pub(super) fn check_connecting(&mut self, key: usize, now: Instant) {
        let registry = self.poll.registry();
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let Local::Tcp(tcp) = &mut flow.local else { return };
        match tcp.handle_ready(registry, now) {
            ConnectProgress::Pending => {}
            ConnectProgress::Connected => self.answer_connected(key, now),
            ConnectProgress::Failed(answer) => self.refuse_flow(key, answer),
        }
    }

    /// Gives up a backend's address that does not answer.
    pub(super) fn try_next_address(&mut self, key: usize, now: Instant) {
        let registry = self.poll.registry();
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let Local::Tcp(tcp) = &mut flow.local else { return };
        match tcp.handle_timeout(registry, now) {
            ConnectProgress::Pending => {}
            ConnectProgress::Connected => self.answer_connected(key, now),
            ConnectProgress::Failed(answer) => self.refuse_flow(key, answer),
        }
    }

    fn answer_connected(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        flow.stage = Stage::Open;
        flow.deadline = None;
        flow.last_used = now;
        flow.up.preface = vec![FlowAnswer::Connected.octet()];
        let (stream, tunnel) = (flow.up.stream, flow.tunnel);
        self.flows.mark(key);
        self.note_resting(key);
        self.report_opened(key);
        if let Some(tunnel) = tunnel {
            self.deliver_early(tunnel, stream, now);
        }
    }

    /// Answers a flow's header with a refusal and forgets it.
    pub(super) fn refuse_flow(&mut self, key: usize, answer: FlowAnswer) {
        self.report_refused(key, answer);
        let Some(flow) = self.flows.slab.get(key) else { return };
        let (stream, tunnel) = (flow.up.stream, flow.tunnel);
        let connection = tunnel.and_then(|it| self.connections.get_mut(it));
        if let Some(Connection { quic, kind: Kind::Tunnel(tunnel), .. }) = connection {
            // No room for one octet: the code of the reset says the same.
            let error = StreamError::from_code(u64::from(answer.octet()));
            let is_told = quic.stream_send(stream, &[answer.octet()], true) == Ok(1);
            tunnel.ending.end(quic, stream, is_told, error);
        }
        if let Some(tunnel) = tunnel {
            self.mark_dirty(tunnel);
        }
        self.close_flow(key, None);
    }

    /// Judges the headers that waited for this grant.
    pub(super) fn release_held(&mut self, tunnel: usize, now: Instant) {
        let keys: Vec<usize> = self
            .connections
            .get(tunnel)
            .and_then(|connection| connection.tunnel())
            .map(|it| it.held.values().copied().collect())
            .unwrap_or_default();
        for key in keys {
            self.judge_flow(key, now);
        }
    }
}

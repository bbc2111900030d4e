//! The flows of this process and what each has at its local end.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::backend::tcp::TcpEnd;
use crate::backend::udp::UdpEnd;
use crate::buffer_count::MeterGuard;
use crate::config::Role;
use crate::event::{Event, FlowChange, FlowKind, FlowReport, ServiceSnapshot};
use crate::flow::answer::{FlowAnswer, StreamError};
use crate::flow::header::FlowHeaderReader;
use crate::id::ConnectionHandle;
use crate::socks::{SocksHandshake, SocksTarget};
use crate::termination::TerminatedFlow;

use super::local::Client;
use super::plane::{FLOW_BASE, Plane};
use super::pump::{Down, Pumped, Up, pump};

/// How often flows are looked over for deadlines and idleness.
pub(super) const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// A UDP flow that saw one packet each way, such as a DNS query, ends after this.
const SHORT_IDLE: Duration = Duration::from_secs(5);

/// How far a flow has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Agent: a SOCKS client has not said yet where it wants to go.
    Greeting,
    /// Agent: no tunnel serves its service yet.
    Waiting,
    /// Connector: its header is not complete yet.
    Header,
    /// Connector: its service is not granted yet.
    Held,
    /// Agent: the connector has not answered yet.
    Opening,
    /// Connector: the backend has not answered yet.
    Connecting,
    /// Agent: a SOCKS client keeps this association's listener.
    Associated(usize),
    /// Octets move.
    Open,
}

/// What a flow has at this end.
pub(super) enum Local {
    /// Nothing (yet).
    None,
    /// A socket: to a backend, or from a local listener.
    Tcp(TcpEnd),
    /// A connection that came in packets of a link.
    Terminated(usize, TerminatedFlow),
    /// Connector: a connected socket to the backend.
    Udp(UdpEnd),
    /// Agent: one client of a local UDP listener.
    Forward { listener: usize, client: Client },
    /// Agent: one destination of a SOCKS association.
    Socks { association: usize, client: Client, target: SocksTarget<'static> },
    /// Agent: UDP in packets.
    Packets { link: usize, source: SocketAddr, destination: SocketAddr },
    /// Agent: ICMP echo in packets.
    PacketsEcho { link: usize, source: SocketAddr, destination: SocketAddr, identifier: u16 },
    /// Agent: a series of `Command::Ping`.
    Ping { series: usize },
    /// Connector: answered here.
    Echo,
}

/// What tells the datagram flows of an agent apart.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum DatagramKey {
    /// Of one client of a local listener.
    Forward { listener: usize, client: Client },
    /// Of one destination of a SOCKS association.
    Socks { association: usize, client: Client, target: SocksTarget<'static> },
    /// Of one pair of addresses in packets.
    Packets { link: usize, source: SocketAddr, destination: SocketAddr },
    /// Of one ICMP echo identifier in packets.
    Echo { link: usize, source: SocketAddr, destination: SocketAddr, identifier: u16 },
    /// Of one series.
    Ping { series: usize },
}

/// One flow at this end.
pub(super) struct Flow {
    /// The tunnel's slot; none while the agent waits for one.
    pub(super) tunnel: Option<usize>,
    pub(super) kind: FlowKind,
    pub(super) service: Rc<str>,
    pub(super) port: u16,
    pub(super) stage: Stage,
    pub(super) local: Local,
    pub(super) up: Up,
    pub(super) down: Down,
    /// When this stage is given up.
    pub(super) deadline: Option<Instant>,
    /// Of a datagram flow: when anything moved last, and for how long it may rest.
    pub(super) last_used: Instant,
    pub(super) idle: Duration,
    /// Datagrams each way.
    pub(super) datagrams: (u32, u32),
    /// Connector: of a header that is not complete yet.
    pub(super) header: FlowHeaderReader,
    /// Agent: of a SOCKS client that has not said where it wants to go.
    pub(super) greeting: Option<Box<SocksHandshake>>,
    /// Agent: answer in the words of SOCKS.
    pub(super) socks: bool,
    /// Agent: what a SOCKS client sent behind its request.
    pub(super) eager: Vec<u8>,
    /// Agent: how a datagram finds this flow.
    pub(super) key: Option<DatagramKey>,
    /// Agent: datagrams that wait for a tunnel.
    pub(super) held: Vec<Vec<u8>>,
    pub(super) dirty: bool,
}

impl Flow {
    pub(super) fn new(kind: FlowKind, stage: Stage, local: Local, now: Instant) -> Self {
        Self {
            tunnel: None,
            kind,
            service: Rc::from(""),
            port: 0,
            stage,
            local,
            up: Up::default(),
            down: Down::default(),
            deadline: None,
            last_used: now,
            idle: Duration::from_secs(60),
            datagrams: (0, 0),
            header: FlowHeaderReader::new(),
            greeting: None,
            socks: false,
            eager: Vec::new(),
            key: None,
            held: Vec::new(),
            dirty: false,
        }
    }
}

/// Totals of one service.
#[derive(Clone, Copy, Debug, Default)]
struct ServiceTotals {
    bytes_up: u64,
    bytes_down: u64,
    opened: u64,
    refused: u64,
}

/// All flows.
pub(super) struct FlowTable {
    pub(super) slab: Slab<Flow>,
    dirty: VecDeque<usize>,
    scratch: Vec<u8>,
    totals: HashMap<Rc<str>, ServiceTotals>,
    pub(super) next_sweep: Option<Instant>,
}

impl FlowTable {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            dirty: VecDeque::new(),
            scratch: vec![0; 65_536],
            totals: HashMap::new(),
            next_sweep: None,
        }
    }

    pub(super) fn mark(&mut self, key: usize) {
        if let Some(flow) = self.slab.get_mut(key)
            && !flow.dirty
        {
            flow.dirty = true;
            self.dirty.push_back(key);
        }
    }

    pub(super) fn token(key: usize) -> mio::Token {
        mio::Token(FLOW_BASE + key)
    }

    fn totals_of(&mut self, service: &Rc<str>) -> &mut ServiceTotals {
        self.totals.entry(Rc::clone(service)).or_default()
    }

    /// Figures by service, sorted by name.
    pub(super) fn services(&self, at_connector: bool) -> Vec<ServiceSnapshot> {
        let mut under_way: HashMap<&str, (u32, u64, u64)> = HashMap::new();
        for (_, flow) in &self.slab {
            let entry = under_way.entry(&flow.service).or_default();
            entry.0 += 1;
            let (up, down) = flow.directions(at_connector);
            entry.1 += up;
            entry.2 += down;
        }
        let mut services: Vec<_> = self
            .totals
            .clone()
            .into_iter()
            .map(|(name, totals)| {
                let (flows, up, down) = under_way.get(&*name).copied().unwrap_or_default();
                ServiceSnapshot {
                    service: name.to_string(),
                    bytes_up: totals.bytes_up + up,
                    bytes_down: totals.bytes_down + down,
                    flows_opened: totals.opened,
                    flows_refused: totals.refused,
                    flows,
                }
            })
            .collect();
        services.sort_by(|a, b| a.service.cmp(&b.service));
        services
    }
}

impl Flow {
    /// Octets from agent to connector and back, as far as this end moved them.
    const fn directions(&self, at_connector: bool) -> (u64, u64) {
        if at_connector {
            (self.down.bytes, self.up.bytes)
        } else {
            (self.up.bytes, self.down.bytes)
        }
    }
}

impl Plane {
    /// Gives every flow that has something to do its turn; returns whether any wants another at once.
    pub(super) fn pump_flows(&mut self, now: Instant) -> bool {
        let turns = self.flows.dirty.len();
        for _ in 0..turns {
            let Some(key) = self.flows.dirty.pop_front() else { break };
            self.pump_flow(key, now);
        }
        !self.flows.dirty.is_empty()
    }

    fn pump_flow(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        flow.dirty = false;
        match flow.stage {
            Stage::Open => {}
            Stage::Header => return self.read_header(key, now),
            Stage::Connecting => return self.check_connecting(key, now),
            Stage::Opening => return self.read_answer(key, now),
            Stage::Greeting => return self.read_greeting(key, now),
            Stage::Associated(listener) => return self.watch_association(key, listener),
            Stage::Waiting | Stage::Held => return,
        }
        let Some(tunnel) = flow.tunnel else { return };
        let Some(connection) = self.connections.get_mut(tunnel) else { return };
        if flow.kind != FlowKind::Tcp {
            self.pump_datagram_flow(key, now);
            return;
        }

        let guard = MeterGuard::enter(&connection.meter);
        let scratch = &mut self.flows.scratch;
        let outcome = pump(flow, &mut connection.quic, &mut self.agent.links, scratch, now);
        drop(guard);
        if flow.up.starved {
            flow.up.starved = false;
            if let Some(tunnel) = connection.tunnel_mut()
                && !tunnel.starved.contains(&key)
            {
                tunnel.starved.push_back(key);
            }
        }
        self.mark_dirty(tunnel);
        match outcome {
            Pumped::Idle => {}
            Pumped::Again => self.flows.mark(key),
            Pumped::Finished => self.close_flow(key, None),
            Pumped::Failed(error) => self.fail_flow(key, error, now),
        }
    }

    /// Wakes the flows whose streams have data, or room again.
    pub(super) fn note_readable_flows(&mut self, key: usize, now: Instant) {
        /// Flows that may try again in one turn: capacity is rarely enough for more.
        const WOKEN_A_TURN: usize = 64;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !matches!(connection.stage, crate::connection::Stage::Admitted) {
            return;
        }
        let readable: Vec<u64> = connection.quic.readable().collect();
        let accepted = connection.accepted;
        let Some(tunnel) = connection.tunnel_mut() else { return };
        for _ in 0..WOKEN_A_TURN.min(tunnel.starved.len()) {
            if let Some(flow) = tunnel.starved.pop_front() {
                self.flows.mark(flow);
            }
        }
        let mut unknown = Vec::new();
        for stream in readable {
            if stream == crate::connection::CONTROL_STREAM {
                continue;
            }
            match tunnel.flows.get(&stream) {
                Some(flow) => self.flows.mark(*flow),
                None => unknown.push(stream),
            }
        }
        for stream in unknown {
            if accepted {
                self.accept_flow(key, stream, now);
            } else {
                // Its flow ended here: what still comes only returns its credit.
                self.discard_stream(key, stream);
            }
        }
    }

    pub(super) fn discard_stream(&mut self, key: usize, stream: u64) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let code = StreamError::PeerReset.code();
        // Done or gone: nothing is left to discard.
        let _ = connection.quic.stream_shutdown(stream, quiche::Shutdown::Read, code);
    }

    /// Ends a flow at both ends with an error.
    pub(super) fn fail_flow(&mut self, key: usize, error: StreamError, now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let (tunnel, stream) = (flow.tunnel, flow.up.stream);
        if let Some(connection) = tunnel.and_then(|tunnel| self.connections.get_mut(tunnel)) {
            // Done: that direction ended before.
            let _ = connection.quic.stream_shutdown(stream, quiche::Shutdown::Read, error.code());
            let _ = connection.quic.stream_shutdown(stream, quiche::Shutdown::Write, error.code());
        }
        self.reset_local(key, now);
        self.close_flow(key, Some(error.code()));
        if let Some(tunnel) = tunnel {
            self.mark_dirty(tunnel);
        }
    }

    fn reset_local(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        match std::mem::replace(&mut flow.local, Local::None) {
            Local::Tcp(tcp) => tcp.reset(),
            Local::Terminated(link, id) => self.reset_terminated(link, id, now),
            Local::None
            | Local::Udp(_)
            | Local::Forward { .. }
            | Local::Socks { .. }
            | Local::Packets { .. }
            | Local::PacketsEcho { .. }
            | Local::Ping { .. }
            | Local::Echo => {}
        }
    }

    /// Forgets a flow whose ends were told, and reports it.
    pub(super) fn close_flow(&mut self, key: usize, code: Option<u64>) {
        let Some(flow) = self.flows.slab.try_remove(key) else { return };
        if let Some(datagram_key) = &flow.key {
            self.agent.by_key.remove(datagram_key);
        }
        if let Local::Terminated(link, id) = &flow.local
            && let Some(link) = self.agent.links.get_mut(*link)
        {
            link.by_terminated.remove(id);
        }
        let at_connector = self.config.role == Role::Connector;
        let (bytes_up, bytes_down) = flow.directions(at_connector);
        let totals = self.flows.totals_of(&flow.service);
        totals.bytes_up += bytes_up;
        totals.bytes_down += bytes_down;

        let tunnel = flow.tunnel.and_then(|tunnel| self.connections.get_mut(tunnel));
        let Some(connection) = tunnel else { return };
        let handle = connection.handle;
        if let Some(tunnel) = connection.tunnel_mut()
            && tunnel.flows.remove(&flow.up.stream).is_some()
            && flow.kind != FlowKind::Tcp
        {
            tunnel.datagram_flows -= 1;
        }
        if matches!(flow.stage, Stage::Open) {
            let report = report_of(handle, &flow, FlowChange::Closed(code), at_connector);
            self.events.push(Event::Flow(report));
        }
    }

    pub(super) fn report_opened(&mut self, key: usize) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        let service = Rc::clone(&flow.service);
        self.flows.totals_of(&service).opened += 1;
        self.report_change(key, FlowChange::Opened);
    }

    pub(super) fn report_refused(&mut self, key: usize, answer: FlowAnswer) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        let service = Rc::clone(&flow.service);
        self.flows.totals_of(&service).refused += 1;
        self.report_change(key, FlowChange::Refused(answer.octet()));
    }

    fn report_change(&mut self, key: usize, change: FlowChange) {
        let at_connector = self.config.role == Role::Connector;
        let Some(flow) = self.flows.slab.get(key) else { return };
        let handle = flow
            .tunnel
            .and_then(|key| self.connections.get(key))
            .map(|connection| connection.handle);
        if let Some(handle) = handle {
            let report = report_of(handle, flow, change, at_connector);
            self.events.push(Event::Flow(report));
        }
    }

    /// Ends every flow of a tunnel that is gone.
    pub(super) fn end_flows(&mut self, flows: impl Iterator<Item = usize>, now: Instant) {
        for key in flows {
            self.reset_local(key, now);
            self.close_flow(key, Some(StreamError::Internal.code()));
        }
    }

    /// Cuts the flows of one service in one tunnel.
    pub(super) fn cut_service(&mut self, tunnel: usize, service: &str, code: u64, now: Instant) {
        let keys: Vec<usize> = self
            .connections
            .get(tunnel)
            .and_then(|connection| connection.tunnel())
            .map(|it| it.flows.values().copied().collect())
            .unwrap_or_default();
        for key in keys {
            if self.flows.slab.get(key).is_some_and(|flow| &*flow.service == service) {
                self.fail_flow(key, StreamError::from_code(code), now);
            }
        }
    }

    pub(super) fn flow_timeout(&self) -> Option<Instant> {
        self.flows.next_sweep
    }

    /// Looks flows over for deadlines and idleness, while there are any that can have them.
    pub(super) fn serve_flow_timers(&mut self, now: Instant) {
        if self.flows.next_sweep.is_some_and(|at| at > now) {
            return;
        }
        let mut overdue = Vec::new();
        let mut any = false;
        for (key, flow) in &self.flows.slab {
            let is_datagram = flow.kind != FlowKind::Tcp;
            any |= flow.deadline.is_some() || is_datagram;
            let idle = if flow.datagrams == (1, 1) { flow.idle.min(SHORT_IDLE) } else { flow.idle };
            if flow.deadline.is_some_and(|at| at <= now)
                || (is_datagram && flow.stage == Stage::Open && now >= flow.last_used + idle)
            {
                overdue.push(key);
            }
        }
        self.flows.next_sweep = any.then(|| now + SWEEP_INTERVAL);
        for key in overdue {
            self.flow_overdue(key, now);
        }
    }

    fn flow_overdue(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        match flow.stage {
            Stage::Open => self.fail_flow(key, StreamError::Idle, now),
            Stage::Connecting => self.refuse_flow(key, FlowAnswer::TimedOut),
            Stage::Held => self.refuse_flow(key, FlowAnswer::NotAvailable),
            Stage::Header => {
                self.counters.headers_invalid += 1;
                self.fail_flow(key, StreamError::Internal, now);
            }
            Stage::Waiting | Stage::Opening | Stage::Greeting => {
                self.refuse_local(key, FlowAnswer::TimedOut, now);
            }
            Stage::Associated(_) => {}
        }
    }

    /// Sees to it that the sweep runs while a flow with a deadline exists.
    pub(super) fn want_sweep(&mut self, now: Instant) {
        self.flows.next_sweep.get_or_insert(now + SWEEP_INTERVAL);
    }
}

fn report_of(
    tunnel: ConnectionHandle,
    flow: &Flow,
    change: FlowChange,
    at_connector: bool,
) -> FlowReport {
    let (bytes_up, bytes_down) = flow.directions(at_connector);
    FlowReport {
        tunnel,
        service: flow.service.to_string(),
        kind: flow.kind,
        port: flow.port,
        change,
        bytes_up,
        bytes_down,
    }
}

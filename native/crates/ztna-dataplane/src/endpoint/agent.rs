//! The agent's side of flows: which tunnel serves a service, who waits for one, what was answered.
//!
//! - **A flow waits, its application too**: a SYN is held, a socket is not read, the first datagrams are
//!   kept within bounds, until a tunnel is granted or the service is refused.
//! - **Only what a service offers is asked for**: any other port is refused here.

use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::command::{AgentService, LocalListener, Protocol};
use crate::connection::{Connection, FLOW_URGENCY, Kind};
use crate::event::{Event, FlowKind};
use crate::flow::answer::FlowAnswer;
use crate::flow::header::FlowHeader;
use crate::socks::{SocksReply, UNSPECIFIED, write_reply};

use super::flows::{DatagramKey, Flow, Local, Stage};
use super::local::Listener;
use super::opening::{refusal_by_code, send_preface};
use super::packets::Link;
use super::ping::PingSeries;
use super::plane::Plane;

/// How long a flow waits for a tunnel. A SYN is held as long (`docs/protocol.md`, limits).
const WAITING_MAX: Duration = Duration::from_secs(10);
/// How long a connector may take to answer: its backends have 10 s, the way there and back some more.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// Flows that wait for one service.
const WAITING_FLOWS_MAX: usize = 1_024;
/// Datagrams that a waiting flow keeps, and their octets.
const HELD_DATAGRAMS_MAX: usize = 64;
const HELD_BYTES_MAX: usize = 64 << 10;
/// A service that is waited for is asked for again this often, should the owner have lost the request.
const WANTED_INTERVAL: Duration = Duration::from_secs(1);

/// The connector knows how long a service's datagram flows may rest, and ends them; this is for one
/// that does not.
const IDLE_BACKSTOP: Duration = Duration::from_secs(3_600);

/// What an agent has.
#[derive(Default)]
pub(super) struct AgentSide {
    pub(super) services: HashMap<Rc<str>, AgentService>,
    pub(super) by_address: HashMap<IpAddr, Rc<str>>,
    /// The tunnel that serves a service.
    tunnels: HashMap<Rc<str>, usize>,
    waiting: HashMap<Rc<str>, Waiting>,
    pub(super) by_key: HashMap<DatagramKey, usize>,
    pub(super) listeners: Slab<Listener>,
    pub(super) links: Vec<Link>,
    pub(super) pings: Slab<PingSeries>,
}

struct Waiting {
    flows: Vec<usize>,
    asked: Instant,
}

impl Plane {
    pub(super) fn set_services(
        &mut self,
        services: Vec<AgentService>,
        listeners: Vec<LocalListener>,
    ) {
        self.agent.by_address.clear();
        let mut by_name = HashMap::new();
        for service in services {
            let name: Rc<str> = Rc::from(&*service.name);
            let addresses =
                [service.ipv4.map(IpAddr::V4), service.ipv6.map(IpAddr::V6)].into_iter().flatten();
            for address in addresses {
                self.agent.by_address.insert(address, Rc::clone(&name));
            }
            by_name.insert(name, service);
        }
        self.agent.services = by_name;
        self.sync_listeners(listeners);
    }

    /// Returns whether a service offers a port; echo needs none.
    pub(super) fn offers(&self, service: &str, kind: FlowKind, port: u16) -> bool {
        let protocol = match kind {
            FlowKind::Tcp => Protocol::Tcp,
            FlowKind::Udp => Protocol::Udp,
            FlowKind::Echo => return self.agent.services.contains_key(service),
        };
        self.agent.services.get(service).is_some_and(|service| {
            service.ports.iter().any(|it| it.protocol == protocol && it.port == port)
        })
    }

    /// Sends a flow on its way: into its service's tunnel, or to those who wait for one.
    pub(super) fn start_flow(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        let service = Rc::clone(&flow.service);
        let tunnel = self.agent.tunnels.get(&service).copied();
        if let Some(tunnel) = tunnel.filter(|tunnel| self.carries_users(*tunnel)) {
            return self.open_flow(key, tunnel, now);
        }
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        flow.stage = Stage::Waiting;
        flow.deadline = Some(now + WAITING_MAX);
        self.want_sweep(now);

        let waiting = self.agent.waiting.entry(Rc::clone(&service)).or_insert_with(|| {
            // With a tunnel it waits for a path that policy allows: nobody need be asked.
            if tunnel.is_none() {
                self.events.push(Event::Wanted { service: service.to_string() });
            }
            Waiting { flows: Vec::new(), asked: now }
        });
        if tunnel.is_none() && now >= waiting.asked + WANTED_INTERVAL {
            waiting.asked = now;
            self.events.push(Event::Wanted { service: service.to_string() });
        }
        if waiting.flows.len() >= WAITING_FLOWS_MAX {
            self.counters.flows_refused_limit += 1;
            return self.refuse_local(key, FlowAnswer::LimitExceeded, now);
        }
        waiting.flows.push(key);
    }

    /// Opens the flows that waited for this grant.
    pub(super) fn serve_waiting(&mut self, tunnel: usize, service: &str, now: Instant) {
        self.agent.tunnels.insert(Rc::from(service), tunnel);
        if !self.carries_users(tunnel) {
            return;
        }
        let Some(waiting) = self.agent.waiting.remove(service) else { return };
        for key in waiting.flows {
            if self.is_waiting(key, service) {
                self.open_flow(key, tunnel, now);
            }
        }
    }

    /// Opens what waited for a path of this tunnel that policy allows.
    pub(super) fn serve_waiting_of(&mut self, tunnel: usize, now: Instant) {
        if self.agent.waiting.is_empty() || !self.carries_users(tunnel) {
            return;
        }
        let granted = self.connections.get(tunnel).and_then(|it| it.tunnel());
        let services = granted.map(|it| it.grants.clone()).unwrap_or_default();
        for service in services {
            if self.agent.tunnels.get(&service) == Some(&tunnel) {
                self.serve_waiting(tunnel, &service, now);
            }
        }
    }

    /// Returns whether policy lets the flows of a tunnel use the path it has.
    fn carries_users(&self, tunnel: usize) -> bool {
        let tunnel = self.connections.get(tunnel).and_then(|it| it.tunnel());
        tunnel.is_some_and(|it| it.paths.carries_users())
    }

    /// A flow that waited is gone.
    pub(super) fn forget_waiting(&mut self, key: usize, service: &str) {
        if let Some(waiting) = self.agent.waiting.get_mut(service) {
            waiting.flows.retain(|it| *it != key);
            if waiting.flows.is_empty() {
                self.agent.waiting.remove(service);
            }
        }
    }

    pub(super) fn refuse_service(&mut self, service: &str, answer: u8, now: Instant) {
        let answer = FlowAnswer::from_octet(answer).unwrap_or(FlowAnswer::NotAvailable);
        let Some(waiting) = self.agent.waiting.remove(service) else { return };
        for key in waiting.flows {
            if self.is_waiting(key, service) {
                self.refuse_local(key, answer, now);
            }
        }
    }

    fn is_waiting(&self, key: usize, service: &str) -> bool {
        self.flows
            .slab
            .get(key)
            .is_some_and(|flow| flow.stage == Stage::Waiting && &*flow.service == service)
    }

    /// The tunnel serves this service no longer.
    pub(super) fn forget_grant(&mut self, tunnel: usize, service: &str) {
        if self.agent.tunnels.get(service) == Some(&tunnel) {
            self.agent.tunnels.remove(service);
        }
    }

    /// The tunnel is gone.
    pub(super) fn forget_tunnel(&mut self, tunnel: usize) {
        self.agent.tunnels.retain(|_, key| *key != tunnel);
    }

    fn open_flow(&mut self, key: usize, tunnel_key: usize, now: Instant) {
        let limits = &self.config.limits;
        let (flows_max, datagram_flows_max) =
            (limits.flows_per_tunnel_max, limits.datagram_flows_per_tunnel_max);
        let over_budget = self.is_over_budget(tunnel_key, now);
        if !self.has_room(key, tunnel_key, datagram_flows_max, now) {
            self.counters.flows_refused_limit += 1;
            return self.refuse_local(key, FlowAnswer::LimitExceeded, now);
        }
        let Some(Connection { quic, kind: Kind::Tunnel(tunnel), .. }) =
            self.connections.get_mut(tunnel_key)
        else {
            return self.refuse_local(key, FlowAnswer::Unreachable, now);
        };
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let is_datagram = flow.kind != FlowKind::Tcp;
        if quic.peer_streams_left_bidi() == 0
            || over_budget
            || tunnel.flows.len() + tunnel.ending.len() >= flows_max
        {
            self.counters.flows_refused_limit += 1;
            return self.refuse_local(key, FlowAnswer::LimitExceeded, now);
        }
        let Ok(header) = FlowHeader::new(flow.kind, flow.port, &flow.service) else {
            return self.refuse_local(key, FlowAnswer::NotAvailable, now);
        };

        let stream = tunnel.next_stream;
        tunnel.next_stream += 4;
        // From here on it exists: if it ends before its header is sent, the connector hears that.
        let _ = quic.stream_priority(stream, FLOW_URGENCY, true);
        tunnel.flows.insert(stream, key);
        tunnel.datagram_flows += usize::from(is_datagram);
        flow.tunnel = Some(tunnel_key);
        flow.stage = Stage::Opening;
        flow.deadline = Some(now + ANSWER_WAIT);
        flow.up.stream = stream;
        header.write(&mut flow.up.preface);
        flow.up.preface.append(&mut flow.eager);
        let held = std::mem::take(&mut flow.held);
        self.note_resting(key);
        self.want_sweep(now);
        self.flows.mark(key);
        self.mark_dirty(tunnel_key);
        for octets in held {
            self.send_packet(key, &octets, now);
        }
    }

    /// Makes room for a datagram flow where it is needed: the longest idle one gives way.
    fn has_room(&mut self, key: usize, tunnel: usize, most: usize, now: Instant) -> bool {
        let Some(flow) = self.flows.slab.get_mut(key) else { return false };
        if flow.kind == FlowKind::Tcp {
            return true;
        }
        let tunnel_of = self.connections.get(tunnel).and_then(|it| it.tunnel());
        if tunnel_of.is_none_or(|it| it.datagram_flows < most) {
            return true;
        }
        flow.tunnel = Some(tunnel);
        let evicted = self.evict_datagram_flow(key, now);
        if let Some(flow) = self.flows.slab.get_mut(key) {
            flow.tunnel = None;
        }
        evicted
    }

    /// Sends a datagram of a flow, or keeps it while the flow waits.
    pub(super) fn send_or_hold(&mut self, key: usize, octets: &[u8], now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        if flow.tunnel.is_some() {
            return self.send_packet(key, octets, now);
        }
        let bytes: usize = flow.held.iter().map(Vec::len).sum();
        if flow.held.len() >= HELD_DATAGRAMS_MAX || bytes + octets.len() > HELD_BYTES_MAX {
            self.counters.datagrams_dropped_early += 1;
            return;
        }
        flow.held.push(octets.to_vec());
    }

    /// Reads the connector's answer to a flow's header.
    pub(super) fn read_answer(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        let Some(tunnel_key) = flow.tunnel else { return };
        if !flow.up.preface.is_empty() {
            self.mark_dirty(tunnel_key);
        }
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let Some(connection) = self.connections.get_mut(tunnel_key) else { return };
        let stream = flow.up.stream;
        // A connector that refuses stops this direction and answers in the other.
        let stopped = send_preface(&mut flow.up, &mut connection.quic).err();
        if let Some(tunnel) = connection.tunnel_mut() {
            flow.queue_if_starved(key, tunnel);
        }
        let mut octet = [0];
        let answer = match connection.quic.stream_recv(stream, &mut octet) {
            Ok((1, finished)) => {
                flow.down.begin(&[], finished);
                FlowAnswer::from_octet(octet[0])
            }
            // A stream that is not in quiche yet has nothing to say either.
            Ok((_, false)) | Err(quiche::Error::Done | quiche::Error::InvalidStreamState(_)) => {
                let Some(error) = stopped else { return };
                refusal_by_code(error.code())
            }
            Err(quiche::Error::StreamReset(code)) => refusal_by_code(code),
            Ok((_, true)) | Err(_) => None,
        };
        match answer {
            Some(FlowAnswer::Connected) => self.open_local(key, now),
            refused => self.refuse_local(key, refused.unwrap_or(FlowAnswer::NotAvailable), now),
        }
        self.mark_dirty(tunnel_key);
    }

    /// Lets the application's connection through.
    fn open_local(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        flow.stage = Stage::Open;
        flow.deadline = None;
        let (stream, tunnel) = (flow.up.stream, flow.tunnel);
        match &mut flow.local {
            Local::Terminated(link, id) => {
                if let Some(link) = self.agent.links.get_mut(*link) {
                    link.termination.accept(*id, now);
                }
            }
            Local::Tcp(tcp) if flow.socks => {
                let mut reply = Vec::new();
                write_reply(SocksReply::Succeeded, UNSPECIFIED, &mut reply);
                let _ = tcp.write(&reply);
            }
            Local::Tcp(_)
            | Local::None
            | Local::Udp(_)
            | Local::Forward { .. }
            | Local::Socks { .. }
            | Local::Packets { .. }
            | Local::PacketsEcho { .. }
            | Local::Ping { .. }
            | Local::Echo => {}
        }
        self.flows.mark(key);
        self.report_opened(key);
        if let Some(tunnel) = tunnel {
            self.deliver_early(tunnel, stream, now);
        }
    }

    /// Returns the flow that a datagram belongs to, made if there is none.
    pub(super) fn datagram_flow(
        &mut self,
        datagram_key: DatagramKey,
        kind: FlowKind,
        service: &Rc<str>,
        port: u16,
        local: Local,
        now: Instant,
    ) -> Option<usize> {
        if let Some(key) = self.agent.by_key.get(&datagram_key) {
            return Some(*key);
        }
        if self.flows.slab.len() >= self.config.limits.flows_max {
            self.counters.flows_refused_limit += 1;
            return None;
        }
        let mut flow = Flow::new(kind, Stage::Waiting, local, now);
        flow.idle = IDLE_BACKSTOP;
        flow.service = Rc::clone(service);
        flow.port = port;
        flow.key = Some(datagram_key.clone());
        let key = self.flows.slab.insert(flow);
        self.agent.by_key.insert(datagram_key, key);
        self.start_flow(key, now);
        self.flows.slab.contains(key).then_some(key)
    }
}

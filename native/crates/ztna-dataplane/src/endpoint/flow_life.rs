//! How flows move on and end: their turns, their reports, their deadlines.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::buffer_count::MeterGuard;
use crate::config::Role;
use crate::connection::{self, Connection, Kind};
use crate::event::{FlowChange, FlowKind};
use crate::flow::answer::{FlowAnswer, StreamError};
use crate::id::ConnectionHandle;

use super::ending_streams::discard;
use super::flow_reports::Subject;
use super::flows::{Flow, Local, Stage};
use super::plane::Plane;
use super::pump::{Pumped, pump};

/// How often flows are looked over for deadlines and idleness.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// A UDP flow that saw one packet each way, such as a DNS query, ends after this.
const SHORT_IDLE: Duration = Duration::from_secs(5);

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
            Stage::Lingering => return self.drain_client(key),
            Stage::Header => return self.read_header(key, now),
            Stage::Connecting => return self.check_connecting(key, now),
            Stage::Opening => {
                self.read_answer(key, now);
                return self.pump_opening(key, now);
            }
            Stage::Greeting => return self.read_greeting(key, now),
            Stage::Associated(listener) => return self.watch_association(key, listener),
            Stage::Waiting | Stage::Held => return,
        }
        let Some(tunnel) = flow.tunnel else { return };
        if self.waits_for_path(key, tunnel) {
            return;
        }
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let Some(connection) = self.connections.get_mut(tunnel) else { return };
        if flow.kind != FlowKind::Tcp {
            self.pump_datagram_flow(key, now);
            return;
        }

        let guard = MeterGuard::enter(&connection.meter);
        let scratch = &mut self.flows.scratch;
        let before = (flow.up.bytes, flow.down.bytes);
        let had_fin = flow.up.finished;
        let had_preface = !flow.up.preface.is_empty();
        let outcome = pump(flow, &mut connection.quic, &mut self.agent.links, scratch, now);
        drop(guard);
        if let Some(tunnel) = connection.tunnel_mut() {
            flow.queue_if_starved(key, tunnel);
            if (flow.up.bytes, flow.down.bytes) != before {
                tunnel.paths.on_user_data(now);
            }
        }
        let sends = flow.up.bytes != before.0 || flow.up.finished != had_fin;
        if sends || had_preface || !matches!(outcome, Pumped::Idle) {
            self.mark_dirty(tunnel);
        } else {
            self.mark_received(tunnel);
        }
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
        let Connection { quic, kind: Kind::Tunnel(tunnel), accepted, stage, .. } = connection
        else {
            return;
        };
        if *stage != connection::Stage::Admitted {
            return;
        }
        let accepted = *accepted;
        let mut woken = 0;
        while woken < WOKEN_A_TURN
            && let Some(flow) = tunnel.starved.pop_front()
        {
            // One that is gone would not pass its turn on to those behind it.
            let Some(starved) = self.flows.slab.get_mut(flow) else { continue };
            if starved.tunnel == Some(key) && std::mem::take(&mut starved.is_queued) {
                woken += 1;
                self.flows.mark(flow);
            }
        }
        let (mut unknown, mut opening) = (Vec::new(), Vec::new());
        for stream in quic.readable() {
            if stream == connection::CONTROL_STREAM {
                continue;
            }
            match tunnel.flows.get(&stream) {
                Some(flow) => {
                    let flow = *flow;
                    let waits = self.flows.slab.get(flow).is_some_and(Flow::waits_for_local);
                    // An end without octets is told all the same: the flow may be over.
                    if waits && quic.stream_readable_len(stream, 1) > 0 {
                        continue;
                    }
                    self.flows.mark(flow);
                    let opens = self
                        .flows
                        .slab
                        .get(flow)
                        .is_some_and(|it| matches!(it.stage, Stage::Header | Stage::Opening));
                    if opens {
                        opening.push(flow);
                    }
                }
                None => unknown.push(stream),
            }
        }
        for flow in opening {
            if accepted {
                self.read_header(flow, now);
            } else {
                self.read_answer(flow, now);
            }
        }
        for stream in unknown {
            if accepted {
                self.accept_flow(key, stream, now);
            } else if let Some(connection) = self.connections.get_mut(key) {
                // Its flow finished here: the connector's end is still to be read.
                discard(&mut connection.quic, stream);
            }
        }
    }

    /// Ends the stream of a flow that did not end in order.
    pub(super) fn end_stream(&mut self, key: usize, error: StreamError) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        let Some(tunnel_key) = flow.tunnel else { return };
        let Some(Connection { quic, kind: Kind::Tunnel(tunnel), .. }) =
            self.connections.get_mut(tunnel_key)
        else {
            return;
        };
        tunnel.ending.end(quic, flow.up.stream, flow.up.finished, error);
        self.mark_dirty(tunnel_key);
    }

    /// Ends a flow at both ends with an error.
    pub(super) fn fail_flow(&mut self, key: usize, error: StreamError, now: Instant) {
        self.end_stream(key, error);
        self.reset_local(key, now);
        self.close_flow(key, Some(error.code()));
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
        if let Some(flow) = self.flows.slab.try_remove(key) {
            self.settle_flow(key, flow, code);
        }
    }

    pub(super) fn settle_flow(&mut self, key: usize, flow: Flow, code: Option<u64>) {
        if flow.stage == Stage::Waiting {
            self.forget_waiting(key, &flow.service);
        }
        if matches!(flow.stage, Stage::Lingering | Stage::Greeting) {
            return;
        }
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
        self.flows.add_bytes(&flow.service, bytes_up, bytes_down);

        let tunnel = flow.tunnel.and_then(|tunnel| self.connections.get_mut(tunnel));
        let Some(connection) = tunnel else { return };
        let handle = connection.handle;
        if let Some(tunnel) = connection.tunnel_mut() {
            tunnel.held.remove(&flow.up.stream);
            tunnel.resting.remove(key);
            if tunnel.flows.remove(&flow.up.stream).is_some() && flow.kind != FlowKind::Tcp {
                tunnel.datagram_flows -= 1;
                tunnel.reassembler.end_flow(flow.up.stream / 4);
            }
        }
        if matches!(flow.stage, Stage::Open) {
            let subject = subject_of(handle, &flow, FlowChange::Closed(code));
            self.reports.add(subject, bytes_up, bytes_down);
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
        if self.config.role == Role::Connector && !self.connector.services.contains_key(&service) {
            // The name is the agent's invention, and there are enough of them to fill any table.
            let is_named = !service.is_empty();
            self.counters.flows_refused_unknown += u64::from(is_named);
            return;
        }
        self.flows.totals_of(&service).refused += 1;
        self.report_change(key, FlowChange::Refused(answer.octet()));
    }

    fn report_change(&mut self, key: usize, change: FlowChange) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        let handle = flow
            .tunnel
            .and_then(|key| self.connections.get(key))
            .map(|connection| connection.handle);
        if let Some(handle) = handle {
            self.reports.add(subject_of(handle, flow, change), 0, 0);
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
        if self.flows.next_sweep.is_none_or(|at| at > now) {
            return;
        }
        let mut overdue = Vec::new();
        let mut any = false;
        for (key, flow) in &self.flows.slab {
            let is_datagram = flow.kind != FlowKind::Tcp;
            any |= flow.deadline.is_some() || is_datagram;
            let idle = if flow.datagrams == (1, 1) { flow.idle.min(SHORT_IDLE) } else { flow.idle };
            let attempt = if let Local::Tcp(tcp) = &flow.local { tcp.poll_timeout() } else { None };
            if attempt.is_some_and(|at| at <= now)
                || flow.deadline.is_some_and(|at| at <= now)
                || (is_datagram && flow.stage == Stage::Open && now >= flow.last_used + idle)
            {
                overdue.push(key);
            }
        }
        self.flows.next_sweep = any.then(|| now + SWEEP_INTERVAL);
        for key in overdue {
            self.flow_overdue(key, now);
        }
        self.sweep_tunnels(now);
    }

    fn sweep_tunnels(&mut self, now: Instant) {
        let mut sending = Vec::new();
        for (key, connection) in &mut self.connections {
            let Connection { quic, kind: Kind::Tunnel(tunnel), .. } = connection else { continue };
            tunnel.reassembler.handle_timeout(now);
            if !tunnel.ending.wants_timeout() {
                continue;
            }
            for stream in tunnel.ending.handle_timeout(quic) {
                if let Some(flow) = tunnel.flows.get(&stream) {
                    self.flows.mark(*flow);
                }
            }
            if tunnel.ending.wants_timeout() {
                self.flows.next_sweep.get_or_insert(now + SWEEP_INTERVAL);
            }
            sending.push(key);
        }
        for key in sending {
            self.mark_dirty(key);
        }
    }

    fn flow_overdue(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        match flow.stage {
            Stage::Open => self.fail_flow(key, StreamError::Idle, now),
            Stage::Connecting if flow.deadline.is_some_and(|at| at > now) => {
                self.try_next_address(key, now);
            }
            Stage::Connecting => self.refuse_flow(key, FlowAnswer::TimedOut),
            Stage::Held => self.refuse_flow(key, FlowAnswer::NotAvailable),
            Stage::Header => {
                self.counters.headers_invalid += 1;
                self.fail_flow(key, StreamError::Internal, now);
            }
            Stage::Waiting | Stage::Opening | Stage::Greeting => {
                self.refuse_local(key, FlowAnswer::TimedOut, now);
            }
            Stage::Lingering => self.close_flow(key, None),
            Stage::Associated(_) => {}
        }
    }

    /// Sees to it that the sweep runs while a flow with a deadline exists.
    pub(super) fn want_sweep(&mut self, now: Instant) {
        self.flows.next_sweep.get_or_insert(now + SWEEP_INTERVAL);
    }
}

fn subject_of(tunnel: ConnectionHandle, flow: &Flow, change: FlowChange) -> Subject {
    let service = Rc::clone(&flow.service);
    Subject { change, tunnel, service, kind: flow.kind }
}

//! Flows that carry nothing yet, or never will: early data, paths that policy forbids, refusals.
//!
//! - **A forwarded connection may speak before it is answered**: its first octets travel with the header
//!   and the stream's first window bounds them.
//! - **A refusal is told in the application's own words**, and stays to be read.

use std::time::{Duration, Instant};

use crate::backend::tcp::TcpRead;
use crate::buffer_count::MeterGuard;
use crate::connection::Quic;
use crate::event::FlowKind;
use crate::flow::answer::{FlowAnswer, StreamError};
use crate::socks::{SocksReply, UNSPECIFIED, write_reply};
use crate::termination::{DatagramKind, TcpRefusal, Unreachable};

use super::flows::{Flow, Local, Stage, Up};
use super::plane::Plane;
use super::pump::{Direction, End, send_up};

/// How long a client that was refused may take to close.
const LINGER: Duration = Duration::from_secs(2);

impl Plane {
    /// Sends what an application says before its flow is answered: the connector holds it. A SOCKS
    /// client waits for the answer, and so does a SYN.
    pub(super) fn pump_opening(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        if flow.stage != Stage::Opening || flow.kind != FlowKind::Tcp || flow.socks {
            return;
        }
        let Some(tunnel_key) = flow.tunnel else { return };
        let Some(connection) = self.connections.get_mut(tunnel_key) else { return };
        let guard = MeterGuard::enter(&connection.meter);
        let Local::Tcp(tcp) = &mut flow.local else { return };
        let (end, scratch) = (&mut End::Socket(tcp), &mut self.flows.scratch);
        let outcome = send_up(&mut flow.up, end, &mut connection.quic, scratch);
        drop(guard);
        if let Some(tunnel) = connection.tunnel_mut() {
            flow.queue_if_starved(key, tunnel);
        }
        self.mark_dirty(tunnel_key);
        match outcome {
            Direction::Blocked => {}
            Direction::Spent => self.flows.mark(key),
            // The answer tells why, and comes in the other direction.
            Direction::Failed(_) if self.is_stopped(key) => {}
            Direction::Failed(error) => self.fail_flow(key, error, now),
        }
    }

    /// Returns whether the connector stopped reading a flow.
    fn is_stopped(&mut self, key: usize) -> bool {
        let Some(flow) = self.flows.slab.get(key) else { return false };
        let connection = flow.tunnel.and_then(|it| self.connections.get_mut(it));
        connection.is_some_and(|it| {
            let capacity = it.quic.stream_capacity(flow.up.stream);
            matches!(capacity, Err(quiche::Error::StreamStopped(_)))
        })
    }

    /// Returns whether policy keeps a flow from the path in use: it is looked at again when something
    /// happens in its tunnel.
    pub(super) fn waits_for_path(&mut self, key: usize, tunnel: usize) -> bool {
        let Some(flow) = self.flows.slab.get_mut(key) else { return false };
        let tunnel = self.connections.get_mut(tunnel).and_then(|it| it.tunnel_mut());
        let Some(tunnel) = tunnel.filter(|it| !it.paths.carries_users()) else { return false };
        flow.up.starved = true;
        flow.queue_if_starved(key, tunnel);
        true
    }

    /// Tells the application that its flow is not to be, in the words of its own protocol.
    pub(super) fn refuse_local(&mut self, key: usize, answer: FlowAnswer, now: Instant) {
        self.report_refused(key, answer);
        self.end_stream(key, StreamError::PeerReset);
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let unreachable = matches!(answer, FlowAnswer::Unreachable | FlowAnswer::TimedOut);
        match std::mem::replace(&mut flow.local, Local::None) {
            Local::Terminated(link, id) => {
                let refusal = if unreachable { TcpRefusal::Unreachable } else { TcpRefusal::Reset };
                if let Some(link) = self.agent.links.get_mut(link) {
                    link.by_terminated.remove(&id);
                    link.termination.refuse(id, refusal, now);
                }
            }
            Local::Tcp(mut tcp) if flow.socks => {
                let mut reply = Vec::new();
                write_reply(SocksReply::from(answer), UNSPECIFIED, &mut reply);
                let _ = tcp.write(&reply);
                flow.local = Local::Tcp(tcp);
            }
            Local::Tcp(tcp) => tcp.reset(),
            Local::Packets { link, source, destination } => {
                let why = if unreachable { Unreachable::Host } else { Unreachable::Port };
                self.send_unreachable_packet(link, why, DatagramKind::Udp, source, destination);
            }
            Local::PacketsEcho { link, source, destination, identifier } => {
                let kind = DatagramKind::Echo { identifier, sequence: 0 };
                self.send_unreachable_packet(link, Unreachable::Host, kind, source, destination);
            }
            Local::Ping { series } => self.note_ping_refused(series, answer),
            Local::None
            | Local::Udp(_)
            | Local::Forward { .. }
            | Local::Socks { .. }
            | Local::Echo => {}
        }
        self.linger(key, now);
    }

    /// Ends a flow that was refused. A client that has to read why stays until it closes: closing on
    /// octets that it sent ahead would reset the connection, and the answer with it.
    pub(super) fn linger(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let Local::Tcp(mut tcp) = std::mem::replace(&mut flow.local, Local::None) else {
            return self.close_flow(key, None);
        };
        tcp.shutdown_write();
        let mut rest = Flow::new(FlowKind::Tcp, Stage::Lingering, Local::Tcp(tcp), now);
        rest.deadline = Some(now + LINGER);
        let flow = std::mem::replace(flow, rest);
        self.settle_flow(key, flow, None);
        self.want_sweep(now);
        self.flows.mark(key);
    }

    /// Discards what a refused client still says.
    pub(super) fn drain_client(&mut self, key: usize) {
        let mut buffer = [0; 4_096];
        loop {
            let Some(Local::Tcp(tcp)) = self.flows.slab.get_mut(key).map(|it| &mut it.local) else {
                return;
            };
            match tcp.read(&mut buffer) {
                TcpRead::Data(_) => {}
                TcpRead::WouldBlock => return,
                TcpRead::End | TcpRead::Failed(_) => return self.close_flow(key, None),
            }
        }
    }
}

/// Sends a flow's preface; returns whether all of it left.
pub(super) fn send_preface(up: &mut Up, quic: &mut Quic) -> Result<bool, StreamError> {
    while !up.preface.is_empty() {
        match quic.stream_send(up.stream, &up.preface, false) {
            Ok(0) | Err(quiche::Error::Done) => {
                up.starved = true;
                return Ok(false);
            }
            Ok(sent) => drop(up.preface.drain(..sent)),
            Err(quiche::Error::StreamStopped(code)) => return Err(StreamError::from_code(code)),
            Err(_) => return Err(StreamError::Internal),
        }
    }
    Ok(true)
}

/// Returns what a stream's error code says as an answer; no code says that the backend is connected.
pub(super) fn refusal_by_code(code: u64) -> Option<FlowAnswer> {
    let answer = u8::try_from(code).ok().and_then(FlowAnswer::from_octet);
    answer.filter(|answer| *answer != FlowAnswer::Connected)
}

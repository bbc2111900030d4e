//! UDP and echo flows: their octets travel in QUIC DATAGRAMs named by the flow's stream.

use std::time::Instant;

use crate::connection::{CONTROL_STREAM, Connection, Kind};
use crate::event::FlowKind;
use crate::flow::answer::StreamError;
use crate::flow::datagram::{FlowDatagram, write_packet};
use crate::socks::write_datagram;

use super::flows::{Local, Stage};
use super::opening::send_preface;
use super::plane::Plane;

/// DATAGRAM payloads that wait for room in quiche (`docs/protocol.md`, flows): the oldest goes first
/// when there are more, because late is worse than lost.
const OUTGOING_MAX: usize = 1_024;
/// As many are sent before more are added: a burst of one turn must not drop its own beginning.
const OUTGOING_FLUSH: usize = OUTGOING_MAX * 3 / 4;
/// Datagrams that leave for a backend in one call.
const BACKEND_RUN_MAX: usize = 64;
/// Batches that one backend socket is read for in one turn.
const BACKEND_READS: usize = 4;

/// Neighbouring datagrams of one flow to a backend: payloads with where their octets start.
#[derive(Default)]
struct BackendRun {
    flow: Option<usize>,
    payloads: Vec<(Vec<u8>, usize)>,
}

impl Plane {
    /// Takes the DATAGRAMs that arrived in a tunnel.
    ///
    /// Neighbours of one flow to a backend leave together: a system call each would cost more than all
    /// the rest of their way.
    pub(super) fn read_datagrams(&mut self, key: usize, now: Instant) {
        let mut run = BackendRun::default();
        while let Some(connection) = self.connections.get_mut(key) {
            let Ok(payload) = connection.quic.dgram_recv_buf() else { break };
            let Some(tunnel) = connection.tunnel_mut() else { break };
            tunnel.paths.on_user_data(now);
            match FlowDatagram::read(payload.as_ref()) {
                Ok(FlowDatagram::Whole { flow, octets }) => {
                    let to_backend = tunnel.flows.get(&(flow * 4)).copied().filter(|flow| {
                        self.flows.slab.get(*flow).is_some_and(|flow| {
                            flow.stage == Stage::Open && matches!(flow.local, Local::Udp(_))
                        })
                    });
                    if let Some(flow) = to_backend {
                        let start = payload.len() - octets.len();
                        if run.flow != Some(flow) || run.payloads.len() >= BACKEND_RUN_MAX {
                            self.send_to_backend(&mut run, now);
                        }
                        run.flow = Some(flow);
                        run.payloads.push((payload, start));
                    } else {
                        self.send_to_backend(&mut run, now);
                        self.take_packet(key, flow * 4, octets, now);
                    }
                }
                Ok(FlowDatagram::Piece(piece)) => {
                    let stream = piece.flow * 4;
                    if let Some(packet) = tunnel.reassembler.insert(&piece, now) {
                        self.take_packet(key, stream, &packet, now);
                    }
                }
                Err(_) => self.counters.datagrams_dropped_malformed += 1,
            }
        }
        self.send_to_backend(&mut run, now);
    }

    /// Sends a run of datagrams to its flow's backend.
    fn send_to_backend(&mut self, run: &mut BackendRun, now: Instant) {
        let flow = run.flow.take().and_then(|key| self.flows.slab.get_mut(key));
        if let Some(flow) = flow {
            let datagrams: Vec<&[u8]> = run
                .payloads
                .iter()
                .map(|(payload, start)| payload.get(*start..).unwrap_or_default())
                .collect();
            flow.last_used = now;
            flow.down.bytes += datagrams.iter().map(|it| it.len() as u64).sum::<u64>();
            let count = u32::try_from(datagrams.len()).unwrap_or(u32::MAX);
            flow.datagrams.1 = flow.datagrams.1.saturating_add(count);
            if let Local::Udp(udp) = &flow.local {
                // A full or refusing backend drops datagrams, as any network may.
                udp.send_all(&datagrams, &mut self.built_packet);
            }
        }
        run.payloads.clear();
    }

    fn take_packet(&mut self, key: usize, stream: u64, octets: &[u8], now: Instant) {
        if stream == CONTROL_STREAM {
            self.counters.datagrams_dropped_unknown_flow += 1;
            return;
        }
        let Some(Connection { quic, kind: Kind::Tunnel(tunnel), accepted, .. }) =
            self.connections.get_mut(key)
        else {
            return;
        };
        let is_over = tunnel.ending.is_ending(stream) || quic.stream_closed(stream);
        let flow = tunnel.flows.get(&stream).copied();
        let is_open = flow
            .and_then(|flow| self.flows.slab.get(flow))
            .is_some_and(|flow| matches!(flow.stage, Stage::Open));
        match flow {
            Some(flow) if is_open => self.deliver(flow, octets, now),
            // The agent opened every stream that can have datagrams; a connector may not know it yet.
            None if !*accepted || is_over => {
                self.counters.datagrams_dropped_unknown_flow += 1;
            }
            Some(_) | None => {
                if !tunnel.early.hold(stream, octets.to_vec(), now) {
                    self.counters.datagrams_dropped_early += 1;
                }
            }
        }
    }

    /// Delivers what came for a flow before it was open.
    pub(super) fn deliver_early(&mut self, key: usize, stream: u64, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(tunnel) = connection.tunnel_mut() else { return };
        let Some(flow) = tunnel.flows.get(&stream).copied() else { return };
        for octets in tunnel.early.take(stream, now) {
            self.deliver(flow, &octets, now);
        }
    }

    /// Hands one packet to the flow's local end.
    fn deliver(&mut self, key: usize, octets: &[u8], now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        flow.last_used = now;
        flow.down.bytes += octets.len() as u64;
        flow.datagrams.1 = flow.datagrams.1.saturating_add(1);
        match &mut flow.local {
            // A full or refusing backend drops datagrams, as any network may.
            Local::Udp(udp) => {
                let _ = udp.send(octets);
            }
            Local::Echo => {
                let octets = octets.to_vec();
                self.send_packet(key, &octets, now);
            }
            Local::Forward { listener, client } => {
                let (listener, client) = (*listener, *client);
                self.send_to_client(listener, client, octets);
            }
            Local::Socks { association, client, target } => {
                let (association, client) = (*association, *client);
                let mut datagram = Vec::with_capacity(octets.len() + 300);
                write_datagram(target, octets, &mut datagram);
                self.send_to_client(association, client, &datagram);
            }
            Local::Packets { link, source, destination } => {
                let (link, source, destination) = (*link, *source, *destination);
                self.send_udp_packet(link, destination, source, octets);
            }
            Local::PacketsEcho { link, source, destination, identifier } => {
                let (link, source, destination) = (*link, *source, *destination);
                let identifier = *identifier;
                self.send_echo_packet(link, destination, source, identifier, octets);
            }
            Local::Ping { series } => {
                let series = *series;
                self.note_ping_reply(series, octets, now);
            }
            Local::None | Local::Tcp(_) | Local::Terminated(..) => {}
        }
    }

    /// Sends one packet of a flow into its tunnel.
    pub(super) fn send_packet(&mut self, key: usize, octets: &[u8], now: Instant) {
        let Some(tunnel_key) = self.flows.slab.get(key).and_then(|flow| flow.tunnel) else {
            return;
        };
        let Some(tunnel) = self.connections.get(tunnel_key).and_then(|it| it.tunnel()) else {
            return;
        };
        if tunnel.outgoing.len() >= OUTGOING_FLUSH {
            self.transmit_tunnel(tunnel_key, now);
        }
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let Some(connection) = self.connections.get_mut(tunnel_key) else { return };
        let Some(tunnel) = connection.tunnel_mut() else { return };
        if !tunnel.paths.carries_users() {
            self.counters.datagrams_dropped_queue += 1;
            return;
        }
        let size_max = tunnel.datagram_payload_max();
        tunnel.packet_number = tunnel.packet_number.wrapping_add(1);
        let Ok(payloads) = write_packet(flow.up.stream / 4, tunnel.packet_number, octets, size_max)
        else {
            self.counters.datagrams_dropped_malformed += 1;
            return;
        };
        tunnel.paths.on_user_data(now);
        for payload in payloads {
            if tunnel.outgoing.len() >= OUTGOING_MAX {
                tunnel.outgoing.pop_front();
                self.counters.datagrams_dropped_queue += 1;
            }
            tunnel.outgoing.push_back((now, payload));
        }
        flow.last_used = now;
        flow.up.bytes += octets.len() as u64;
        flow.datagrams.0 = flow.datagrams.0.saturating_add(1);
        self.mark_dirty(tunnel_key);
    }

    /// Serves the stream of a datagram flow, and at a connector the backend's socket.
    pub(super) fn pump_datagram_flow(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        debug_assert_ne!(flow.kind, FlowKind::Tcp, "TCP flows are pumped as streams");
        let Some(tunnel_key) = flow.tunnel else { return };
        let Some(connection) = self.connections.get_mut(tunnel_key) else { return };
        if let Err(error) = send_preface(&mut flow.up, &mut connection.quic) {
            return self.fail_flow(key, error, now);
        }
        if !flow.up.preface.is_empty() {
            if let Some(tunnel) = connection.tunnel_mut() {
                flow.queue_if_starved(key, tunnel);
            }
            return;
        }
        self.mark_dirty(tunnel_key);
        self.read_datagram_stream(key, now);
        self.read_backend(key, now);
    }

    /// The stream of a datagram flow carries nothing but its end.
    fn read_datagram_stream(&mut self, key: usize, now: Instant) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        let Some(connection) = flow.tunnel.and_then(|it| self.connections.get_mut(it)) else {
            return;
        };
        let stream = flow.up.stream;
        let mut buffer = [0; 256];
        while connection.quic.stream_readable(stream) {
            match connection.quic.stream_recv(stream, &mut buffer) {
                Ok((_, false)) => {}
                Err(quiche::Error::Done) => return,
                Ok((_, true)) => return self.finish_datagram_flow(key),
                Err(_) => return self.fail_flow(key, StreamError::PeerReset, now),
            }
        }
    }

    /// Reads what the backend sent on a flow's socket.
    fn read_backend(&mut self, key: usize, now: Instant) {
        let mut batch = self.user_batch.take().unwrap_or_default();
        let mut more = true;
        for _ in 0..BACKEND_READS {
            let Some(Local::Udp(udp)) = self.flows.slab.get(key).map(|flow| &flow.local) else {
                more = false;
                break;
            };
            match udp.receive(&mut batch) {
                Ok(true) => {}
                Ok(false) => {
                    more = false;
                    break;
                }
                // An ICMP message about an earlier datagram: the flow lives on, and there may be more.
                Err(_) => continue,
            }
            for datagram in batch.datagrams() {
                self.send_packet(key, datagram.octets, now);
            }
        }
        self.user_batch = Some(batch);
        if more {
            self.flows.mark(key);
        }
    }

    /// Ends a datagram flow in order.
    pub(super) fn finish_datagram_flow(&mut self, key: usize) {
        self.finish_stream(key);
        self.close_flow(key, None);
    }

    fn finish_stream(&mut self, key: usize) {
        let Some(flow) = self.flows.slab.get(key) else { return };
        let Some(tunnel) = flow.tunnel else { return };
        let (stream, is_told) = (flow.up.stream, flow.up.preface.is_empty());
        let Some(connection) = self.connections.get_mut(tunnel) else { return };
        if is_told && connection.quic.stream_send(stream, b"", true).is_ok() {
            self.mark_dirty(tunnel);
        } else {
            self.end_stream(key, StreamError::PeerReset);
        }
    }
}

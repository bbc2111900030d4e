//! From a UDP socket to the connection that a packet belongs to (`docs/protocol.md`, ports and
//! demultiplexing). What fits nothing is dropped and counted, never answered.

use std::net::SocketAddr;
use std::time::Instant;

use quiche::RecvInfo;
use quinn_udp::RecvMeta;

use crate::buffer_count::MeterGuard;
use crate::connection::{Kind, VIRTUAL_LOCAL, VIRTUAL_PEER};
use crate::demux::{PacketKind, classify};
use crate::id::{PairId, WireId};
use crate::path::PathId;

use super::plane::{Plane, Target};
use super::staging::Staging;

/// Octets before the packet in a channel frame.
pub(super) const CHANNEL_PREFIX: usize = 1 + WireId::LENGTH;

/// Runs of packets that one tunnel got over one path: its clocks are told once a run.
#[derive(Default)]
pub(super) struct Arrivals {
    run: Option<(usize, PathId, usize, u32)>,
}

/// The channel that a packet came in.
#[derive(Clone, Copy)]
struct Via {
    pair: PairId,
    receive_id: WireId,
}

impl Plane {
    /// Reads a socket until it is empty or gave `trains`, and what else the last call brought; returns
    /// whether it may hold more.
    pub(super) fn receive_port(&mut self, index: usize, trains: usize, now: Instant) -> bool {
        let Some(mut buffers) = self.buffers.take() else { return false };
        let mut staging = std::mem::take(&mut self.staging);
        let mut left = trains;
        while left > 0
            && let Some(port) = self.ports.get_mut(index).filter(|port| port.readable)
        {
            let before = port.counters.received_packets;
            let count = port.receive(&mut buffers);
            self.heard.packets += port.counters.received_packets - before;
            for train in 0..count {
                if let Some((octets, meta)) = buffers.train(train) {
                    self.receive_train(index, octets, &meta, &mut staging, now);
                }
            }
            left = left.saturating_sub(count);
        }
        self.flush_staging(index, &mut staging);
        self.staging = staging;
        self.buffers = Some(buffers);
        self.ports.get(index).is_some_and(|port| port.readable)
    }

    fn receive_train(
        &mut self,
        port: usize,
        train: &mut [u8],
        meta: &RecvMeta,
        staging: &mut Staging,
        now: Instant,
    ) {
        let stride = meta.stride.max(1);
        if self.is_relay() {
            self.receive_at_relay(port, train, meta, staging, now);
            return;
        }
        let mut arrivals = Arrivals::default();
        for packet in train.chunks_mut(stride) {
            self.receive_packet(port, meta, packet, &mut arrivals, now);
        }
        self.settle(&mut arrivals, now);
    }

    /// Takes one UDP payload at an agent or a connector.
    fn receive_packet(
        &mut self,
        port: usize,
        meta: &RecvMeta,
        packet: &mut [u8],
        arrivals: &mut Arrivals,
        now: Instant,
    ) {
        let PacketKind::Quic { long } = kind_of(packet) else {
            // Direct paths do not exist yet: a bare check has nowhere to go.
            self.counters.dropped_invalid += 1;
            return;
        };
        if long {
            self.receive_long(port, meta, packet, now);
            return;
        }
        let Some(id) = packet.get(1..).and_then(WireId::from_prefix) else {
            self.counters.dropped_invalid += 1;
            return;
        };

        match self.ids.get(&id).copied() {
            Some(Target::Channel(pair)) => {
                let Some(inner) = packet.get_mut(CHANNEL_PREFIX..) else {
                    self.counters.dropped_invalid += 1;
                    return;
                };
                self.receive_from_channel(pair, id, meta.addr, inner, arrivals, now);
            }
            Some(Target::Connection(key)) => self.give_to_leg(key, meta, packet, now),
            None => self.give_to_leg_of(meta, packet, now),
        }
    }

    fn receive_from_channel(
        &mut self,
        pair: PairId,
        receive_id: WireId,
        source: SocketAddr,
        inner: &mut [u8],
        arrivals: &mut Arrivals,
        now: Instant,
    ) {
        let is_its_relay = self.pairs.get(&pair).is_some_and(|pair| {
            pair.channels
                .iter()
                .any(|channel| channel.receive_id == receive_id && channel.relay == source)
        });
        if !is_its_relay {
            self.counters.dropped_wrong_source += 1;
            return;
        }

        match kind_of(inner) {
            PacketKind::Stun => self.receive_check(pair, receive_id, inner, now),
            PacketKind::Quic { long: false } => {
                let key = inner.get(1..).and_then(WireId::from_prefix).and_then(|id| {
                    match self.ids.get(&id) {
                        Some(Target::Connection(key)) => Some(*key),
                        Some(Target::Channel(_)) | None => None,
                    }
                });
                let Some(key) = key else {
                    self.counters.dropped_unknown_id += 1;
                    return;
                };
                self.give_to_tunnel(key, Via { pair, receive_id }, inner, arrivals, now);
            }
            PacketKind::Quic { long: true } => {
                if let Some(key) = self.tunnel_of_long(pair, receive_id, inner, now) {
                    self.give_to_tunnel(key, Via { pair, receive_id }, inner, arrivals, now);
                }
            }
            PacketKind::Invalid => self.counters.dropped_invalid += 1,
        }
    }

    fn receive_check(&mut self, pair: PairId, receive_id: WireId, packet: &[u8], now: Instant) {
        let tunnels = self.pairs.get(&pair).map(|pair| pair.tunnels.clone()).unwrap_or_default();
        for key in tunnels {
            let Some(tunnel) =
                self.connections.get_mut(key).and_then(|connection| connection.tunnel_mut())
            else {
                continue;
            };
            let Some(path) = tunnel.path_of_channel(receive_id) else { continue };
            if tunnel.paths.handle_check(path, packet, now).is_ok() {
                self.mark_dirty(key);
                return;
            }
        }
        self.counters.dropped_check += 1;
    }

    fn give_to_tunnel(
        &mut self,
        key: usize,
        via: Via,
        packet: &mut [u8],
        arrivals: &mut Arrivals,
        now: Instant,
    ) {
        let length = packet.len();
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Kind::Tunnel(tunnel) = &connection.kind else {
            self.counters.dropped_foreign_packet += 1;
            return;
        };
        let path =
            (tunnel.pair == via.pair).then(|| tunnel.path_of_channel(via.receive_id)).flatten();
        let Some(path) = path else {
            self.counters.dropped_foreign_packet += 1;
            return;
        };

        self.heard.awaited = true;
        let info = RecvInfo { from: VIRTUAL_PEER, to: VIRTUAL_LOCAL };
        let guard = MeterGuard::enter(&connection.meter);
        let outcome = connection.quic.recv(packet, info);
        drop(guard);
        if let Err(error) = outcome {
            self.note_recv_error(key, error);
        }
        match &mut arrivals.run {
            Some((of, on, bytes, packets)) if *of == key && *on == path => {
                *bytes += length;
                *packets += 1;
            }
            _ => {
                self.settle(arrivals, now);
                arrivals.run = Some((key, path, length, 1));
            }
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.unacknowledged += 1;
        }
        self.mark_received(key);
    }

    /// Tells the paths what arrived; once a run, because it is called for every train.
    pub(super) fn settle(&mut self, arrivals: &mut Arrivals, now: Instant) {
        let Some((key, path, bytes, packets)) = arrivals.run.take() else { return };
        if let Some(tunnel) = self.connections.get_mut(key).and_then(|it| it.tunnel_mut()) {
            tunnel.paths.on_quic_received(path, bytes, packets, now);
        }
    }

    /// A long header outside a channel is a leg's and nothing else.
    fn receive_long(&mut self, _port: usize, meta: &RecvMeta, packet: &mut [u8], now: Instant) {
        match long_destination(packet).and_then(|id| self.ids.get(&id)).copied() {
            Some(Target::Connection(key)) => self.give_to_leg(key, meta, packet, now),
            Some(Target::Channel(_)) | None => self.counters.dropped_unknown_id += 1,
        }
    }

    /// A short header with an unknown id may be a stateless reset of the leg with that relay.
    fn give_to_leg_of(&mut self, meta: &RecvMeta, packet: &mut [u8], now: Instant) {
        let legs = self.dialled_legs.iter().copied();
        let legs: Vec<usize> = legs
            .filter(|key| match self.connections.get(*key).map(|it| &it.kind) {
                Some(Kind::Leg(leg)) => leg.remote == meta.addr,
                Some(Kind::Tunnel(_)) | None => false,
            })
            .collect();
        if legs.is_empty() {
            self.counters.dropped_unknown_id += 1;
        }
        for key in legs {
            // QUIC deciphers in place: each leg reads a copy of its own.
            self.give_to_leg(key, meta, &mut packet.to_vec(), now);
        }
    }

    pub(super) fn give_to_leg(
        &mut self,
        key: usize,
        meta: &RecvMeta,
        packet: &mut [u8],
        _now: Instant,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Kind::Leg(leg) = &mut connection.kind else {
            self.counters.dropped_unproven_source += 1;
            return;
        };
        // Legs do not migrate: what comes from elsewhere never reaches QUIC.
        if leg.remote != meta.addr {
            self.counters.dropped_wrong_source += 1;
            return;
        }
        let awaited = leg.ping_deadline.is_some().then(|| connection.quic.stats().recv);

        self.heard.awaited = true;
        let info = RecvInfo { from: meta.addr, to: VIRTUAL_LOCAL };
        let guard = MeterGuard::enter(&connection.meter);
        let outcome = connection.quic.recv(packet, info);
        drop(guard);
        // Only what QUIC took proves that the relay is there: anybody can write its address.
        if awaited.is_some_and(|before| connection.quic.stats().recv > before)
            && let Some(leg) = connection.leg_mut()
        {
            leg.ping_deadline = None;
        }
        if let Err(error) = outcome {
            self.note_recv_error(key, error);
        }
        self.mark_dirty(key);
    }
}

fn kind_of(packet: &[u8]) -> PacketKind {
    packet.first().map_or(PacketKind::Invalid, |first| classify(*first))
}

/// Returns the destination id of a long header if it has the length of ours.
pub(super) fn long_destination(packet: &[u8]) -> Option<WireId> {
    let length = *packet.get(5)?;
    if usize::from(length) != WireId::LENGTH {
        return None;
    }
    packet.get(6..).and_then(WireId::from_prefix)
}

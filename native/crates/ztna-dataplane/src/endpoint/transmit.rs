//! From connections to sockets, in trains that leave in one call.

use std::time::{Duration, Instant};

use crate::buffer_count::MeterGuard;
use crate::connection::{Connection, Kind, Quic, Route, Stage};
use crate::id::PairId;
use crate::path::PathId;
use crate::udp::{GSO_BYTES_MAX, GSO_PACKETS_MAX, SendOutcome};

use super::plane::Plane;
use super::receive::CHANNEL_PREFIX;

/// Trains a tunnel sends before others have their turn, and packets a leg sends.
const TRAINS_A_TURN: usize = 8;
const LEG_PACKETS_A_TURN: usize = 64;
/// DATAGRAMs that wait inside quiche; the rest waits in our own queue, which drops the oldest.
const DATAGRAMS_IN_QUICHE_MAX: usize = 8;
/// A datagram that waited longer for room is dropped: late is worse than lost, and a queue that is
/// bounded by time alone neither cuts a burst on a fast way nor delays a call on a slow one.
const DATAGRAM_WAIT_MAX: Duration = Duration::from_millis(20);
/// A check, padded to test a size, at most.
const CHECK_BYTES_MAX: usize = 1_500;

/// How filling a train ended.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Filled {
    /// QUIC has nothing more to send.
    All,
    /// The train is full, or its last packet was short.
    Part,
}

/// A train under construction: packets of one size, the last perhaps shorter.
struct Train {
    length: usize,
    segment: usize,
    packets: usize,
    /// A packet larger than the first: it opens the next train.
    carry: usize,
}

impl Plane {
    /// Sends what dirty connections have, arms their timers, removes those that are done.
    pub(super) fn transmit_dirty(&mut self, now: Instant) {
        let keys = std::mem::take(&mut self.dirty);
        for key in keys {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.dirty = false;
            if connection.may_wait(now) {
                self.arm(key);
                continue;
            }
            connection.must_send = false;
            connection.unacknowledged = 0;
            connection.acknowledge_at = None;
            connection.flush_control();
            let more = if connection.tunnel().is_some() {
                self.transmit_checks(key);
                self.transmit_tunnel(key, now)
            } else {
                self.transmit_leg(key)
            };
            if self.connections.get(key).is_some_and(is_done) {
                self.finish(key, now);
                continue;
            }
            self.arm(key);
            if more {
                self.mark_dirty(key);
            }
        }
    }

    /// Lets tunnels of a pair that are closing say so while there still is a path.
    pub(super) fn transmit_closing(&mut self, pair: PairId, now: Instant) {
        let tunnels = self.pairs.get(&pair).map(|it| it.tunnels.clone()).unwrap_or_default();
        for key in tunnels {
            if self.connections.get(key).is_some_and(|it| it.closing.is_some()) {
                self.transmit_tunnel(key, now);
            }
        }
    }

    fn transmit_leg(&mut self, key: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return false };
        let Kind::Leg(leg) = &connection.kind else { return false };
        let (remote, port_index, src_ip) = (leg.remote, leg.port, leg.src_ip);
        let Some(port) = self.ports.get_mut(port_index) else { return false };
        // None, or an error that closed it: `is_closed` tells.
        for _ in 0..LEG_PACKETS_A_TURN {
            if port.is_blocked() {
                self.await_room(key);
                return false;
            }
            let Some(length) = connection.poll_packet(&mut self.train) else { return false };
            let packet = self.train.get(..length).unwrap_or_default();
            port.send(remote, src_ip, packet, length, None);
        }
        true
    }

    /// Has a connection sent from when the socket that is full has room again.
    fn await_room(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !std::mem::replace(&mut connection.awaits_room, true) {
            self.awaiting_room.push(key);
        }
    }

    /// Sends checks and replayed packets, each on the path it was made for.
    fn transmit_checks(&mut self, key: usize) {
        let mut buffer = [0; CHANNEL_PREFIX + CHECK_BYTES_MAX];
        loop {
            let Some(tunnel) = self.connections.get_mut(key).and_then(|it| it.tunnel_mut()) else {
                return;
            };
            let Some(room) = buffer.get_mut(CHANNEL_PREFIX..) else { return };
            let Some((path, length)) = tunnel.paths.poll_transmit(room) else { return };
            let Some(route) = tunnel.route(path) else { continue };
            // A bare packet starts where its prefix would have ended.
            let start = CHANNEL_PREFIX - prefix_length(&route);
            let octets = buffer.get_mut(start..CHANNEL_PREFIX + length).unwrap_or_default();
            write_prefix(&route, octets);
            if let Some(port) = self.ports.get_mut(route.port) {
                port.send(route.remote, None, octets, octets.len(), None);
            }
        }
    }

    /// Sends a tunnel's QUIC packets on its selected path; returns whether it has more.
    pub(super) fn transmit_tunnel(&mut self, key: usize, now: Instant) -> bool {
        for _ in 0..TRAINS_A_TURN {
            let Some(connection) = self.connections.get_mut(key) else { return false };
            let Some((route, size)) = connection.tunnel().and_then(selected_route) else {
                return false;
            };
            let Some(port) = self.ports.get_mut(route.port) else { return false };
            if port.is_blocked() {
                self.await_room(key);
                return false;
            }

            let guard = MeterGuard::enter(&connection.meter);
            let (train, filled) = fill(connection, &mut self.train, &route, size, now);
            drop(guard);
            if let Kind::Tunnel(tunnel) = &mut connection.kind {
                self.counters.datagrams_dropped_queue += std::mem::take(&mut tunnel.outgoing_late);
            }
            if train.length == 0 {
                return false;
            }
            let octets = self.train.get(..train.length).unwrap_or_default();
            let outcome = port.send(route.remote, None, octets, train.segment, None);
            self.note_sent(key, &route, &train, now);
            if train.carry > 0 {
                // Different sizes cannot share a train: the larger one goes by itself.
                let end = train.length + train.carry;
                let octets = self.train.get(train.length..end).unwrap_or_default();
                if let Some(port) = self.ports.get_mut(route.port) {
                    port.send_behind(route.remote, None, octets);
                }
                self.note_carried(key, &route, train.length..end, now);
            }
            if outcome == SendOutcome::Blocked {
                self.await_room(key);
                return false;
            }
            if filled == Filled::All {
                return false;
            }
        }
        true
    }

    fn note_sent(&mut self, key: usize, route: &Route, train: &Train, now: Instant) {
        if route.channel.is_some() {
            self.counters.packets_via_relay += train.packets as u64;
        } else {
            self.counters.packets_via_direct += train.packets as u64;
        }
        let prefix = prefix_length(route);
        let octets = self.train.get(..train.length).unwrap_or_default();
        let Some(tunnel) = self.connections.get_mut(key).and_then(|it| it.tunnel_mut()) else {
            return;
        };
        tunnel.paths.on_quic_sent(octets, train.segment, prefix, now);
    }

    fn note_carried(
        &mut self,
        key: usize,
        route: &Route,
        range: std::ops::Range<usize>,
        now: Instant,
    ) {
        let prefix = prefix_length(route);
        let packet = self.train.get(range).unwrap_or_default();
        if let Some(tunnel) = self.connections.get_mut(key).and_then(|it| it.tunnel_mut()) {
            tunnel.paths.on_quic_sent(packet, packet.len(), prefix, now);
        }
    }
}

/// Returns whether nothing is left of a connection: a tunnel without a path cannot even say that it ends.
fn is_done(connection: &Connection) -> bool {
    let is_cut_off = || connection.tunnel().is_some_and(|it| selected_route(it).is_none());
    connection.quic.is_closed() || (connection.stage == Stage::Closing && is_cut_off())
}

fn selected_route(tunnel: &crate::connection::Tunnel) -> Option<(Route, usize)> {
    let path: PathId = tunnel.paths.selected()?;
    Some((tunnel.route(path)?, tunnel.paths.datagram_size()))
}

/// Builds one train in `buffer`.
fn fill(
    connection: &mut Connection,
    buffer: &mut [u8],
    route: &Route,
    size: usize,
    now: Instant,
) -> (Train, Filled) {
    let prefix = prefix_length(route);
    let mut train = Train { length: 0, segment: 0, packets: 0, carry: 0 };
    while train.packets < GSO_PACKETS_MAX && train.length + prefix + size <= GSO_BYTES_MAX {
        if let Kind::Tunnel(tunnel) = &mut connection.kind {
            top_up(&mut connection.quic, tunnel, now);
        }
        let start = train.length + prefix;
        let Some(room) = buffer.get_mut(start..start + size) else { break };
        // An error closed the connection: `is_closed` tells, and there is nothing more to send.
        let Some(length) = connection.poll_packet(room) else { return (train, Filled::All) };
        let whole = prefix + length;
        write_prefix(route, buffer.get_mut(train.length..train.length + whole).unwrap_or_default());
        if train.packets == 0 {
            train.segment = whole;
        } else if whole > train.segment {
            train.carry = whole;
            return (train, Filled::Part);
        }
        train.length += whole;
        train.packets += 1;
        if whole < train.segment {
            return (train, Filled::Part);
        }
    }
    (train, Filled::Part)
}

/// Keeps a few DATAGRAMs inside quiche, so that its queue is never the buffer.
fn top_up(quic: &mut Quic, tunnel: &mut crate::connection::Tunnel, now: Instant) {
    while !tunnel.outgoing.is_empty() && quic.dgram_send_queue_len() < DATAGRAMS_IN_QUICHE_MAX {
        let Some((queued_at, datagram)) = tunnel.outgoing.pop_front() else { return };
        if now > queued_at + DATAGRAM_WAIT_MAX {
            tunnel.outgoing_late += 1;
            continue;
        }
        // Too long or not negotiated: dropped like any datagram that meets a wall.
        let _ = quic.dgram_send_buf(datagram);
    }
}

const fn prefix_length(route: &Route) -> usize {
    if route.channel.is_some() { CHANNEL_PREFIX } else { 0 }
}

/// Writes the channel prefix before a relayed path's packet, which ends `packet`.
fn write_prefix(route: &Route, packet: &mut [u8]) {
    let Some(channel) = route.channel else { return };
    // The packet's last octet is part of a tag: as random as any, and here for nothing.
    let random = packet.last().copied().unwrap_or_default();
    if let Some((first, rest)) = packet.split_first_mut()
        && let Some(id) = rest.first_chunk_mut()
    {
        *first = 0x40 | (random & 0x3f);
        *id = channel.send_id.0;
    }
}

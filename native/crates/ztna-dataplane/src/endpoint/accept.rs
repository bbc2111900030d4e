//! Initials of strangers: legs at a relay after Retry, tunnels at a connector over a channel.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quiche::{ConnectionId, Header, Type};
use quinn_udp::RecvMeta;

use crate::buffer_count::Meter;
use crate::config::{PathPolicy, Role};
use crate::connection::{Connection, Kind, Leg, Tunnel, VIRTUAL_LOCAL, VIRTUAL_PEER};
use crate::event::Event;
use crate::id::{PairId, WireId};
use crate::path::{PathSet, PathSide};
use crate::retry::{Clock, Unanswered};

use super::plane::{Pair, Plane, Target, clock, unix_time};
use super::receive::long_destination;

/// A client pads its first datagram to this (RFC 9000 §14.1): anything shorter is not answered.
const INITIAL_MIN: usize = 1_200;
/// A Retry: long header, three ids of at most 20 octets, token, tag.
const RETRY_BYTES_MAX: usize = 256;
/// A handshake takes two round trips: who has not finished by now holds a place of others.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);
/// When more than half of the places are taken: strangers who never finish must take five times as many.
const HANDSHAKE_WAIT_CROWDED: Duration = Duration::from_secs(1);
/// Handshakes under way on one channel.
const HANDSHAKES_A_CHANNEL_MAX: usize = 2;
/// Refusals that are told in one second; the rest only counts.
const REFUSALS_TOLD_A_SECOND: u32 = 20;

impl Plane {
    /// Takes a long header at a relay's socket.
    pub(super) fn receive_initial_at_relay(
        &mut self,
        port: usize,
        meta: &RecvMeta,
        packet: &mut [u8],
        now: Instant,
    ) {
        if let Some(Target::Connection(key)) =
            long_destination(packet).and_then(|id| self.ids.get(&id)).copied()
        {
            self.give_to_leg(key, meta, packet, now);
            return;
        }
        let Ok(header) = Header::from_slice(packet, WireId::LENGTH) else {
            self.counters.dropped_invalid += 1;
            return;
        };
        let is_initial = header.ty == Type::Initial
            && header.version == quiche::PROTOCOL_VERSION
            && packet.len() >= INITIAL_MIN;
        if !is_initial || self.tls.is_none() || self.stopping.is_some() {
            self.counters.dropped_invalid += 1;
            return;
        }

        if header.token.as_deref().unwrap_or_default().is_empty() {
            self.answer_with_retry(port, meta, &header, packet.len(), now);
            return;
        }
        let Some(original) = self.retry.verify(&header, meta.addr, unix_time()) else {
            self.counters.retry_tokens_refused += 1;
            return;
        };
        self.counters.retry_tokens_validated += 1;
        // The token covers the id: it is one that we issued to this address.
        let Some(id) = WireId::from_prefix(&header.dcid) else { return };
        if !self.shared.claim_id(id) {
            return;
        }
        match self.accept_leg(port, meta, id, &original) {
            Some(key) => self.give_to_leg(key, meta, packet, now),
            None => self.shared.release_id(id),
        }
    }

    fn answer_with_retry(
        &mut self,
        port: usize,
        meta: &RecvMeta,
        header: &Header<'_>,
        received: usize,
        now: Instant,
    ) {
        let id = self.shared.issue_connection_id();
        // Nothing is kept for this stranger: the id comes back to us in his next Initial.
        self.shared.release_id(id);
        let mut packet = [0; RETRY_BYTES_MAX];
        let clock = Clock { now, unix: unix_time() };
        let length = match self.retry.answer(header, received, meta.addr, id, clock, &mut packet) {
            Ok(length) => length,
            Err(Unanswered::NotAnInitial) => {
                self.counters.dropped_invalid += 1;
                return;
            }
            Err(Unanswered::Rate(_)) => {
                self.counters.retries_limited += 1;
                return;
            }
        };
        self.counters.retries_sent += 1;
        let packet = packet.get(..length).unwrap_or_default();
        if let Some(port) = self.ports.get_mut(port) {
            port.send(meta.addr, meta.dst_ip, packet, length, None);
        }
    }

    fn accept_leg(
        &mut self,
        port: usize,
        meta: &RecvMeta,
        id: WireId,
        original: &ConnectionId<'_>,
    ) -> Option<usize> {
        if !self.may_start_handshake() || self.connections.len() >= self.config.limits.legs_max {
            self.counters.handshakes_limited += 1;
            return None;
        }
        let reset_token = self.resets.token(id);
        let tls = self.tls.as_mut()?;
        tls.set_now(unix_time());
        let config = tls.leg_server(reset_token);
        let quic = quiche::accept(
            &ConnectionId::from_ref(&id.0),
            Some(original),
            VIRTUAL_LOCAL,
            meta.addr,
            config,
        )
        .ok()?;
        let leg = Leg { remote: meta.addr, port, src_ip: meta.dst_ip, ping_deadline: None };
        let connection =
            Connection::new(self.shared.issue_handle(), quic, true, Kind::Leg(leg), Meter::new());
        Some(self.insert(connection, id))
    }

    /// Returns the tunnel that a long header in a channel belongs to, made if it may be.
    pub(super) fn tunnel_of_long(
        &mut self,
        pair: PairId,
        receive_id: WireId,
        packet: &[u8],
        now: Instant,
    ) -> Option<usize> {
        if let Some(Target::Connection(key)) =
            long_destination(packet).and_then(|id| self.ids.get(&id)).copied()
        {
            return Some(key);
        }
        let Ok(header) = Header::from_slice(&mut packet.to_vec(), WireId::LENGTH) else {
            self.counters.dropped_invalid += 1;
            return None;
        };
        let client_id = header.dcid.to_vec();
        if let Some(key) = self.initials.get(&(receive_id, client_id.clone())) {
            return Some(*key);
        }
        let may_start = self.config.role == Role::Connector
            && header.ty == Type::Initial
            && header.version == quiche::PROTOCOL_VERSION
            && packet.len() >= INITIAL_MIN
            && self.stopping.is_none();
        if !may_start {
            self.counters.dropped_unknown_id += 1;
            return None;
        }
        let under_way = self
            .initials
            .range((receive_id, Vec::new())..)
            .take_while(|(key, _)| key.0 == receive_id)
            .filter(|(_, key)| {
                self.connections.get(**key).is_some_and(|it| it.handshake_until.is_some())
            })
            .count();
        if under_way >= HANDSHAKES_A_CHANNEL_MAX || !self.may_start_handshake() {
            self.counters.handshakes_limited += 1;
            return None;
        }

        let tls = self.tls.as_mut()?;
        tls.set_now(unix_time());
        let near = self.pairs.get(&pair).is_some_and(Pair::is_near);
        let config = tls.tunnel_server(near);
        let id = self.shared.issue_connection_id();
        let quic = quiche::accept(
            &ConnectionId::from_ref(&id.0),
            None,
            VIRTUAL_LOCAL,
            VIRTUAL_PEER,
            config,
        )
        .ok()?;
        let key = self.insert_tunnel(quic, true, pair, id, None, now);
        // Kept as long as the tunnel: a late copy of its first packet starts no other.
        let initial = (receive_id, client_id);
        if let Some(tunnel) = self.connections.get_mut(key).and_then(Connection::tunnel_mut) {
            tunnel.initial = Some(initial.clone());
        }
        self.initials.insert(initial, key);
        Some(key)
    }

    /// Adds a tunnel with the paths that its pair has at this moment.
    pub(super) fn insert_tunnel(
        &mut self,
        quic: crate::connection::Quic,
        accepted: bool,
        pair: PairId,
        id: WireId,
        handle: Option<crate::id::ConnectionHandle>,
        now: Instant,
    ) -> usize {
        let side = if accepted { PathSide::Connector } else { PathSide::Agent };
        let random = Box::new(|| {
            let mut id = [0; 12];
            super::fill_random(&mut id);
            id
        });
        let budget = self.check_budget.clone();
        let paths = PathSet::new(side, PathPolicy::default(), random, budget, now);
        let tunnel = Tunnel::new(pair, paths);
        let handle = handle.unwrap_or_else(|| self.shared.issue_handle());
        let connection =
            Connection::new(handle, quic, accepted, Kind::Tunnel(Box::new(tunnel)), Meter::new());
        let key = self.insert(connection, id);
        self.pairs.entry(pair).or_default().tunnels.push(key);
        self.sync_routes(pair, now);
        key
    }

    /// Gives a connection its slot, its handle and its id.
    pub(super) fn insert(&mut self, mut connection: Connection, id: WireId) -> usize {
        connection.source_ids.push(id);
        connection.handshake_until = Some(clock() + self.handshake_wait());
        let handle = connection.handle;
        let key = self.connections.insert(connection);
        self.handles.insert(handle, key);
        self.ids.insert(id, Target::Connection(key));
        self.handshakes += 1;
        key
    }

    /// Returns how long a handshake may keep its place: not long where places are rare.
    pub(super) fn handshake_wait(&self) -> Duration {
        let is_crowded = self.handshakes > self.config.limits.handshakes_max / 2;
        if is_crowded { HANDSHAKE_WAIT_CROWDED } else { HANDSHAKE_WAIT }
    }

    pub(super) fn may_start_handshake(&self) -> bool {
        self.handshakes < self.config.limits.handshakes_max
    }

    /// Counts a refused handshake and tells of it, within reason.
    pub(super) fn tell_refusal(
        &mut self,
        remote: Option<SocketAddr>,
        reason: &'static str,
        detail: String,
        second: u64,
    ) {
        self.counters.handshakes_refused += 1;
        if self.refusals_told.0 != second {
            self.refusals_told = (second, 0);
        }
        if self.refusals_told.1 < REFUSALS_TOLD_A_SECOND {
            self.refusals_told.1 += 1;
            self.events.push(Event::HandshakeRefused { remote, reason, detail });
        }
    }
}

//! What happens to a connection after packets or timers moved it: handshake, admission, frames, end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::connection::{Connection, Ending, Kind, Stage};
use crate::event::{ClosedBy, Event, PathChange};
use crate::id::{ConnectionHandle, PairId};
use crate::path::PathSetEvent;
use crate::tls::refusal_of;

use super::plane::{Plane, unix_time};

/// Chains of live connections are judged again this often (`docs/protocol.md`, transport and TLS).
pub(super) const JUDGEMENT_INTERVAL: Duration = Duration::from_secs(30);
/// Close codes that this layer gives.
pub(super) mod close {
    pub(in crate::endpoint) const PROTOCOL_VIOLATION: u64 = 1;
    pub(in crate::endpoint) const UNAUTHENTICATED: u64 = 2;
    pub(in crate::endpoint) const REVOKED: u64 = 5;
    pub(in crate::endpoint) const LIMIT_EXCEEDED: u64 = 6;
}

impl Plane {
    pub(super) fn drive_dirty(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(key) = self.dirty.get(index).copied() {
            self.drive(key, now);
            index += 1;
        }
    }

    fn drive(&mut self, key: usize, now: Instant) {
        self.advance_handshake(key);
        self.read_control(key);
        let is_tunnel = self.connections.get(key).is_some_and(|it| it.tunnel().is_some());
        if is_tunnel {
            self.relieve(key, now);
        }
        self.note_end(key, now);
        if is_tunnel {
            self.note_stats(key, now);
            self.poll_paths(key, now);
            self.serve_waiting_of(key, now);
            // Streams first: a header that came with its datagrams makes them belong to somebody.
            self.note_readable_flows(key, now);
            self.read_datagrams(key, now);
        }
    }

    fn advance_handshake(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.stage != Stage::Handshaking || !connection.quic.is_established() {
            return;
        }
        connection.stage = Stage::Judging;
        connection.handshake_until = None;
        self.handshakes = self.handshakes.saturating_sub(1);
        self.counters.handshakes_done += 1;

        let chain = chain_of(connection);
        let judged = match &self.tls {
            Some(tls) => tls.judge_for_life(&chain, connection.accepted, unix_time()),
            None => return connection.close(close::UNAUTHENTICATED, "no TLS material"),
        };
        let leaf = match judged {
            Ok((leaf, standing)) => {
                connection.standing = Some(standing);
                leaf
            }
            // The material changed while the handshake was under way.
            Err(refusal) => return connection.close(close::UNAUTHENTICATED, refusal.reason),
        };
        let (remote, pair) = match &connection.kind {
            Kind::Leg(leg) => (Some(leg.remote), None),
            Kind::Tunnel(tunnel) => (None, Some(tunnel.pair)),
        };
        self.events.push(Event::Handshake {
            connection: connection.handle,
            kind: connection.event_kind(),
            accepted: connection.accepted,
            remote,
            pair,
            leaf,
            chain,
        });
        self.issue_spare_id(key);
    }

    /// Each side of a tunnel hands out one spare id, so that a second congestion context can be added
    /// without a change on the wire.
    fn issue_spare_id(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.tunnel().is_none() || connection.quic.scids_left() == 0 {
            return;
        }
        let id = self.shared.issue_connection_id();
        let mut token = [0; 16];
        super::fill_random(&mut token);
        let cid = quiche::ConnectionId::from_ref(&id.0);
        if connection.quic.new_scid(&cid, u128::from_be_bytes(token), false).is_ok() {
            connection.source_ids.push(id);
            self.ids.insert(id, super::plane::Target::Connection(key));
        }
    }

    /// Tells the end of a connection as soon as it is certain: what is left of it only waits for late
    /// packets.
    fn note_end(&mut self, key: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let quic = &connection.quic;
        let ends = connection.closing.is_some()
            || quic.local_error().is_some()
            || quic.is_draining()
            || quic.is_closed();
        if !ends || connection.end_told {
            return;
        }
        connection.stage = Stage::Closing;
        connection.end_told = true;
        let ending = ending_of(connection);
        let (handle, kind) = (connection.handle, connection.event_kind());
        if let Some(tunnel) = connection.tunnel_mut() {
            let flows = std::mem::take(&mut tunnel.flows);
            self.forget_tunnel(key);
            self.end_flows(flows.into_values(), now);
        }
        self.events.push(Event::Closed {
            connection: handle,
            kind,
            by: ending.by,
            code: ending.code,
            application: ending.application,
            reason: ending.reason,
        });
    }

    /// Tells the paths what QUIC lost, for their packets may be too large, and looks for streams that end.
    fn note_stats(&mut self, key: usize, now: Instant) {
        let Some(Connection { quic, kind: Kind::Tunnel(tunnel), .. }) =
            self.connections.get_mut(key)
        else {
            return;
        };
        // Once: quiche visits every stream for it.
        let stats = quic.stats();
        let more = stats.lost.saturating_sub(tunnel.lost_packets);
        if more > 0 {
            tunnel.lost_packets = stats.lost;
            tunnel.paths.on_quic_lost(more as u64, now);
        }
        tunnel.ending.handle_packets(quic, stats.stopped_stream_count_remote);
        if tunnel.ending.wants_timeout() {
            self.want_sweep(now);
        }
    }

    fn poll_paths(&mut self, key: usize, now: Instant) {
        loop {
            let Some(connection) = self.connections.get_mut(key) else { return };
            let handle = connection.handle;
            let Some(tunnel) = connection.tunnel_mut() else { return };
            let Some(event) = tunnel.paths.poll_event() else { return };
            let pair = tunnel.pair;
            let (path, change, rtt) = match event {
                PathSetEvent::Proven { path, rtt } => (path, PathChange::Proven, rtt),
                PathSetEvent::Selected { path, reason } => {
                    (path, PathChange::Selected(reason), Duration::ZERO)
                }
                PathSetEvent::Suspect { path } => (path, PathChange::Suspect, Duration::ZERO),
                PathSetEvent::Recovered { path, rtt } => (path, PathChange::Recovered, rtt),
                PathSetEvent::Lost { path } => (path, PathChange::Lost, Duration::ZERO),
                PathSetEvent::Mtu { path, size } => (path, PathChange::Mtu(size), Duration::ZERO),
                PathSetEvent::PingLegs { path, stranded } => {
                    let relay = tunnel.route(path).map(|route| route.remote);
                    self.ping_legs_of(pair, relay.filter(|_| !stranded), now);
                    continue;
                }
                PathSetEvent::AllSilent(silent) => {
                    self.events.push(Event::TunnelSilent { tunnel: handle, silent });
                    if silent {
                        // Takes no new flow until its owner grants it again.
                        self.forget_tunnel(key);
                    }
                    continue;
                }
                PathSetEvent::WantsAck => {
                    // Closed: the end is on its way already.
                    let _ = connection.quic.send_ack_eliciting();
                    continue;
                }
            };
            if let Some(name) = tunnel.path_name(path) {
                let rtt_us = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX);
                self.events.push(Event::Path { tunnel: handle, path: name, change, rtt_us });
            }
        }
    }

    /// PINGs the legs of a pair's relays, or of one of them.
    fn ping_legs_of(&mut self, pair: PairId, relay: Option<SocketAddr>, now: Instant) {
        let legs: Vec<_> = self
            .pairs
            .get(&pair)
            .map(|pair| {
                pair.channels
                    .iter()
                    .filter(|channel| relay.is_none_or(|relay| channel.relay == relay))
                    .map(|channel| channel.leg)
                    .collect()
            })
            .unwrap_or_default();
        for leg in legs {
            self.ping_leg(leg, now);
        }
    }

    /// QUIC refused a packet: that is the peer's affair, except when it ended a handshake.
    pub(super) fn note_recv_error(&mut self, key: usize, error: quiche::Error) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if error == quiche::Error::Done || connection.stage != Stage::Handshaking {
            return;
        }
        let remote = match &connection.kind {
            Kind::Leg(leg) => Some(leg.remote),
            Kind::Tunnel(_) => None,
        };
        let Some(refusal) = refusal_of(&mut connection.quic) else { return };
        let alert = connection.quic.local_error().map_or(0, |it| it.error_code);
        connection.closing = Some(Ending {
            by: ClosedBy::Local,
            code: alert,
            application: false,
            reason: format!("{}: {}", refusal.reason, refusal.detail),
        });
        self.tell_refusal(
            remote,
            refusal.reason,
            refusal.detail,
            u64::try_from(unix_time()).unwrap_or_default(),
        );
    }

    /// Judges every live connection's chain again.
    pub(super) fn judge_all(&mut self) {
        let Some(tls) = &self.tls else { return };
        let now = unix_time();
        tls.set_now(now);
        let mut ended = Vec::new();
        for (key, connection) in &mut self.connections {
            let is_live = matches!(connection.stage, Stage::Judging | Stage::Admitted);
            if !is_live {
                continue;
            }
            let accepted = connection.accepted;
            let Some(mut standing) = connection.standing.take() else { continue };
            let verdict = tls.judge_again(&mut standing, || chain_of(connection), accepted, now);
            connection.standing = Some(standing);
            if let Err(refusal) = verdict {
                let code = match refusal.reason {
                    "revoked" => close::REVOKED,
                    _ => close::UNAUTHENTICATED,
                };
                connection.close(code, refusal.reason);
                ended.push((key, refusal));
            }
        }
        for (key, refusal) in ended {
            self.mark_dirty(key);
            self.tell_refusal(None, refusal.reason, refusal.detail, now.unsigned_abs());
        }
    }

    /// Removes a connection that QUIC is done with.
    pub(super) fn finish(&mut self, key: usize, now: Instant) {
        self.note_end(key, now);
        let Some(mut connection) = self.connections.try_remove(key) else { return };
        self.counters.connections_closed += 1;
        if connection.handshake_until.is_some() {
            self.handshakes = self.handshakes.saturating_sub(1);
        }
        self.handles.remove(&connection.handle);
        for id in connection.source_ids.drain(..) {
            self.ids.remove(&id);
            self.shared.release_id(id);
        }
        match &connection.kind {
            Kind::Leg(leg) if self.is_relay() => {
                self.channels.set_leg_address(connection.handle, None);
                self.forget_source(leg.remote, connection.handle);
            }
            Kind::Leg(_) => self.dialled_legs.retain(|dialled| *dialled != key),
            Kind::Tunnel(tunnel) => {
                if let Some(initial) = &tunnel.initial {
                    self.initials.remove(initial);
                }
                self.flows.note_reassembly(&tunnel.reassembler);
                if let Some(pair) = self.pairs.get_mut(&tunnel.pair) {
                    pair.tunnels.retain(|it| *it != key);
                    if pair.tunnels.is_empty() && pair.channels.is_empty() {
                        self.pairs.remove(&tunnel.pair);
                    }
                }
            }
        }
    }

    /// Forgets how a leg's address is reached, unless another leg is there: a client opens its next leg
    /// from the same socket.
    fn forget_source(&mut self, remote: SocketAddr, leg: ConnectionHandle) {
        if self.sources.get(&remote).is_some_and(|source| source.leg == leg) {
            self.sources.remove(&remote);
        }
    }
}

fn chain_of(connection: &Connection) -> Vec<Vec<u8>> {
    let chain = connection.quic.peer_cert_chain().unwrap_or_default();
    chain.into_iter().map(<[u8]>::to_vec).collect()
}

fn ending_of(connection: &Connection) -> Ending {
    if let Some(ending) = &connection.closing {
        return ending.clone();
    }
    let quic = &connection.quic;
    let (by, error) = if let Some(error) = quic.peer_error() {
        (ClosedBy::Peer, Some(error))
    } else if quic.is_timed_out() {
        (ClosedBy::IdleTimeout, None)
    } else if let Some(error) = quic.local_error() {
        (ClosedBy::Local, Some(error))
    } else {
        (ClosedBy::StatelessReset, None)
    };
    Ending {
        by,
        code: error.map_or(0, |it| it.error_code),
        application: error.is_some_and(|it| it.is_app),
        reason: error
            .map_or_else(String::new, |it| String::from_utf8_lossy(&it.reason).into_owned()),
    }
}

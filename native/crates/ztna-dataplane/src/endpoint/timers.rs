//! One lazy heap of deadlines: an entry that was overtaken is re-armed when it comes up.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::connection::{Kind, Stage};
use crate::event::Event;
use crate::id::ConnectionHandle;

use super::drive::{JUDGEMENT_INTERVAL, close};
use super::plane::Plane;
use super::pressure::HOARDING_MAX;

/// A leg's client sends a PING this often (`docs/protocol.md`, transport and TLS).
const LEG_KEEPALIVE: Duration = Duration::from_secs(10);
/// A tunnel's agent sends a PING this often while the tunnel has a grant.
const TUNNEL_KEEPALIVE: Duration = Duration::from_secs(45);
/// A leg is silent when nothing came this long after a PING, or four round trips if that is longer.
const PING_TIMEOUT_MIN: Duration = Duration::from_millis(300);

impl Plane {
    pub(super) fn until_next_timer(&self, now: Instant) -> Option<Duration> {
        let heap = self.timers.peek().map(|Reverse((at, _))| *at);
        let deadlines = [
            heap,
            Some(self.next_judgement),
            self.flow_timeout(),
            self.stopping,
            self.link_timeout(),
            self.ping_timeout(),
            self.reports.poll_timeout(),
            (!self.control_waits()).then_some(now),
        ];
        deadlines.into_iter().flatten().min().map(|at| at.saturating_duration_since(now))
    }

    pub(super) fn serve_timers(&mut self, now: Instant) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            self.serve_connection_timer(key, at, now);
        }
        self.resume_control();
        if self.handshakes > 0 {
            self.tell_tls_the_time();
        }
        if now >= self.next_judgement {
            self.next_judgement = now + JUDGEMENT_INTERVAL;
            self.judge_all();
        }
        self.serve_flow_timers(now);
        self.serve_links(now);
        self.serve_pings(now);
    }

    fn serve_connection_timer(&mut self, key: usize, at: Instant, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.armed != Some(at) {
            return;
        }
        connection.armed = None;
        if connection.quic.timeout_instant().is_some_and(|due| due <= now) {
            connection.quic.on_timeout();
        }
        if connection.handshake_until.is_some_and(|due| due <= now) {
            connection.handshake_until = None;
            self.handshakes = self.handshakes.saturating_sub(1);
            connection.close(close::UNAUTHENTICATED, "handshake not finished in time");
        }
        if connection.keepalive_at.is_some_and(|due| due <= now) {
            let interval = match &connection.kind {
                Kind::Leg(_) => LEG_KEEPALIVE,
                Kind::Tunnel(_) => TUNNEL_KEEPALIVE,
            };
            connection.keepalive_at = Some(now + interval);
            let is_of_use = connection
                .tunnel()
                .is_none_or(|tunnel| !(tunnel.flows.is_empty() && tunnel.grants.is_empty()));
            if is_of_use {
                // Closed: nothing to keep alive.
                let _ = connection.quic.send_ack_eliciting();
            }
        }
        let handle = connection.handle;
        match &mut connection.kind {
            Kind::Leg(leg) => {
                if leg.ping_deadline.is_some_and(|due| due <= now) {
                    leg.ping_deadline = None;
                    self.events.push(Event::LegSilent { connection: handle });
                }
            }
            Kind::Tunnel(tunnel) => {
                if tunnel.paths.poll_timeout().is_some_and(|due| due <= now) {
                    tunnel.paths.handle_timeout(now);
                }
            }
        }
        self.mark_dirty(key);
    }

    /// Arms a connection's timer for its earliest deadline.
    pub(super) fn arm(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let own = match &connection.kind {
            Kind::Leg(leg) => leg.ping_deadline,
            Kind::Tunnel(tunnel) => tunnel.paths.poll_timeout(),
        };
        let hoards_since = connection.tunnel().and_then(|tunnel| tunnel.hoards_since);
        let deadlines = [
            hoards_since.map(|since| since + HOARDING_MAX),
            connection.quic.timeout_instant(),
            connection.keepalive_at,
            connection.handshake_until,
            connection.acknowledge_at,
            own,
        ];
        let Some(deadline) = deadlines.into_iter().flatten().min() else { return };
        if connection.armed.is_none_or(|armed| deadline < armed) {
            connection.armed = Some(deadline);
            self.timers.push(Reverse((deadline, key)));
        }
    }

    /// Starts keepalives on the side that sends them: whoever dialled.
    pub(super) fn start_keepalive(&mut self, key: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.accepted || connection.stage != Stage::Admitted {
            return;
        }
        let interval = match &connection.kind {
            Kind::Leg(_) => LEG_KEEPALIVE,
            Kind::Tunnel(_) => TUNNEL_KEEPALIVE,
        };
        connection.keepalive_at = Some(now + interval);
    }

    pub(super) fn ping_leg(&mut self, handle: ConnectionHandle, now: Instant) {
        let Some(key) = self.handles.get(&handle).copied() else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let srtt = connection.quic.path_stats().next().map_or(Duration::ZERO, |stats| stats.rtt);
        if connection.quic.send_ack_eliciting().is_err() {
            return;
        }
        if let Some(leg) = connection.leg_mut()
            && leg.ping_deadline.is_none()
        {
            leg.ping_deadline = Some(now + PING_TIMEOUT_MIN.max(srtt * 4));
        }
        self.mark_dirty(key);
    }
}

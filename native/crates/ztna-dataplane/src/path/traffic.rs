//! QUIC's packets as paths see them: silence clocks, copies for replay, and whether the tunnel is
//! active.
//!
//! Runs once a batch at 100,000 packets a second and more, so it does no work by packet.

use std::time::{Duration, Instant};

use super::replay::{RING_BYTES_MIN, RING_BYTES_ONE_PATH, ReplayRing};
use super::{PathId, PathSet, PathSetEvent, PathSide};

/// A tunnel is active this long after the last data.
const ACTIVE_FOR: Duration = Duration::from_secs(2);
/// Longer packets start the silence clock: not even acknowledgements of many gaps are.
const ANSWER_DESERVED_ABOVE: usize = 100;
/// Longer packets are data, if only a key stroke; acknowledgements on a quiet tunnel are shorter.
const DATA_ABOVE: usize = 64;
/// A short packet is data this long after user data was handed to QUIC: it may wait for the window.
const DATA_LASTS: Duration = Duration::from_millis(50);
/// Packets of a replay that leave at once, and in each further portion.
const REPLAY_PORTION: u32 = 64;
const REPLAY_PACE_MIN: Duration = Duration::from_millis(1);
const REPLAY_PACE_MAX: Duration = Duration::from_millis(10);
/// Over which the sending rate is measured.
const RATE_WINDOW: Duration = Duration::from_millis(100);
/// Newest packets that are sent when a path comes back after none was alive, and how often.
const RESUME_PACKETS: usize = 8;
const RESUME_TRIES: u8 = 8;

/// What is remembered of QUIC's packets.
#[derive(Debug)]
pub(super) struct Traffic {
    pub(super) ring: ReplayRing,
    /// The path of the peer's last QUIC packets.
    pub(super) peer_path: Option<PathId>,
    /// Since when they come on another path than the selected one.
    pub(super) peer_elsewhere_since: Option<Instant>,
    pub(super) active_until: Option<Instant>,
    /// Short packets are data until then.
    data_until: Option<Instant>,
    /// Packets of the replay that may leave at once, and when the next portion may.
    credit: u32,
    pub(super) next_portion_at: Option<Instant>,
    rate: Rate,
    /// Tries left to get QUIC going after a total outage.
    resume_tries: u8,
}

#[derive(Debug)]
struct Rate {
    bytes_per_second: u64,
    window_at: Instant,
    window_bytes: u64,
}

impl Traffic {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            ring: ReplayRing::default(),
            peer_path: None,
            peer_elsewhere_since: None,
            active_until: None,
            data_until: None,
            credit: 0,
            next_portion_at: None,
            rate: Rate { bytes_per_second: 0, window_at: now, window_bytes: 0 },
            resume_tries: 0,
        }
    }
}

impl PathSet {
    /// QUIC packets of this tunnel came in on a path: once a receive buffer, with its octets and its
    /// packets.
    pub fn on_quic_received(&mut self, id: PathId, bytes: usize, packets: u32, now: Instant) {
        self.now = now;
        let selected = self.selection.selected;
        let Some(path) = self.path_mut(id) else { return };
        path.received_bytes += bytes as u64;
        path.checks.handle_quic_heard(now);
        // It is heard again: one answered check away from use.
        path.triggered |= path.is_suspect();
        self.traffic.peer_path = Some(id);
        self.traffic.resume_tries = 0;
        if bytes > DATA_ABOVE * packets.max(1) as usize {
            self.traffic.active_until = Some(now + ACTIVE_FOR);
        }
        if selected == Some(id) {
            self.traffic.peer_elsewhere_since = None;
        } else {
            self.traffic.peer_elsewhere_since.get_or_insert(now);
            if self.side == PathSide::Connector {
                self.follow_arrivals(id);
            }
        }
    }

    /// User data is handed to QUIC or came out of it: the tunnel is active, however short its packets.
    pub fn on_user_data(&mut self, now: Instant) {
        self.now = now;
        self.traffic.active_until = Some(now + ACTIVE_FOR);
        self.traffic.data_until = Some(now + DATA_LASTS);
    }

    /// A train of QUIC packets goes out on the selected path: `segment` octets each, the last perhaps
    /// shorter, of which the first `prefix` are the channel's. Packets of more than 64 octets are
    /// taken for data, those of more than 100 are certain to deserve an answer.
    pub fn on_quic_sent(&mut self, packets: &[u8], segment: usize, prefix: usize, now: Instant) {
        self.now = now;
        let Some(selected) = self.selection.selected else { return };
        let limit = self.ring_limit(selected);
        let peer_answers_here = self.traffic.peer_path == Some(selected);
        let is_data = self.traffic.data_until.is_some_and(|until| now < until);
        let Some(path) = self.path_mut(selected) else { return };
        path.sent_bytes += packets.len() as u64;
        let longest = segment.min(packets.len()).saturating_sub(prefix);
        if longest <= DATA_ABOVE && !is_data {
            self.traffic.ring.record_short(packets, segment, prefix);
            return;
        }
        if peer_answers_here && longest > ANSWER_DESERVED_ABOVE {
            path.checks.handle_quic_sent(now);
        }
        self.traffic.active_until = Some(now + ACTIVE_FOR);
        self.traffic.ring.record(packets, segment, prefix, limit, now);
        self.traffic.rate.count(packets.len(), now);
    }

    /// QUIC declared packets lost: the size in use may be too large.
    pub fn on_quic_lost(&mut self, packets: u64, now: Instant) {
        self.now = now;
        let selected = self.selection.selected;
        if let Some(path) = selected.and_then(|id| self.path_mut(id)) {
            path.size.handle_losses(packets, now);
        }
    }

    /// This side stood still for longer than 10 ms and heard nothing meanwhile.
    pub fn handle_stall(&mut self, stall: Duration) {
        self.paths.iter_mut().for_each(|path| path.checks.handle_stall(stall));
    }

    pub(super) fn is_active(&self) -> bool {
        self.traffic.active_until.is_some_and(|until| self.now < until)
    }

    /// Replays on the selected path what may not have arrived.
    pub(super) fn replay_since(&mut self, since: Instant) {
        self.traffic.ring.replay_since(since);
        self.traffic.resume_tries = RESUME_TRIES;
        self.start_replay();
    }

    /// A path came back after none was alive: sends what opens QUIC's window again.
    pub(super) fn start_resuming(&mut self) {
        self.traffic.resume_tries = RESUME_TRIES;
        self.resume();
    }

    /// Tries again until the peer's QUIC packets show that it worked.
    pub(super) fn resume(&mut self) {
        if self.traffic.resume_tries > 0 && !self.traffic.ring.is_replaying() {
            self.traffic.resume_tries -= 1;
            self.traffic.ring.replay_newest(RESUME_PACKETS);
            self.start_replay();
        }
    }

    fn start_replay(&mut self) {
        self.traffic.credit = REPLAY_PORTION;
        self.traffic.next_portion_at = None;
        self.emit(PathSetEvent::WantsAck);
    }

    /// Copies the next packet to replay, if its portion is due.
    pub(super) fn next_replayed(&mut self, out: &mut [u8]) -> Option<(PathId, usize)> {
        let selected = self.selection.selected?;
        if self.traffic.credit == 0 {
            return None;
        }
        let Some(size) = self.traffic.ring.next_packet(out) else {
            // Nothing left, or nothing that fits: packets are never larger than the buffer.
            self.traffic.ring.stop_replay();
            return None;
        };
        self.traffic.credit -= 1;
        if self.traffic.credit == 0 && self.traffic.ring.is_replaying() {
            self.traffic.next_portion_at = Some(self.now + self.traffic.rate.portion_time());
        }
        if let Some(path) = self.path_mut(selected) {
            path.sent_bytes += size as u64;
        }
        Some((selected, size))
    }

    /// Lets the next portion of a replay go and gives the copies' memory back when the tunnel rests.
    pub(super) fn expire_traffic(&mut self) {
        if self.traffic.next_portion_at.is_some_and(|at| at <= self.now) {
            self.traffic.next_portion_at = None;
            self.traffic.credit = REPLAY_PORTION;
        }
        if !self.is_active() && !self.traffic.ring.is_replaying() {
            self.traffic.active_until = None;
            if self.traffic.ring.is_allocated() {
                self.traffic.ring.release();
            }
        }
    }

    /// Twice what is under way until a silence is noticed.
    fn ring_limit(&self, selected: PathId) -> usize {
        if self.paths.len() < 2 {
            return RING_BYTES_ONE_PATH;
        }
        let Some(path) = self.path(selected) else { return RING_BYTES_MIN };
        let time =
            path.checks.silence(self.policy.silence_min) + path.checks.srtt().unwrap_or_default();
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bytes = self.traffic.rate.bytes_per_second.saturating_mul(2).saturating_mul(micros);
        usize::try_from(bytes / 1_000_000).unwrap_or(usize::MAX).max(RING_BYTES_MIN)
    }
}

impl Rate {
    fn count(&mut self, bytes: usize, now: Instant) {
        self.window_bytes += bytes as u64;
        let elapsed = now.saturating_duration_since(self.window_at);
        if elapsed >= RATE_WINDOW {
            let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            let measured = self.window_bytes.saturating_mul(1_000) / millis.max(1);
            // Rises at once, so that a burst finds room, and falls by halves.
            self.bytes_per_second = measured.max(self.bytes_per_second.midpoint(measured));
            self.window_at = now;
            self.window_bytes = 0;
        }
    }

    /// Returns how long a portion of a replay takes at twice the rate at which it was sent.
    fn portion_time(&self) -> Duration {
        let bytes = u64::from(REPLAY_PORTION) * 1_452;
        let nanos = bytes.saturating_mul(1_000_000_000) / (2 * self.bytes_per_second).max(1);
        Duration::from_nanos(nanos).clamp(REPLAY_PACE_MIN, REPLAY_PACE_MAX)
    }
}

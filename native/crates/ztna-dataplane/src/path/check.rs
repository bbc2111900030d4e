//! One path's checks: what is under way, round-trip time, jitter, and whether the path is silent.
//!
//! - **A response counts once, within 5 s, on the path of its request.** Requests are found by their
//!   96 random bits.
//! - **The silence clock starts at the first packet that deserves an answer** since anything was heard
//!   here. A path is silent when the clock passes T and two checks at least 15 ms apart are unanswered,
//!   the later one long enough to have been; or, although packets are heard (one direction is dead),
//!   when two checks in a row stay unanswered over 2 T.
//! - **Padded checks are no evidence of death**: a size may be all that is wrong with them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::stun::TransactionId;

/// How long a response is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Requests under way on one path: 5 s of one each 50 ms, and those of a suspicion.
const OUTSTANDING_MAX: usize = 128;
/// Checks closer than this fail together.
pub(super) const CHECK_SPACING: Duration = Duration::from_millis(15);
/// Before the first answer (RFC 9002 §6.2.2).
const INITIAL_RTT: Duration = Duration::from_millis(333);
/// What scheduling on both sides may add to a round trip.
const GRACE: Duration = Duration::from_millis(3);

/// One request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outstanding {
    pub(super) transaction: TransactionId,
    /// Of the credentials it was signed with.
    pub(super) generation: u32,
    /// The tested size of a padded one.
    pub(super) size: Option<u16>,
    /// The choice it told of.
    pub(super) selection: Option<u32>,
    sent_at: Instant,
    /// This side stood still meanwhile, so the answer's time is no round trip.
    skewed: bool,
}

/// Liveness and timing of one path.
#[derive(Debug, Default)]
pub(super) struct Checks {
    outstanding: VecDeque<Outstanding>,
    srtt: Option<Duration>,
    jitter: Duration,
    last_sent: Option<Instant>,
    last_answered: Option<Instant>,
    first_unanswered: Option<Instant>,
    /// The first check at least [`CHECK_SPACING`] after `first_unanswered`.
    second_unanswered: Option<Instant>,
    /// Answered in a row, and the first of them.
    row: u32,
    row_since: Option<Instant>,
    heard_at: Option<Instant>,
    quic_heard_at: Option<Instant>,
    waiting: Option<Waiting>,
}

/// Something was sent that deserves an answer and nothing was heard since.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    for_quic: bool,
}

impl Checks {
    /// A request goes out.
    pub(super) fn handle_sent(
        &mut self,
        transaction: TransactionId,
        generation: u32,
        size: Option<u16>,
        selection: Option<u32>,
        now: Instant,
    ) {
        if self.outstanding.len() >= OUTSTANDING_MAX {
            self.outstanding.pop_front();
        }
        let check =
            Outstanding { transaction, generation, size, selection, sent_at: now, skewed: false };
        self.outstanding.push_back(check);
        if size.is_some() {
            return;
        }
        self.last_sent = Some(now);
        match self.first_unanswered {
            None => self.first_unanswered = Some(now),
            Some(first) if self.second_unanswered.is_none() && now >= first + CHECK_SPACING => {
                self.second_unanswered = Some(now);
            }
            Some(_) => {}
        }
        self.waiting.get_or_insert(Waiting { since: now, for_quic: false });
    }

    /// Returns the request that a response belongs to, if it is still waited for.
    pub(super) fn find(&self, transaction: TransactionId, now: Instant) -> Option<Outstanding> {
        let waited_for = |check: &&Outstanding| {
            check.transaction == transaction && now <= check.sent_at + ANSWER_WITHIN
        };
        self.outstanding.iter().rev().find(waited_for).copied()
    }

    /// A verified response came: the request cannot be answered again.
    pub(super) fn handle_answer(&mut self, check: Outstanding, now: Instant) {
        let earlier = |other: &Outstanding| other.size.is_none() && other.sent_at < check.sent_at;
        let unbroken = !self.outstanding.iter().any(earlier);
        // What was asked before and is not answered yet has nothing left to tell.
        self.outstanding.retain(|other| other.transaction != check.transaction && !earlier(other));
        if !check.skewed && check.size.is_none() {
            self.sample(now.saturating_duration_since(check.sent_at));
        }
        if self.row == 0 || !unbroken {
            self.row = 0;
            self.row_since = Some(now);
        }
        self.row = self.row.saturating_add(1);
        self.last_answered = Some(now);
        let mut later =
            self.outstanding.iter().filter(|other| other.size.is_none()).map(|other| other.sent_at);
        self.first_unanswered = later.next();
        self.second_unanswered = self
            .first_unanswered
            .and_then(|first| later.find(|sent_at| *sent_at >= first + CHECK_SPACING));
        self.handle_heard(now);
    }

    /// Something of the peer's arrived on this path.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        self.heard_at = Some(now);
        self.waiting = None;
    }

    /// The peer's QUIC packets arrived on this path.
    pub(super) fn handle_quic_heard(&mut self, now: Instant) {
        self.handle_heard(now);
        self.quic_heard_at = Some(now);
    }

    /// QUIC packets that deserve an answer on this path go out.
    pub(super) fn handle_quic_sent(&mut self, now: Instant) {
        self.waiting.get_or_insert(Waiting { since: now, for_quic: true });
    }

    /// This side stood still: what it did not hear meanwhile is no silence.
    pub(super) fn handle_stall(&mut self, stall: Duration) {
        let clocks = [&mut self.first_unanswered, &mut self.second_unanswered];
        clocks.into_iter().flatten().for_each(|clock| *clock += stall);
        if let Some(waiting) = &mut self.waiting {
            waiting.since += stall;
        }
        for check in &mut self.outstanding {
            check.sent_at += stall;
            check.skewed = true;
        }
    }

    /// The path was judged silent: a row of answers starts anew.
    pub(super) fn handle_suspicion(&mut self) {
        self.row = 0;
        self.row_since = None;
    }

    /// Returns T.
    pub(super) fn silence(&self, silence_min: Duration) -> Duration {
        let srtt = self.srtt.unwrap_or(INITIAL_RTT);
        silence_min.max(srtt * 3 / 2 + Duration::from_millis(20) + 2 * self.jitter)
    }

    /// Returns the instant from which the path is silent unless something is heard.
    pub(super) fn silent_at(&self, silence_min: Duration) -> Option<Instant> {
        let (first, second) = (self.first_unanswered?, self.second_unanswered?);
        let t = self.silence(silence_min);
        let one_way = (first + 2 * t).max(second + t);
        let silent = self.waiting.map(|waiting| {
            (waiting.since + t).max(second + self.answer_time()).max(first + CHECK_SPACING)
        });
        Some(silent.map_or(one_way, |silent| silent.min(one_way)))
    }

    /// Returns when a check is due because the last ones are unanswered, on any path: a second one,
    /// then a few that tell loss from death.
    pub(super) fn confirm_at(&self) -> Option<Instant> {
        let first = self.first_unanswered?;
        let last = self.last_sent?;
        if self.second_unanswered.is_some() {
            return Some(last + CHECK_SPACING.max(self.rtt() / 4));
        }
        let pause = match self.waiting {
            // Packets and a check went unheard: the second check must be answerable before T.
            Some(Waiting { for_quic: true, .. }) => CHECK_SPACING.max(self.rtt() / 2),
            _ => CHECK_SPACING.max(self.answer_time() + Duration::from_millis(2)),
        };
        Some(first + pause)
    }

    /// Returns when a check is due because nothing was heard for 15 ms, on the selected path of an
    /// active tunnel.
    pub(super) fn probe_at(&self) -> Option<Instant> {
        let quiet_since = match self.waiting {
            Some(Waiting { since, for_quic: true }) => Some(since),
            _ => self.quic_heard_at,
        }?;
        let asked = self.last_sent.is_some_and(|sent| sent > quiet_since);
        (!asked).then_some(quiet_since + CHECK_SPACING)
    }

    /// Returns how long an answer takes when nothing is wrong.
    pub(super) fn answer_time(&self) -> Duration {
        self.rtt() + 2 * self.jitter + GRACE
    }

    /// Returns the smoothed round-trip time, if a check was answered.
    pub(super) fn srtt(&self) -> Option<Duration> {
        self.srtt
    }

    pub(super) fn jitter(&self) -> Duration {
        self.jitter
    }

    pub(super) fn last_sent(&self) -> Option<Instant> {
        self.last_sent
    }

    pub(super) fn last_answered(&self) -> Option<Instant> {
        self.last_answered
    }

    pub(super) fn first_unanswered(&self) -> Option<Instant> {
        self.first_unanswered
    }

    pub(super) fn heard_at(&self) -> Option<Instant> {
        self.heard_at
    }

    /// Returns since when something sent here waits for an answer.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        self.waiting.map(|waiting| waiting.since)
    }

    /// Returns how many checks in a row were answered, and over what time.
    pub(super) fn row(&self) -> (u32, Duration) {
        let span = self.last_answered.zip(self.row_since);
        let span = span.map(|(last, first)| last.saturating_duration_since(first));
        (self.row, span.unwrap_or_default())
    }

    fn rtt(&self) -> Duration {
        self.srtt.unwrap_or(INITIAL_RTT)
    }

    /// RFC 6298 §2: gains of 1/8 and 1/4.
    fn sample(&mut self, rtt: Duration) {
        let Some(srtt) = self.srtt else {
            self.srtt = Some(rtt);
            self.jitter = rtt / 2;
            return;
        };
        self.jitter = (self.jitter * 3 + srtt.abs_diff(rtt)) / 4;
        self.srtt = Some((srtt * 7 + rtt) / 8);
    }
}

#[cfg(test)]
#[path = "tests/check.rs"]
mod tests;

//! One path: its checks, its size, and what it went through.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::PathId;
use super::check::Checks;
use super::mtu::SizeSearch;
use crate::config::PathPreference;
use crate::event::PathName;

/// Proof lapses this long after the last answered check (consent, RFC 7675 §5.1).
pub(super) const PROOF_LASTS: Duration = Duration::from_secs(30);
/// A path that takes the traffic over has answered this lately.
const ANSWERED_LATELY: Duration = Duration::from_secs(2);
/// Answers in a row, and the least time between the first and the last, that end a suspicion's
/// consequences.
const RETURN_ROW: u32 = 3;
const RETURN_SPAN: Duration = Duration::from_millis(300);
/// A shorter silence is a hiccup and not counted against a path.
const DAMPED_SILENCE: Duration = Duration::from_secs(1);
const DAMPING_MAX: Duration = Duration::from_secs(60);

/// One way a tunnel's packets travel.
#[derive(Debug)]
pub(super) struct Path {
    pub(super) id: PathId,
    pub(super) name: PathName,
    pub(super) checks: Checks,
    pub(super) size: SizeSearch,
    /// When it was asked first; a direct path that proves nothing is asked for a while only.
    pub(super) asked_since: Option<Instant>,
    /// Checks sent since then.
    pub(super) attempts: usize,
    pub(super) suspect_since: Option<Instant>,
    /// A check is wanted at once.
    pub(super) triggered: bool,
    /// No check before this: the budget of its address was spent.
    pub(super) deferred_until: Option<Instant>,
    /// When a valid request of the peer last came this way.
    pub(super) requested_at: Option<Instant>,
    /// The traffic was taken from it because it fell silent.
    pub(super) left_suspect: bool,
    /// Demotions after which it was really silent, in a row.
    demotions: u32,
    /// Not selected by choice before this.
    pub(super) held_until: Option<Instant>,
    pub(super) selected_at: Option<Instant>,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    proven_once: bool,
}

impl Path {
    pub(super) fn new(id: PathId, name: PathName, now: Instant) -> Self {
        let direct = matches!(name, PathName::Direct(_));
        Self {
            id,
            name,
            checks: Checks::default(),
            size: SizeSearch::new(direct, now),
            asked_since: None,
            attempts: 0,
            suspect_since: None,
            triggered: false,
            deferred_until: None,
            requested_at: None,
            left_suspect: false,
            demotions: 0,
            held_until: None,
            selected_at: None,
            sent_bytes: 0,
            received_bytes: 0,
            proven_once: false,
        }
    }

    /// Returns the peer's address on a direct path.
    pub(super) fn direct(&self) -> Option<SocketAddr> {
        match self.name {
            PathName::Direct(remote) => Some(remote),
            PathName::Relayed(_) => None,
        }
    }

    pub(super) fn is_direct(&self) -> bool {
        self.direct().is_some()
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect_since.is_some()
    }

    /// Returns whether an own check was answered here in the last 30 s.
    pub(super) fn is_proven(&self, now: Instant) -> bool {
        self.checks.last_answered().is_some_and(|at| now < at + PROOF_LASTS)
    }

    /// Returns whether packets may be sent here: with proof, or over a channel, whose relay consented.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        !self.is_direct() || self.is_proven(now)
    }

    /// Returns whether it works and did so lately enough to take over from a silent path.
    pub(super) fn is_answering(&self, now: Instant) -> bool {
        !self.is_suspect()
            && self.checks.last_answered().is_some_and(|at| now <= at + ANSWERED_LATELY)
    }

    /// Returns whether one check each way was answered.
    pub(super) fn is_proven_both_ways(&self, now: Instant) -> bool {
        self.is_proven(now) && self.requested_at.is_some_and(|at| now < at + PROOF_LASTS)
    }

    /// Returns whether it is steady enough to be chosen without need: always unless it was left as
    /// silent; then after three answers in a row over 300 ms and its damping.
    pub(super) fn may_return(&self, now: Instant) -> bool {
        !self.left_suspect || (self.is_steady() && self.held_until.is_none_or(|until| now >= until))
    }

    /// Returns whether three checks in a row were answered over at least 300 ms.
    pub(super) fn is_steady(&self) -> bool {
        let (row, span) = self.checks.row();
        row >= RETURN_ROW && span >= RETURN_SPAN
    }

    /// Returns whether policy lets user traffic use it.
    pub(super) fn is_allowed(&self, preference: PathPreference) -> bool {
        match preference {
            PathPreference::PreferDirect => true,
            PathPreference::RequireDirect => self.is_direct(),
            PathPreference::RelayOnly => !self.is_direct(),
        }
    }

    /// Returns the smaller-is-better figure that paths of one kind are compared by.
    pub(super) fn score(&self) -> Duration {
        self.checks.srtt().map_or(Duration::MAX, |srtt| srtt + self.checks.jitter())
    }

    /// Notes the first proof, or the first after one lapsed, and returns whether this is it.
    pub(super) fn note_proof(&mut self) -> bool {
        !std::mem::replace(&mut self.proven_once, true)
    }

    /// Notes that proof lapsed and returns whether there was any.
    pub(super) fn note_lapse(&mut self) -> bool {
        std::mem::replace(&mut self.proven_once, false)
    }

    pub(super) fn was_proven(&self) -> bool {
        self.proven_once
    }

    pub(super) fn handle_suspicion(&mut self, now: Instant) {
        self.suspect_since = Some(now);
        self.checks.handle_suspicion();
    }

    /// The traffic leaves it because it is silent.
    pub(super) fn handle_demotion(&mut self, now: Instant) {
        self.left_suspect = true;
        let served = self.selected_at.map(|at| now.saturating_duration_since(at));
        if served.is_some_and(|served| served >= DAMPING_MAX) {
            self.demotions = 0;
        }
    }

    /// A check was answered again: ends the suspicion and, if the traffic had left and the silence was
    /// long, holds the path back for twice as long as the time before.
    pub(super) fn handle_recovery(&mut self, now: Instant) {
        let Some(since) = self.suspect_since.take() else { return };
        if self.left_suspect && now.saturating_duration_since(since) > DAMPED_SILENCE {
            self.held_until = self.damping().map(|damping| now + damping);
            self.demotions = self.demotions.saturating_add(1);
        }
    }

    /// Nothing after the first demotion: 2 s, 4 s, …, 60 s after the following ones.
    fn damping(&self) -> Option<Duration> {
        let doublings = self.demotions.checked_sub(1)?.min(5);
        Some((Duration::from_secs(2) * 2_u32.pow(doublings)).min(DAMPING_MAX))
    }
}

//! Finds the largest payload that a path carries, by padded checks.
//!
//! - **A size is raised one step at a time** by an answered check of that size; three unanswered ones
//!   end the search for ten minutes (RFC 8899 §5.1.1 calls it the raise timer).
//! - **What was found is confirmed** each 60 s of use and when QUIC loses large packets; three
//!   unanswered confirmations put the path back to the base size and start over.
//! - **A lost padded check says nothing of the path's life**: it may be the size alone.

use std::time::{Duration, Instant};

/// What every path carries (RFC 9000 §14).
pub(super) const BASE_SIZE: u16 = 1_200;
/// Payload sizes without channel prefix, `docs/protocol.md`.
const SIZES: [u16; 7] = [1_240, 1_280, 1_320, 1_352, 1_400, 1_440, 1_452];
/// Ethernet less IPv6, UDP and the channel prefix leaves no room for the last step.
const RELAYED_SIZE_MAX: u16 = 1_440;
const DIRECT_SIZE_MAX: u16 = 1_452;
const TRIES: u8 = 3;
const CONFIRM_AFTER: Duration = Duration::from_secs(60);
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// Losses by congestion are large packets too: they make us ask no more often than this.
const LOSS_CONFIRM_INTERVAL: Duration = Duration::from_secs(1);
/// Large packets lost before the size is doubted.
const LOSSES: u64 = 2;

/// One path's size and the search for more.
#[derive(Debug)]
pub(super) struct SizeSearch {
    proven: u16,
    size_max: u16,
    confirmed_at: Instant,
    raise_at: Instant,
    testing: Option<Testing>,
    losses: u64,
}

#[derive(Debug)]
struct Testing {
    size: u16,
    tries: u8,
    tried_at: Option<Instant>,
}

impl SizeSearch {
    pub(super) fn new(direct: bool, now: Instant) -> Self {
        let size_max = if direct { DIRECT_SIZE_MAX } else { RELAYED_SIZE_MAX };
        let (confirmed_at, raise_at) = (now, now);
        Self { proven: BASE_SIZE, size_max, confirmed_at, raise_at, testing: None, losses: 0 }
    }

    /// Returns the largest size that was answered.
    pub(super) fn proven(&self) -> u16 {
        self.proven
    }

    /// Returns when the next padded check or the end of a wait is due. `wait` is how long an answer
    /// may take; `active` is whether a confirmation is worth a packet.
    pub(super) fn next_at(&self, wait: Duration, active: bool) -> Option<Instant> {
        if let Some(testing) = &self.testing {
            return testing.tried_at.map_or(Some(self.confirmed_at), |at| Some(at + wait));
        }
        let raise = self.next_size().map(|_| self.raise_at);
        let confirm =
            (active && self.proven > BASE_SIZE).then_some(self.confirmed_at + CONFIRM_AFTER);
        raise.into_iter().chain(confirm).min()
    }

    /// Judges the size under test and returns whether the proven one fell.
    pub(super) fn handle_timeout(&mut self, wait: Duration, now: Instant) -> bool {
        let Some(Testing { size, tries: TRIES, tried_at: Some(at) }) = self.testing else {
            return false;
        };
        if now < at + wait {
            return false;
        }
        self.testing = None;
        if size > self.proven {
            self.raise_at = now + RAISE_AFTER;
            return false;
        }
        self.proven = BASE_SIZE;
        self.raise_at = now;
        true
    }

    /// Returns the size of the padded check to send at once, if one is due, and counts it.
    pub(super) fn take_due(&mut self, wait: Duration, active: bool, now: Instant) -> Option<u16> {
        self.next_at(wait, active).filter(|at| *at <= now)?;
        if self.testing.is_none() {
            let confirm =
                active && self.proven > BASE_SIZE && now >= self.confirmed_at + CONFIRM_AFTER;
            let size = if confirm { self.proven } else { self.next_size()? };
            self.testing = Some(Testing { size, tries: 0, tried_at: None });
        }
        let testing = self.testing.as_mut().filter(|testing| testing.tries < TRIES)?;
        testing.tries += 1;
        testing.tried_at = Some(now);
        Some(testing.size)
    }

    /// Takes an answered padded check and returns whether the proven size rose.
    pub(super) fn handle_answer(&mut self, size: u16, now: Instant) -> bool {
        if self.testing.as_ref().is_some_and(|testing| testing.size <= size) {
            self.testing = None;
        }
        if size < self.proven {
            return false;
        }
        self.confirmed_at = now;
        self.losses = 0;
        let rose = size > self.proven;
        self.proven = size;
        rose
    }

    /// QUIC declared packets lost while it sent larger ones than the base size.
    pub(super) fn handle_losses(&mut self, packets: u64, now: Instant) {
        self.losses = self.losses.saturating_add(packets);
        let asked_lately = now < self.confirmed_at + LOSS_CONFIRM_INTERVAL;
        let doubt = self.losses >= LOSSES && self.proven > BASE_SIZE && !asked_lately;
        if doubt && self.testing.is_none() {
            self.losses = 0;
            self.testing = Some(Testing { size: self.proven, tries: 0, tried_at: None });
        }
    }

    fn next_size(&self) -> Option<u16> {
        SIZES.into_iter().find(|size| *size > self.proven && *size <= self.size_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::tests::t0;

    #[test]
    fn a_relayed_path_is_raised_step_by_step_to_1440_and_a_direct_one_to_1452() {
        assert_eq!(sizes_tried(false, 1_500), [1_240, 1_280, 1_320, 1_352, 1_400, 1_440]);
        assert_eq!(sizes_tried(true, 1_500), [1_240, 1_280, 1_320, 1_352, 1_400, 1_440, 1_452]);
    }

    #[test]
    fn three_unanswered_checks_end_the_search_below_them_for_ten_minutes() {
        assert_eq!(sizes_tried(false, 1_300), [1_240, 1_280, 1_320, 1_320, 1_320]);

        let (mut search, now) = (SizeSearch::new(false, t0()), t0());
        let gave_up = run(&mut search, 1_300, now).1;
        assert_eq!(search.proven(), 1_280);
        assert_eq!(search.next_at(WAIT, false), Some(gave_up + RAISE_AFTER));
        assert_eq!(search.take_due(WAIT, false, gave_up + RAISE_AFTER), Some(1_320));
    }

    #[test]
    fn a_size_in_use_is_confirmed_after_60_s_and_falls_to_1200_after_three_silences() {
        let (mut search, now) = (SizeSearch::new(false, t0()), t0());
        let found = run(&mut search, 1_500, now).1;
        assert_eq!(search.next_at(WAIT, false), None, "an idle tunnel asks nothing");
        let due = search.next_at(WAIT, true).unwrap();
        assert_eq!(due, search.confirmed_at + CONFIRM_AFTER);
        assert!(due > found);

        let mut at = due;
        for _ in 0..3 {
            assert_eq!(search.take_due(WAIT, true, at), Some(1_440));
            assert!(!search.handle_timeout(WAIT, at));
            at += WAIT;
        }

        assert!(search.handle_timeout(WAIT, at));
        assert_eq!(search.proven(), BASE_SIZE);
        assert_eq!(search.take_due(WAIT, true, at), Some(1_240), "the search starts over");
    }

    #[test]
    fn two_lost_packets_make_it_ask_again_and_one_does_not() {
        let (mut search, now) = (SizeSearch::new(false, t0()), t0());
        let later = run(&mut search, 1_500, now).1 + Duration::from_secs(2);

        search.handle_losses(1, later);
        assert_eq!(search.take_due(WAIT, true, later), None);

        search.handle_losses(1, later);
        assert_eq!(search.take_due(WAIT, true, later), Some(1_440));
        assert!(!search.handle_answer(1_440, later));
        search.handle_losses(2, later);
        assert_eq!(search.take_due(WAIT, true, later), None, "at most once a second");
    }

    fn sizes_tried(direct: bool, path_carries: u16) -> Vec<u16> {
        run(&mut SizeSearch::new(direct, t0()), path_carries, t0()).0
    }

    /// Plays the search over a path until it rests; returns the sizes and when it rested.
    fn run(search: &mut SizeSearch, path_carries: u16, mut now: Instant) -> (Vec<u16>, Instant) {
        let mut tried = Vec::new();
        while let Some(at) = search.next_at(WAIT, false).filter(|at| *at <= now + WAIT) {
            now = now.max(at);
            search.handle_timeout(WAIT, now);
            if let Some(size) = search.take_due(WAIT, false, now) {
                tried.push(size);
                if size <= path_carries {
                    assert!(search.handle_answer(size, now));
                }
            }
        }
        (tried, now)
    }

    const WAIT: Duration = Duration::from_millis(50);
}

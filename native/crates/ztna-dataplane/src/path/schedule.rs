//! When each path is checked, judged and given up.

use std::time::{Duration, Instant};

use super::check::CHECK_SPACING;
use super::one_path::{PROOF_LASTS, Path};
use super::{PathId, PathSet, PathSetEvent};

/// When a path is asked that has not answered yet, and when a choice is told.
const FIRST_CHECKS_MS: [u64; 6] = [0, 50, 150, 350, 750, 1_550];
/// Of these a choice is told by as many; after them by every other check.
const TELLINGS: usize = 4;
/// A direct path that has not answered is given up this long after it was asked first: the last
/// check and the 5 s that an answer has.
const GIVE_UP_AFTER: Duration = Duration::from_millis(6_550);
/// A direct path that fell silent is given up after this.
const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Consent asks for more than one check in [`PROOF_LASTS`], whatever the policy says.
const IN_USE_INTERVAL_MAX: Duration = Duration::from_secs(5);
/// Of a path that was left and answers again, until it did so three times over 300 ms.
const RETURN_INTERVAL: Duration = Duration::from_millis(150);
/// A silent path is asked at every quarter of its silence, within these.
const SUSPECT_INTERVAL_MIN: Duration = Duration::from_millis(100);
const STRANDED_INTERVAL_MAX: Duration = Duration::from_secs(1);
const SUSPECT_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// After an address's budget was spent.
pub(super) const DEFERRAL: Duration = Duration::from_millis(50);
/// Unproven direct paths are asked one after the other: the first 20 of a generation quickly.
pub(super) const PACED_QUICKLY: u32 = 20;
pub(super) const PACE_QUICK: Duration = Duration::from_millis(5);
pub(super) const PACE: Duration = Duration::from_millis(20);

impl PathSet {
    /// Judges what time alone decides. The socket must have been read empty before.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.local.expire(now);
        self.expire_traffic();
        if self.remote.is_known() {
            self.judge_silence();
        }
        self.judge_sizes();
        self.expire_paths();
        self.settle();
    }

    /// Returns when to call [`PathSet::handle_timeout`] next; perhaps an instant that has passed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let traffic = self.traffic.active_until.filter(|_| self.traffic.ring.is_allocated());
        let silent = self.all_silent_at().filter(|_| !self.all_silent);
        let own = [
            traffic,
            self.traffic.next_portion_at,
            silent,
            self.choice_at(),
            self.local.next_expiry(),
        ];
        let paths = self.paths.iter().filter_map(|path| {
            let judged = self.silent_at(path);
            let checks = [self.next_check(path), self.next_padded(path), judged];
            checks.into_iter().chain([self.expires_at(path)]).flatten().min()
        });
        own.into_iter().flatten().chain(paths).min()
    }

    /// Returns when a path is to be checked.
    pub(super) fn next_check(&self, path: &Path) -> Option<Instant> {
        if !self.remote.is_known() {
            return None;
        }
        let at = self.check_wanted_at(path)?;
        let unproven = path.is_direct() && !path.is_proven(self.now);
        let floors = [path.deferred_until, self.pace_until.filter(|_| unproven)];
        Some(floors.into_iter().flatten().fold(at, Instant::max))
    }

    /// Returns when a path's size is to be tested.
    pub(super) fn next_padded(&self, path: &Path) -> Option<Instant> {
        if !self.tests_size_of(path) {
            return None;
        }
        path.size.next_at(self.silence_of(path), self.is_active())
    }

    pub(super) fn tests_size_of(&self, path: &Path) -> bool {
        self.remote.is_known() && path.is_proven(self.now) && !path.is_suspect()
    }

    pub(super) fn silence_of(&self, path: &Path) -> Duration {
        path.checks.silence(self.policy.silence_min)
    }

    fn check_wanted_at(&self, path: &Path) -> Option<Instant> {
        let Some(sent) = path.checks.last_sent() else { return Some(self.now) };
        if path.triggered {
            return Some(sent + CHECK_SPACING);
        }
        let told = self.telling_at(path.id, sent);
        if let Some(since) = path.suspect_since {
            let again = sent + self.suspect_interval(sent.saturating_duration_since(since));
            return Some(told.map_or(again, |told| told.min(again)));
        }
        if !path.was_proven() {
            let offset = FIRST_CHECKS_MS.get(path.attempts).copied().map(Duration::from_millis);
            if let (Some(since), Some(offset)) = (path.asked_since, offset) {
                return Some(since + offset);
            }
            if path.is_direct() {
                return None;
            }
        }
        let in_use = self.is_active() && self.selected() == Some(path.id);
        let regular = sent + self.interval(path);
        let probe = path.checks.probe_at().filter(|_| in_use);
        [Some(regular), path.checks.confirm_at(), probe, told].into_iter().flatten().min()
    }

    fn interval(&self, path: &Path) -> Duration {
        let policy = &self.policy;
        if path.left_suspect && !path.is_steady() {
            RETURN_INTERVAL
        } else if !self.is_active() {
            policy.idle_check_interval
        } else if self.selected() == Some(path.id) {
            policy.active_check_interval.min(IN_USE_INTERVAL_MAX)
        } else {
            policy.standby_check_interval.min(IN_USE_INTERVAL_MAX)
        }
    }

    fn suspect_interval(&self, age: Duration) -> Duration {
        let max = if self.is_stranded() { STRANDED_INTERVAL_MAX } else { SUSPECT_INTERVAL_MAX };
        (age / 4).clamp(SUSPECT_INTERVAL_MIN, max)
    }

    /// Returns when a choice is due to be told: at the first of its times that no check has passed.
    fn telling_at(&self, id: PathId, sent: Instant) -> Option<Instant> {
        let told = self.selection.nomination.as_ref().filter(|told| told.path == id)?;
        if !told.begun {
            return Some(told.since);
        }
        let times = FIRST_CHECKS_MS.iter().take(TELLINGS);
        times.map(|ms| told.since + Duration::from_millis(*ms)).find(|at| sent < *at)
    }

    fn silent_at(&self, path: &Path) -> Option<Instant> {
        if path.is_suspect() || !self.remote.is_known() {
            return None;
        }
        // An unproven direct path carries nothing and is given up, not suspected.
        if !path.was_proven() && path.is_direct() {
            return None;
        }
        path.checks.silent_at(self.policy.silence_min)
    }

    fn judge_silence(&mut self) {
        let now = self.now;
        let silent = |path: &&Path| self.silent_at(path).is_some_and(|at| at <= now);
        let silent: Vec<_> = self.paths.iter().filter(silent).map(|path| path.id).collect();
        for id in silent {
            let Some(path) = self.path_mut(id) else { continue };
            path.handle_suspicion(now);
            let relayed = !path.is_direct();
            self.emit(PathSetEvent::Suspect { path: id });
            if self.selected() == Some(id) {
                // Whoever answers first may take over.
                self.paths.iter_mut().for_each(|path| path.triggered = true);
            } else if relayed {
                self.emit(PathSetEvent::PingLegs { path: id, stranded: false });
            }
        }
    }

    fn judge_sizes(&mut self) {
        let (now, silence_min) = (self.now, self.policy.silence_min);
        let mut fell = Vec::new();
        for path in self.paths.iter_mut().filter(|path| !path.is_suspect()) {
            if path.size.handle_timeout(path.checks.silence(silence_min), now) {
                fell.push(PathSetEvent::Mtu { path: path.id, size: path.size.proven() });
            }
        }
        fell.into_iter().for_each(|event| self.emit(event));
    }

    /// Returns when a direct path's proof lapses or the path is given up.
    fn expires_at(&self, path: &Path) -> Option<Instant> {
        if !path.is_direct() {
            return None;
        }
        if path.was_proven() {
            return path.checks.last_answered().map(|at| at + PROOF_LASTS);
        }
        let asked = path.asked_since? + GIVE_UP_AFTER;
        let heard = path.requested_at.map_or(asked, |at| at + GIVE_UP_AFTER);
        let proven = path.checks.last_answered().map_or(asked, |at| at + FORGET_AFTER);
        Some(asked.max(heard).max(proven))
    }

    fn expire_paths(&mut self) {
        let now = self.now;
        let expired = |path: &&Path| self.expires_at(path).is_some_and(|at| at <= now);
        let expired: Vec<_> = self.paths.iter().filter(expired).map(|path| path.id).collect();
        for id in expired {
            let lapsed = self.path_mut(id).is_some_and(Path::note_lapse);
            if !lapsed {
                self.remove_path(id);
            }
            self.emit(PathSetEvent::Lost { path: id });
        }
    }
}

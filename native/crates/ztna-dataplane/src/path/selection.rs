//! Which path carries the traffic.
//!
//! The agent chooses: the first proven path, a direct one as soon as a check each way was answered, a
//! clearly faster one of the same kind; never anything else, unless the path in use is silent. It tells
//! by a number that grows with each choice. The connector keeps the highest number it saw and moves
//! when it has proven that path; until the first number it sends where the agent's packets come from.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use super::check::CHECK_SPACING;
use super::one_path::Path;
use super::{PathId, PathSet, PathSetEvent, PathSide};
use crate::config::PathPreference;

/// A path of the same kind must be faster by this and by a quarter of its own score.
const FASTER_BY: Duration = Duration::from_millis(5);
/// Between two choices that nothing forces.
const CHOICE_INTERVAL: Duration = Duration::from_secs(2);
/// The peer's packets come on another path this long: the choice is told again.
const RETELL_AFTER: Duration = Duration::from_secs(1);
/// No path answered for this long: the tunnel is silent.
const ALL_SILENT_AFTER: Duration = Duration::from_secs(1);
/// After a longer outage the tail is not replayed but its newest packets.
const TAIL_LASTS: Duration = Duration::from_secs(1);

/// The choice and what led to it.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) selected: Option<PathId>,
    /// Agent: of the last choice. Connector: the highest seen.
    pub(super) number: u32,
    /// Agent: the choice that is yet to be acknowledged.
    pub(super) nomination: Option<Nomination>,
    /// Connector: the path of `number`, until it is proven and taken.
    pub(super) ordered: Option<PathId>,
    /// Connector: it left a silent path by its own right.
    own_choice: bool,
    switched_at: Option<Instant>,
    stranded: Option<Stranded>,
    /// Since when packets of a removed path may be missing at the peer.
    tail_since: Option<Instant>,
}

/// The selected path is silent and nothing can take over.
#[derive(Clone, Copy, Debug)]
struct Stranded {
    since: Instant,
    /// Since when packets may be missing at the peer.
    tail_since: Option<Instant>,
}

/// The agent's choice on its way to the connector.
#[derive(Debug)]
pub(super) struct Nomination {
    pub(super) path: PathId,
    pub(super) since: Instant,
    /// A check has carried it.
    pub(super) begun: bool,
}

impl PathSet {
    /// Draws the conclusions of whatever changed.
    pub(super) fn settle(&mut self) {
        self.reselect();
        self.note_stranding();
        self.datagram_size = self.common_size().into();
        let silent = self.all_silent_at().is_some_and(|at| at <= self.now);
        if silent != self.all_silent {
            self.all_silent = silent;
            self.emit(PathSetEvent::AllSilent(silent));
        }
    }

    /// Connector: sends where the agent's packets come from, until the agent says where it wants them.
    pub(super) fn follow_arrivals(&mut self, id: PathId) {
        let undecided = self.selection.number == 0 && !self.selection.own_choice;
        if undecided && self.path(id).is_some_and(|path| path.is_usable(self.now)) {
            self.switch_to(id, "arrivals");
            self.settle();
        }
    }

    /// Connector: the agent chose a path.
    pub(super) fn handle_choice(&mut self, id: PathId, number: u32) {
        if self.side == PathSide::Connector && number > self.selection.number {
            self.selection.number = number;
            self.selection.ordered = Some(id);
        }
    }

    /// Agent: the connector knows of a choice. If its packets have come another way for long, it left
    /// this path by its own right and is told again that it works.
    pub(super) fn handle_told(&mut self, id: PathId, number: Option<u32>) {
        if self.side != PathSide::Agent || self.selection.selected != Some(id) {
            return;
        }
        if number == Some(self.selection.number) {
            self.selection.nomination = None;
        }
        let long_ago = |at: Option<Instant>, pause| at.is_some_and(|at| self.now >= at + pause);
        let parted = long_ago(self.traffic.peer_elsewhere_since, RETELL_AFTER)
            && long_ago(self.selection.switched_at, CHOICE_INTERVAL);
        if parted && self.path(id).is_some_and(Path::is_steady) {
            self.selection.switched_at = Some(self.now);
            self.traffic.peer_elsewhere_since = None;
            self.tell(id);
        }
    }

    /// Forgets a path that was removed.
    pub(super) fn forget_selection_of(&mut self, path: &Path) {
        if self.selection.ordered == Some(path.id) {
            self.selection.ordered = None;
        }
        if self.traffic.peer_path == Some(path.id) {
            self.traffic.peer_path = None;
        }
        if self.selection.nomination.as_ref().is_some_and(|told| told.path == path.id) {
            self.selection.nomination = None;
        }
        if self.selection.selected == Some(path.id) {
            self.selection.selected = None;
            self.selection.tail_since = self.tail_of(path).or(self.selection.tail_since);
        }
    }

    /// Returns when the tunnel counts as silent unless a path answers.
    pub(super) fn all_silent_at(&self) -> Option<Instant> {
        if let Some(since) = self.without_paths_since {
            return Some(since + ALL_SILENT_AFTER);
        }
        if !self.remote.is_known() {
            return None;
        }
        let usable = self.paths.iter().filter(|path| path.is_usable(self.now));
        let unanswered: Option<Vec<_>> =
            usable.map(|path| path.checks.first_unanswered()).collect();
        unanswered?.into_iter().max().map(|since| since + ALL_SILENT_AFTER)
    }

    pub(super) fn is_stranded(&self) -> bool {
        self.selection.stranded.is_some()
    }

    /// Returns when a choice that waits for nothing but time is due again.
    pub(super) fn choice_at(&self) -> Option<Instant> {
        if self.side == PathSide::Connector {
            return None;
        }
        let held = self.paths.iter().filter(|path| !path.is_suspect() && path.left_suspect);
        held.filter_map(|path| path.held_until).filter(|until| *until > self.now).min()
    }

    fn reselect(&mut self) {
        let Some(current) = self.selection.selected.and_then(|id| self.path(id)) else {
            let reason = if self.selection.tail_since.is_some() { "removed" } else { "first" };
            if let Some(id) = self.best_usable(None) {
                self.switch_to(id, reason);
            }
            return;
        };
        let current_id = current.id;
        let chosen = if !current.is_usable(self.now) {
            let other = self.best_usable(Some(current_id));
            if other.is_none() {
                // Consent is gone: what is still to be said waits for the next path.
                self.selection.tail_since = self.tail_of(current);
                self.selection.selected = None;
            }
            other.map(|id| (id, "silence"))
        } else if let Some(ordered) = self.ordered_path() {
            self.selection.ordered = None;
            self.selection.own_choice = false;
            Some((ordered, "peer"))
        } else if current.is_suspect() {
            self.successor(current_id).map(|id| (id, "silence"))
        } else if self.side == PathSide::Agent {
            self.better_than(current)
        } else {
            None
        };
        if let Some((id, reason)) = chosen.filter(|(id, _)| *id != current_id) {
            self.switch_to(id, reason);
        }
    }

    fn switch_to(&mut self, id: PathId, reason: &'static str) {
        let now = self.now;
        let mut tail = self.selection.tail_since.take();
        let leaving = self.selection.selected;
        if let Some(old) = leaving.and_then(|old| self.path_mut(old)) {
            if old.is_suspect() {
                old.handle_demotion(now);
            }
            old.selected_at = None;
        }
        if let Some(old) = leaving.and_then(|old| self.path(old)) {
            tail = self.tail_of(old);
        }
        if let Some(path) = self.path_mut(id) {
            path.left_suspect = false;
            path.selected_at = Some(now);
        }
        self.selection.selected = Some(id);
        self.selection.switched_at = Some(now);
        self.selection.own_choice =
            self.side == PathSide::Connector && matches!(reason, "silence" | "removed");
        self.traffic.peer_elsewhere_since = None;
        self.emit(PathSetEvent::Selected { path: id, reason });
        self.tell(id);
        match self.selection.stranded.take() {
            Some(stranded) => self.end_outage(stranded, tail),
            None => tail.into_iter().for_each(|since| self.replay_since(since)),
        }
    }

    /// Agent: numbers the choice and lets checks on that path tell it. The very first path needs no
    /// telling: the connector sends where packets come from.
    fn tell(&mut self, id: PathId) {
        if self.side == PathSide::Connector || !self.remote.is_known() {
            return;
        }
        // Four thousand million choices outlast any tunnel; past them the connector is left as it is.
        let Some(number) = self.selection.number.checked_add(1) else { return };
        self.selection.number = number;
        self.selection.nomination = Some(Nomination { path: id, since: self.now, begun: false });
    }

    /// Returns since when packets sent on a path may not have arrived, or `None` when it is not silent.
    fn tail_of(&self, path: &Path) -> Option<Instant> {
        let checks = &path.checks;
        let overdue = |since: Option<Instant>, pause: Duration| {
            since.filter(|since| path.is_suspect() || self.now >= *since + pause)
        };
        let waiting = overdue(checks.waiting_since(), CHECK_SPACING);
        let unanswered = overdue(checks.first_unanswered(), checks.answer_time());
        let silent_since = waiting.into_iter().chain(unanswered).min()?;
        let since = checks.heard_at().map_or(silent_since, |heard| heard.min(silent_since));
        since.checked_sub(checks.srtt().unwrap_or_default() + CHECK_SPACING)
    }

    fn ordered_path(&self) -> Option<PathId> {
        let path = self.path(self.selection.ordered?)?;
        (path.is_proven(self.now) && !path.is_suspect()).then_some(path.id)
    }

    /// Returns the path that takes over from a silent one: it answered in the last 2 s.
    fn successor(&self, from: PathId) -> Option<PathId> {
        self.best(|path| path.id != from && path.is_answering(self.now))
    }

    fn best_usable(&self, except: Option<PathId>) -> Option<PathId> {
        self.best(|path| Some(path.id) != except && path.is_usable(self.now))
    }

    fn best(&self, eligible: impl Fn(&Path) -> bool) -> Option<PathId> {
        let rank = |path: &&Path| {
            let preferred = path.is_allowed(self.policy.preference);
            let liveness = (!path.is_suspect(), path.is_answering(self.now));
            (Reverse(preferred), Reverse(liveness), Reverse(path.is_direct()), path.score())
        };
        self.paths.iter().filter(|path| eligible(path)).min_by_key(rank).map(|path| path.id)
    }

    fn better_than(&self, current: &Path) -> Option<(PathId, &'static str)> {
        let preference = self.policy.preference;
        let may_choose = |path: &&Path| {
            path.id != current.id
                && path.is_allowed(preference)
                && path.is_answering(self.now)
                && path.may_return(self.now)
        };
        let mut candidates: Vec<&Path> = self.paths.iter().filter(may_choose).collect();
        candidates.sort_by_key(|path| (Reverse(path.is_direct()), path.score()));
        let candidates = candidates.into_iter();
        if !current.is_allowed(preference) {
            let reason = if preference == PathPreference::RelayOnly { "policy" } else { "direct" };
            let mut proven =
                candidates.filter(|path| !path.is_direct() || path.is_proven_both_ways(self.now));
            return proven.next().map(|path| (path.id, reason));
        }
        let rested = self.selection.switched_at.is_none_or(|at| self.now >= at + CHOICE_INTERVAL);
        let reason_for = |path: &Path| {
            if path.is_direct() != current.is_direct() {
                let direct = path.is_direct() && path.is_proven_both_ways(self.now);
                return direct.then_some("direct");
            }
            let margin = FASTER_BY.max(path.score() / 4);
            let faster = path.score().saturating_add(margin) < current.score();
            (faster && rested && path.is_steady()).then_some("faster")
        };
        candidates.filter_map(|path| Some((path.id, reason_for(path)?))).next()
    }

    fn note_stranding(&mut self) {
        let Some(selected) = self.selected().and_then(|id| self.path(id)) else { return };
        let (path, silent) = (selected.id, selected.is_suspect());
        match self.selection.stranded {
            None if silent => {
                let tail_since = self.tail_of(selected);
                self.selection.stranded = Some(Stranded { since: self.now, tail_since });
                self.emit(PathSetEvent::PingLegs { path, stranded: true });
            }
            Some(stranded) if !silent => {
                self.selection.stranded = None;
                self.end_outage(stranded, None);
            }
            _ => {}
        }
    }

    /// A path answers after none did. A short outage costs nothing: all of it is sent again.
    fn end_outage(&mut self, stranded: Stranded, tail: Option<Instant>) {
        let since = tail.into_iter().chain(stranded.tail_since).min();
        let short = self.now.saturating_duration_since(stranded.since) <= TAIL_LASTS;
        match since.filter(|_| short) {
            Some(since) => self.replay_since(since),
            None => self.start_resuming(),
        }
    }

    /// Returns the size that the selected path and the one that would take over both carry.
    fn common_size(&self) -> u16 {
        let Some(selected) = self.selected() else { return super::BASE_SIZE };
        let other =
            self.best(|path| path.id != selected && path.is_proven(self.now) && !path.is_suspect());
        let sizes = [Some(selected), other].into_iter().flatten();
        let sizes = sizes.filter_map(|id| self.path(id)).map(|path| path.size.proven());
        sizes.min().unwrap_or(super::BASE_SIZE)
    }
}

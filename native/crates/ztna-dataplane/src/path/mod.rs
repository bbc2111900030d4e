//! The paths of one tunnel: which one carries the traffic, and what keeps that choice right.
//!
//! QUIC sees one path for ever; beneath it a [`PathSet`] keeps the real ones, relayed and direct. The
//! rules (`docs/protocol.md`, tunnels and paths), and the module that keeps each:
//!
//! - **Every probe is an authenticated check**; only a valid one is answered, to its source, on its
//!   path (`exchange`). Checks go out as often as a path's state asks for (`schedule`), and to an
//!   address that has proven nothing only within the process's budget (`budget`).
//! - **Sending needs proof, and proof lapses.** A relayed path is usable at once: its relay consented.
//! - **The agent chooses and tells; the connector follows when it has proven the path**, and by its own
//!   right leaves a silent path for one that answers (`selection`).
//! - **Only silence demotes**, and only towards a path that answered lately (`check`).
//! - **A path that is left replays its tail** on the one that takes over (`replay`), so packets are
//!   built to the smaller of both sizes (`mtu`).
//! - **Nothing waits for any of it**: with one relayed path and no credentials yet, QUIC's packets go
//!   there, nothing is suspect and no timer runs.
//!
//! Sans-IO. Feed inputs, then drain [`PathSet::poll_transmit`] *before* QUIC writes its packets (a
//! replayed tail goes first) and [`PathSet::poll_event`], then arm [`PathSet::poll_timeout`]. Read the
//! socket empty before [`PathSet::handle_timeout`], which judges silence.

mod budget;
mod check;
mod credentials;
mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod mtu;
mod one_path;
mod replay;
mod schedule;
mod selection;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub use budget::CheckBudget;
pub use exchange::CheckRefused;

use self::credentials::{LocalCredentials, RemoteCredentials};
use self::exchange::Answer;
use self::mtu::BASE_SIZE;
use self::one_path::Path;
use self::selection::Selection;
use self::traffic::Traffic;
use crate::command::Credentials;
use crate::config::PathPolicy;
use crate::event::{PathName, PathSnapshot};

/// Paths of one tunnel at a time.
const PATHS_MAX: usize = 8;
/// Events that wait for the endpoint; more come only when nobody drains them.
const EVENTS_MAX: usize = 256;

/// Which end of the tunnel this is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PathSide {
    /// Chooses the path.
    Agent,
    /// Follows, and leaves a silent path by its own right.
    Connector,
}

/// Names a path of one tunnel; not given to another path before 255 others had theirs.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PathId(pub u8);

/// What the endpoint should know or do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PathSetEvent {
    /// A check was answered here for the first time.
    Proven {
        /// Which path.
        path: PathId,
        /// Of that check.
        rtt: Duration,
    },
    /// The traffic goes here from here on.
    Selected {
        /// Which path.
        path: PathId,
        /// `first`, `direct`, `faster`, `silence`, `removed`, `policy`, `peer` or `arrivals`.
        reason: &'static str,
    },
    /// It fell silent.
    Suspect {
        /// Which path.
        path: PathId,
    },
    /// It answers again.
    Recovered {
        /// Which path.
        path: PathId,
        /// Smoothed.
        rtt: Duration,
    },
    /// Proof lapsed, or an unproven path was given up and removed: ask `name` whether it still exists.
    Lost {
        /// Which path.
        path: PathId,
    },
    /// The largest payload that it carries was found or fell.
    Mtu {
        /// Which path.
        path: PathId,
        /// In octets.
        size: u16,
    },
    /// A path is silent and its leg may be: PING the leg of a relayed one; when it carries the traffic
    /// and nothing can take over, every leg.
    PingLegs {
        /// Which path.
        path: PathId,
        /// Nothing can take over.
        stranded: bool,
    },
    /// No path answered a check for 1 s, or one answers again.
    AllSilent(bool),
    /// Packets were replayed: have QUIC send something that is acknowledged.
    WantsAck,
}

/// All paths of one tunnel.
pub struct PathSet {
    side: PathSide,
    policy: PathPolicy,
    transaction_ids: Box<dyn FnMut() -> [u8; 12] + Send>,
    budget: CheckBudget,
    paths: Vec<Path>,
    next_id: u8,
    local: LocalCredentials,
    remote: RemoteCredentials,
    selection: Selection,
    traffic: Traffic,
    answers: VecDeque<Answer>,
    /// Unproven direct paths are asked one after the other: the next not before this.
    pace_until: Option<Instant>,
    /// Such checks since the last list of candidates.
    paced: u32,
    events: VecDeque<PathSetEvent>,
    datagram_size: usize,
    /// Since when there is no path at all.
    without_paths_since: Option<Instant>,
    all_silent: bool,
    /// Of the last input.
    now: Instant,
}

impl PathSet {
    /// Creates a set without paths. `transaction_ids` must be unpredictable: who guesses one proves a
    /// path. `budget` is the process's.
    pub fn new(
        side: PathSide,
        policy: PathPolicy,
        transaction_ids: Box<dyn FnMut() -> [u8; 12] + Send>,
        budget: CheckBudget,
        now: Instant,
    ) -> Self {
        Self {
            side,
            policy,
            transaction_ids,
            budget,
            paths: Vec::new(),
            next_id: 0,
            local: LocalCredentials::default(),
            remote: RemoteCredentials::default(),
            selection: Selection::default(),
            traffic: Traffic::new(now),
            answers: VecDeque::new(),
            pace_until: None,
            paced: 0,
            events: VecDeque::new(),
            datagram_size: BASE_SIZE.into(),
            without_paths_since: Some(now),
            all_silent: false,
            now,
        }
    }

    /// Adds a path over a channel of `relay`, usable at once; `None` when eight paths exist.
    pub fn add_relayed(&mut self, relay: SocketAddr, now: Instant) -> Option<PathId> {
        self.add(PathName::Relayed(relay), now)
    }

    /// Adds a path to the peer's address, to be proven; `None` when eight paths exist or the address
    /// is one that is never checked. A path to an address that has one is that one.
    pub fn add_direct(&mut self, remote: SocketAddr, now: Instant) -> Option<PathId> {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        if let Some(path) = self.paths.iter().find(|path| path.direct() == Some(remote)) {
            return Some(path.id);
        }
        let usable = remote.port() != 0 && self.budget.may_check(remote.ip());
        usable.then(|| self.add(PathName::Direct(remote), now)).flatten()
    }

    /// Removes a path; its traffic goes to the best of the others, its tail first.
    pub fn remove(&mut self, id: PathId, now: Instant) {
        self.now = now;
        self.remove_path(id);
        self.settle();
    }

    /// Replaces the policy.
    pub fn set_policy(&mut self, policy: PathPolicy, now: Instant) {
        self.now = now;
        self.policy = policy;
        self.settle();
    }

    /// Replaces what requests to this side must carry; the old stays valid for 10 s.
    pub fn set_local(&mut self, credentials: Credentials, now: Instant) {
        self.now = now;
        self.local.set(credentials, now);
    }

    /// Takes the peer's credentials, from which on paths are checked; an earlier or equal generation
    /// changes nothing.
    pub fn set_remote(&mut self, generation: u32, credentials: Credentials, now: Instant) {
        self.now = now;
        if self.remote.set(generation, credentials) {
            self.paced = 0;
            self.settle();
        }
    }

    /// Returns the `ufrag`s by which requests to this side are known.
    pub fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        self.local.ufrags()
    }

    /// Returns where QUIC's packets go; `None` only without a usable path.
    pub fn selected(&self) -> Option<PathId> {
        self.selection.selected
    }

    /// Returns whether policy lets user traffic use the selected path. QUIC's own packets do in any
    /// case: candidates are exchanged in them.
    pub fn carries_users(&self) -> bool {
        let selected = self.selected().and_then(|id| self.path(id));
        selected.is_some_and(|path| path.is_allowed(self.policy.preference))
    }

    /// Returns the size that packets are built to: what the selected path and the one that would take
    /// over both carry, 1,200..=1,452.
    pub fn datagram_size(&self) -> usize {
        self.datagram_size
    }

    /// Returns whether a path is over a channel.
    pub fn is_relayed(&self, id: PathId) -> bool {
        self.path(id).is_some_and(|path| !path.is_direct())
    }

    /// Returns what a path is called, or `None` when it is gone.
    pub fn name(&self, id: PathId) -> Option<&PathName> {
        self.path(id).map(|path| &path.name)
    }

    /// Returns whether QUIC packets are taken here: over a channel, or from an address that sent a
    /// valid request or response in the last 30 s.
    pub fn may_receive(&self, id: PathId, now: Instant) -> bool {
        self.path(id).is_some_and(|path| {
            !path.is_direct()
                || path.is_proven(now)
                || path.requested_at.is_some_and(|at| now < at + one_path::PROOF_LASTS)
        })
    }

    /// Returns the next thing to know or do.
    pub fn poll_event(&mut self) -> Option<PathSetEvent> {
        self.events.pop_front()
    }

    /// Returns the figures of the moment, in the order in which the paths were added.
    pub fn snapshot(&self) -> Vec<PathSnapshot> {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let snapshot = |path: &Path| PathSnapshot {
            name: path.name.clone(),
            selected: self.selected() == Some(path.id),
            state: match (path.is_suspect(), path.is_proven(self.now)) {
                (true, _) => "suspect",
                (false, true) => "proven",
                (false, false) => "unproven",
            },
            rtt_us: path.checks.srtt().map_or(0, micros),
            jitter_us: micros(path.checks.jitter()),
            mtu: path.size.proven(),
            sent_bytes: path.sent_bytes,
            received_bytes: path.received_bytes,
        };
        self.paths.iter().map(snapshot).collect()
    }

    fn add(&mut self, name: PathName, now: Instant) -> Option<PathId> {
        self.now = now;
        if self.paths.len() >= PATHS_MAX {
            return None;
        }
        while self.path(PathId(self.next_id)).is_some() {
            self.next_id = self.next_id.wrapping_add(1);
        }
        let id = PathId(self.next_id);
        self.next_id = self.next_id.wrapping_add(1);
        self.paths.push(Path::new(id, name, now));
        self.without_paths_since = None;
        self.settle();
        Some(id)
    }

    fn remove_path(&mut self, id: PathId) {
        let Some(index) = self.paths.iter().position(|path| path.id == id) else { return };
        let path = self.paths.remove(index);
        self.answers.retain(|answer| answer.path != id);
        if self.paths.is_empty() {
            self.without_paths_since = Some(self.now);
        }
        self.forget_selection_of(&path);
    }

    fn path(&self, id: PathId) -> Option<&Path> {
        self.paths.iter().find(|path| path.id == id)
    }

    fn path_mut(&mut self, id: PathId) -> Option<&mut Path> {
        self.paths.iter_mut().find(|path| path.id == id)
    }

    fn emit(&mut self, event: PathSetEvent) {
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

//! What peers make this process hold, and what gives way when it is too much.
//!
//! - **Back-pressure is by stream**; this is for what it does not bound: many streams, none of them
//!   read.
//! - **Whoever reads nothing for longest gives way**: resetting its flow frees what it held.
//! - **Who holds octets that nobody can read** (behind a gap, or for a backend that is not connected yet)
//!   has no flow that resetting would help: past its own budget the tunnel is closed.
//! - **When the process holds too much, the tunnel that holds most gives way**, not the one that speaks.
//! - **One-octet frames cost a buffer each**: a tunnel with four times the buffers after which flows are
//!   reset is closed, for then there is no flow that resetting would help.

use std::time::{Duration, Instant};

use crate::buffer_count::Meter;
use crate::flow::answer::StreamError;

use super::drive::close;
use super::plane::Plane;

/// Times the buffers after which flows are reset.
const CLOSED_ABOVE: usize = 4;
/// A tunnel that holds less than a stream's first window is not what fills the process.
const WORTHWHILE_BYTES: usize = 64 << 10;
/// Nor is one that holds less than this worth closing for the process.
const CLOSED_ABOVE_BYTES: usize = 4 << 20;
/// What is behind a gap, or came faster than it could be passed on, is readable long before.
pub(super) const HOARDING_MAX: Duration = Duration::from_secs(2);
/// Flows reset before others have their turn.
const RESETS_A_TURN: usize = 64;
/// The sum over all tunnels is made this often.
const PROCESS_INTERVAL: Duration = Duration::from_millis(100);

/// What all tunnels held when they were looked at last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ProcessBuffers {
    bytes: usize,
    /// The tunnel that held most.
    largest: Option<usize>,
    looked_at: Option<Instant>,
}

impl Plane {
    /// Resets flows of a tunnel while it holds too much, or closes it.
    pub(super) fn relieve(&mut self, key: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let closed_above = self.config.limits.tunnel_buffers_max.saturating_mul(CLOSED_ABOVE);
        if connection.meter.buffers() > closed_above {
            return connection.close(close::LIMIT_EXCEEDED, "too many buffers");
        }
        for _ in 0..RESETS_A_TURN {
            let over_own = self.is_over_own_budget(key);
            if !over_own && !self.must_give_way(key, now) {
                return self.note_hoarding(key, false, now);
            }
            let Some(unread) = self.longest_unread(key) else {
                let hoards = over_own || self.bytes_of(key) > CLOSED_ABOVE_BYTES;
                return self.note_hoarding(key, hoards, now);
            };
            self.counters.flows_reset_pressure += 1;
            self.fail_flow(unread, StreamError::LimitExceeded, now);
            // Each reset flow counts at once.
            self.flows.process_buffers.looked_at = None;
        }
        self.mark_received(key);
    }

    /// Closes a tunnel that goes on holding too much without a flow that could give way.
    fn note_hoarding(&mut self, key: usize, hoards: bool, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(tunnel) = connection.tunnel_mut() else { return };
        if !hoards {
            tunnel.hoards_since = None;
            return;
        }
        let since = *tunnel.hoards_since.get_or_insert(now);
        if now >= since + HOARDING_MAX {
            connection.close(close::LIMIT_EXCEEDED, "too much is held that nobody can read");
        }
    }

    /// Returns whether a tunnel may hold nothing more: its flows are refused.
    pub(super) fn is_over_budget(&mut self, key: usize, now: Instant) -> bool {
        self.is_over_own_budget(key)
            || (self.bytes_of(key) > WORTHWHILE_BYTES && self.is_process_full(now))
    }

    fn is_over_own_budget(&self, key: usize) -> bool {
        let limits = &self.config.limits;
        self.connections.get(key).is_some_and(|connection| {
            connection.meter.bytes() > limits.tunnel_buffer_bytes_max
                || connection.meter.buffers() > limits.tunnel_buffers_max
        })
    }

    fn bytes_of(&self, key: usize) -> usize {
        self.connections.get(key).map_or(0, |connection| connection.meter.bytes())
    }

    /// Returns whether the process holds too much and this tunnel most of it.
    fn must_give_way(&mut self, key: usize, now: Instant) -> bool {
        self.bytes_of(key) > WORTHWHILE_BYTES
            && self.is_process_full(now)
            && self.flows.process_buffers.largest == Some(key)
    }

    fn is_process_full(&mut self, now: Instant) -> bool {
        let most = self.config.limits.process_buffer_bytes_max;
        let known = self.flows.process_buffers;
        if known.looked_at.is_some_and(|at| now < at + PROCESS_INTERVAL) {
            return known.bytes > most;
        }
        let bytes = Meter::process_bytes();
        let mut largest = None;
        if bytes > most {
            let tunnels = self.connections.iter().filter(|(_, it)| it.tunnel().is_some());
            largest = tunnels.max_by_key(|(_, it)| it.meter.bytes()).map(|(key, _)| key);
            // It may be silent, with what it has sent lying here.
            largest.into_iter().for_each(|key| self.mark_received(key));
        }
        self.flows.process_buffers = ProcessBuffers { bytes, largest, looked_at: Some(now) };
        bytes > most
    }

    /// Returns the flow of a tunnel whose application has read nothing for longest.
    fn longest_unread(&self, key: usize) -> Option<usize> {
        let tunnel = self.connections.get(key)?.tunnel()?;
        let flows = tunnel.flows.values().filter_map(|it| Some((*it, self.flows.slab.get(*it)?)));
        let unread = flows.filter_map(|(it, flow)| Some((flow.down.blocked_since?, it)));
        unread.min().map(|(_, it)| it)
    }
}

//! What peers make this process hold, and what gives way when it is too much.
//!
//! - **Back-pressure is by stream**; this is for what it does not bound: many streams, none of them
//!   read.
//! - **Whoever reads nothing for longest gives way**: resetting its flow frees what it held.
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
/// The sum over all tunnels is made this often.
const PROCESS_INTERVAL: Duration = Duration::from_millis(100);

impl Plane {
    /// Resets flows of a tunnel while it holds too much, or closes it.
    pub(super) fn relieve(&mut self, key: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let closed_above = self.config.limits.tunnel_buffers_max.saturating_mul(CLOSED_ABOVE);
        if connection.meter.buffers() > closed_above {
            return connection.close(close::LIMIT_EXCEEDED, "too many buffers");
        }
        while self.is_over_budget(key, now) {
            let Some(unread) = self.longest_unread(key) else { return };
            self.counters.flows_reset_pressure += 1;
            self.fail_flow(unread, StreamError::LimitExceeded, now);
        }
    }

    /// Returns whether a tunnel may hold nothing more: its flows are refused.
    pub(super) fn is_over_budget(&mut self, key: usize, now: Instant) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        let limits = &self.config.limits;
        let (bytes, buffers) = (connection.meter.bytes(), connection.meter.buffers());
        if bytes > limits.tunnel_buffer_bytes_max || buffers > limits.tunnel_buffers_max {
            return true;
        }
        bytes > WORTHWHILE_BYTES && self.is_process_full(now)
    }

    fn is_process_full(&mut self, now: Instant) -> bool {
        let most = self.config.limits.process_buffer_bytes_max;
        let (bytes, looked_at) = self.flows.process_buffers;
        let is_recent = looked_at.is_some_and(|at| now < at + PROCESS_INTERVAL);
        // While it is too much every reset flow counts at once.
        if is_recent && bytes <= most {
            return false;
        }
        let bytes = Meter::process_bytes();
        self.flows.process_buffers = (bytes, Some(now));
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

//! Datagrams that are there before their flow.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What one tunnel keeps of them: at most 64 and 64 KiB, for at most a second.
#[derive(Default)]
pub(crate) struct EarlyDatagrams {
    held: VecDeque<(Instant, u64, Vec<u8>)>,
    bytes: usize,
}

impl EarlyDatagrams {
    const COUNT_MAX: usize = 64;
    const BYTES_MAX: usize = 65_536;
    const WAIT: Duration = Duration::from_secs(1);

    /// Keeps a datagram for `stream`; returns whether there was room.
    pub(super) fn hold(&mut self, stream: u64, octets: Vec<u8>, now: Instant) -> bool {
        self.expire(now);
        if self.held.len() >= Self::COUNT_MAX || self.bytes + octets.len() > Self::BYTES_MAX {
            return false;
        }
        self.bytes += octets.len();
        self.held.push_back((now, stream, octets));
        true
    }

    /// Removes and returns what is held for `stream`, oldest first.
    pub(super) fn take(&mut self, stream: u64, now: Instant) -> Vec<Vec<u8>> {
        self.expire(now);
        let mut taken = Vec::new();
        self.held.retain_mut(|(_, of, octets)| {
            if *of != stream {
                return true;
            }
            taken.push(std::mem::take(octets));
            false
        });
        self.bytes -= taken.iter().map(Vec::len).sum::<usize>();
        taken
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, _, octets)) = self.held.front() {
            if now < *at + Self::WAIT {
                return;
            }
            self.bytes -= octets.len();
            self.held.pop_front();
        }
    }
}

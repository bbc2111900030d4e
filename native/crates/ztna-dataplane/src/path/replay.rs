//! Copies of the packets sent last, as they were sent, to be sent again on another path.
//!
//! QUIC's receiver drops what it has already, so re-sending a tail byte for byte is harmless where it
//! arrived and saves it where it did not: nothing is declared lost and no congestion window is cut.
//!
//! - **One copy a train.** A GSO train is one entry; nothing is done by packet on the way in.
//! - **The memory is bounded** and exists only while the tunnel is active: it doubles up to what the
//!   rate asks for, at most 2 MiB, and is given back by [`ReplayRing::release`].
//! - **The last packet is never given up.** After a total outage it is the one whose acknowledgement
//!   declares all the others lost and so opens the window again.
//! - **So is the last short packet**, an acknowledgement: if everything arrived and only its
//!   acknowledgements were lost, a replayed tail is dropped as known and answered with nothing.

use std::collections::VecDeque;
use std::time::Instant;

/// Most that one tunnel's copies take.
pub(super) const RING_BYTES_MAX: usize = 2 << 20;
/// What a tunnel with somewhere else to go keeps at least.
pub(super) const RING_BYTES_MIN: usize = 64 << 10;
/// What a tunnel with one path keeps: eight packets, to resume after an outage.
pub(super) const RING_BYTES_ONE_PATH: usize = 12 << 10;
const FIRST_BYTES: usize = RING_BYTES_ONE_PATH;

/// The copies, oldest first, and how far a replay has come.
#[derive(Debug, Default)]
pub(super) struct ReplayRing {
    buffer: Vec<u8>,
    trains: VecDeque<Train>,
    /// Sequence number of the front of `trains`.
    front: u64,
    /// Where the next train goes.
    write: usize,
    /// The last packet, while there is no buffer.
    last: Vec<u8>,
    /// The last packet that deserved no answer, and whether the replay has yet to send it.
    short: Vec<u8>,
    short_due: bool,
    replay: Option<Replay>,
}

#[derive(Clone, Copy, Debug)]
struct Train {
    start: usize,
    length: usize,
    segment: usize,
    /// Octets before each packet that belong to the path it was sent on.
    prefix: usize,
    sent_at: Instant,
}

#[derive(Clone, Copy, Debug)]
enum Replay {
    /// Trains of these sequence numbers, from an octet of the first.
    Trains { next: u64, offset: usize, end: u64 },
    /// The packet that outlived the buffer.
    Last,
}

impl ReplayRing {
    /// Copies a train of `segment` octets a packet, the last of which may be shorter, each behind
    /// `prefix` octets that are no part of it. Of a train larger than `limit` the end is kept.
    pub(super) fn record(
        &mut self,
        packets: &[u8],
        segment: usize,
        prefix: usize,
        limit: usize,
        now: Instant,
    ) {
        if packets.is_empty() || segment == 0 {
            return;
        }
        let limit = limit.clamp(RING_BYTES_ONE_PATH, RING_BYTES_MAX);
        let excess = packets.len().saturating_sub(limit).next_multiple_of(segment);
        let packets = packets.get(excess..).unwrap_or_default();
        self.make_room(packets.len(), limit);
        let Some(target) = self.buffer.get_mut(self.write..self.write + packets.len()) else {
            return;
        };
        target.copy_from_slice(packets);
        let (start, length) = (self.write, packets.len());
        self.trains.push_back(Train { start, length, segment, prefix, sent_at: now });
        self.write += length;
    }

    /// Copies the last packet of a train of acknowledgements.
    pub(super) fn record_short(&mut self, packets: &[u8], segment: usize, prefix: usize) {
        let last = packets.chunks(segment.max(1)).next_back();
        if let Some(packet) = last.and_then(|last| last.get(prefix..)) {
            self.short.clear();
            self.short.extend_from_slice(packet);
        }
    }

    /// Starts to replay what was sent after `since`, and the last packet whenever it was sent.
    pub(super) fn replay_since(&mut self, since: Instant) {
        let older = self.trains.partition_point(|train| train.sent_at <= since);
        let first = older.min(self.trains.len().saturating_sub(1));
        self.start_replay(first, 0);
        if let (Some(train), true) = (self.trains.back(), older == self.trains.len()) {
            self.start_replay(first, last_packet_offset(train));
        }
    }

    /// Starts to replay the newest `packets`.
    pub(super) fn replay_newest(&mut self, packets: usize) {
        let mut missing = packets;
        for (index, train) in self.trains.iter().enumerate().rev() {
            let held = train.length.div_ceil(train.segment);
            if held >= missing || index == 0 {
                let offset = held.saturating_sub(missing) * train.segment;
                return self.start_replay(index, offset);
            }
            missing -= held;
        }
        self.start_replay(0, 0);
    }

    pub(super) fn is_replaying(&self) -> bool {
        self.replay.is_some() || self.short_due
    }

    pub(super) fn stop_replay(&mut self) {
        self.replay = None;
        self.short_due = false;
    }

    /// Copies the next packet of the replay and returns its size; `None` when there is none or it
    /// does not fit.
    pub(super) fn next_packet(&mut self, out: &mut [u8]) -> Option<usize> {
        if std::mem::take(&mut self.short_due) {
            out.get_mut(..self.short.len())?.copy_from_slice(&self.short);
            return Some(self.short.len());
        }
        let packet = match self.replay? {
            Replay::Last => {
                self.replay = None;
                self.last.as_slice()
            }
            Replay::Trains { next, offset, end } => {
                // What newer trains have overwritten meanwhile is skipped.
                let (next, offset) =
                    if next < self.front { (self.front, 0) } else { (next, offset) };
                let index = usize::try_from(next - self.front).ok()?;
                let Some(train) = self.trains.get(index).filter(|_| next < end) else {
                    self.replay = None;
                    return None;
                };
                let size = train.segment.min(train.length - offset);
                let at = train.start + offset;
                let after = offset + size;
                let (next, offset) =
                    if after < train.length { (next, after) } else { (next + 1, 0) };
                self.replay = (next < end).then_some(Replay::Trains { next, offset, end });
                let prefix = train.prefix;
                self.buffer.get(at + prefix..at + size)?
            }
        };
        out.get_mut(..packet.len())?.copy_from_slice(packet);
        Some(packet.len()).filter(|size| *size > 0)
    }

    /// Gives the memory back but for the last packet; a replay under way goes on with that alone.
    pub(super) fn release(&mut self) {
        if let Some(train) = self.trains.back() {
            let at = train.start + last_packet_offset(train) + train.prefix;
            let packet = self.buffer.get(at..train.start + train.length).unwrap_or_default();
            self.last = packet.to_vec();
        }
        self.front += self.trains.len() as u64;
        self.trains = VecDeque::new();
        self.buffer = Vec::new();
        self.write = 0;
        if self.replay.is_some() {
            self.replay = Some(Replay::Last);
        }
    }

    pub(super) fn is_allocated(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn start_replay(&mut self, index: usize, offset: usize) {
        self.short_due = !self.short.is_empty();
        let end = self.front + self.trains.len() as u64;
        let next = self.front + index as u64;
        self.replay = if next < end {
            Some(Replay::Trains { next, offset, end })
        } else {
            (!self.last.is_empty()).then_some(Replay::Last)
        };
    }

    /// Makes `self.write..self.write + bytes` free: by growing within the limit, then by giving up the
    /// oldest.
    fn make_room(&mut self, bytes: usize, limit: usize) {
        let wanted = bytes.max(FIRST_BYTES);
        if self.buffer.len() < wanted {
            self.resize(wanted.next_power_of_two().min(limit).max(wanted));
        } else if self.buffer.len() > limit.saturating_mul(2) {
            self.resize(limit.max(wanted));
        }
        if self.write + bytes > self.buffer.len() {
            let full = self.buffer.len() < limit;
            if full {
                self.resize((self.buffer.len() * 2).min(limit));
            }
        }
        if self.write + bytes > self.buffer.len() {
            // The trains of the lap before that lie beyond the write position go with the wrap.
            let write = self.write;
            self.give_up_while(|train| train.start >= write);
            self.write = 0;
        }
        let (from, to) = (self.write, self.write + bytes);
        self.give_up_while(|train| train.start < to && train.start + train.length > from);
    }

    fn give_up_while(&mut self, condition: impl Fn(&Train) -> bool) {
        while self.trains.front().is_some_and(&condition) {
            self.trains.pop_front();
            self.front += 1;
        }
    }

    /// Moves the newest trains that fit to the start of a buffer of another size.
    fn resize(&mut self, capacity: usize) {
        let mut total: usize = self.trains.iter().map(|train| train.length).sum();
        while total > capacity {
            total -= self.trains.pop_front().map_or(total, |train| train.length);
            self.front += 1;
        }
        let mut buffer = vec![0; capacity];
        let mut write = 0;
        for train in &mut self.trains {
            let octets = self.buffer.get(train.start..train.start + train.length);
            if let (Some(to), Some(from)) = (buffer.get_mut(write..write + train.length), octets) {
                to.copy_from_slice(from);
            }
            train.start = write;
            write += train.length;
        }
        self.buffer = buffer;
        self.write = write;
    }
}

fn last_packet_offset(train: &Train) -> usize {
    train.length.saturating_sub(1) / train.segment * train.segment
}

#[cfg(test)]
#[path = "tests/replay.rs"]
mod tests;

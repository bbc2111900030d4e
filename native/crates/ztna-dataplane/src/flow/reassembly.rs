//! Puts the pieces of one tunnel's packets together again.
//!
//! - **Bounded whatever the peer sends**: 64 packets, 256 KiB, 2 s each. What is announced is charged,
//!   not what arrived. When there is no room the oldest packet gives way: pieces of a packet arrive
//!   close together, so the oldest is the one that lost a piece.
//! - **Pieces may come in any order, but once.** QUIC delivers a DATAGRAM at most once, so an overlap
//!   is a broken or hostile peer's and costs it the packet; so does a total that changes.
//! - **A gap is never delivered.** A packet that is not whole after 2 s is dropped.
//! - Every drop is counted by its reason.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::flow::datagram::Piece;

/// Packets under way at a time.
pub(crate) const PACKETS_MAX: usize = 64;

/// Octets of packets under way at a time.
pub(crate) const BYTES_MAX: usize = 256 * 1024;

/// How long a packet waits for its last piece.
pub(crate) const LIFETIME: Duration = Duration::from_secs(2);

/// Stretches between which a packet may have gaps. The largest packet is eight pieces on the smallest
/// path, so that honest pieces in the worst order need four.
const STRETCHES_MAX: usize = 16;

/// Why a packet was not put together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ReassemblyDrop {
    /// Two pieces held the same octet.
    Overlap,
    /// Two pieces gave different totals.
    TotalChanged,
    /// More gaps than pieces of an honest size leave.
    Fragmented,
    /// A gap stayed for 2 s.
    TimedOut,
    /// A newer packet needed the room.
    Evicted,
    /// Its flow ended.
    FlowEnded,
}

impl ReassemblyDrop {
    /// Every reason.
    pub(crate) const ALL: [Self; 6] = [
        Self::Overlap,
        Self::TotalChanged,
        Self::Fragmented,
        Self::TimedOut,
        Self::Evicted,
        Self::FlowEnded,
    ];

    /// Returns the name of its counter.
    pub(crate) const fn counter(self) -> &'static str {
        match self {
            Self::Overlap => "reassembly_drops_overlap",
            Self::TotalChanged => "reassembly_drops_total_changed",
            Self::Fragmented => "reassembly_drops_fragmented",
            Self::TimedOut => "reassembly_drops_timed_out",
            Self::Evicted => "reassembly_drops_evicted",
            Self::FlowEnded => "reassembly_drops_flow_ended",
        }
    }
}

/// The packets of one tunnel that are under way.
#[derive(Debug, Default)]
pub(crate) struct Reassembler {
    /// Oldest first: all live equally long, so the first is the first to time out.
    packets: VecDeque<Packet>,
    /// Sum of the totals.
    bytes: usize,
    drops: [u64; ReassemblyDrop::ALL.len()],
}

#[derive(Debug)]
struct Packet {
    flow: u64,
    id: u16,
    octets: Vec<u8>,
    /// What arrived: in order, apart from each other.
    stretches: Vec<Range<usize>>,
    expires_at: Instant,
}

impl Reassembler {
    /// Creates one that holds nothing.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes a piece and returns the packet when it is the last one.
    ///
    /// `piece` is one that [`super::datagram::FlowDatagram::read`] accepted.
    pub(crate) fn insert(&mut self, piece: &Piece<'_>, now: Instant) -> Option<Vec<u8>> {
        self.handle_timeout(now);

        let found = self.packets.iter().position(|p| p.flow == piece.flow && p.id == piece.packet);
        let index = match found {
            Some(index) => index,
            None => self.start(piece, now),
        };
        let packet = self.packets.get_mut(index)?;
        match packet.place(piece) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(reason) => {
                self.discard(index, reason);
                return None;
            }
        }

        let packet = self.packets.remove(index)?;
        self.bytes -= packet.octets.len();
        Some(packet.octets)
    }

    /// Drops the packets that waited for 2 s.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while self.packets.front().is_some_and(|packet| packet.expires_at <= now) {
            self.discard(0, ReassemblyDrop::TimedOut);
        }
    }

    /// Drops the packets of a flow that ended.
    pub(crate) fn end_flow(&mut self, flow: u64) {
        while let Some(index) = self.packets.iter().position(|packet| packet.flow == flow) {
            self.discard(index, ReassemblyDrop::FlowEnded);
        }
    }

    /// Returns how many packets were dropped for each reason.
    pub(crate) fn drops(&self) -> impl Iterator<Item = (ReassemblyDrop, u64)> {
        ReassemblyDrop::ALL.into_iter().zip(self.drops)
    }

    /// Returns how many packets are under way.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Returns how many octets are set aside for them.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes room for a packet, and returns where it is.
    fn start(&mut self, piece: &Piece<'_>, now: Instant) -> usize {
        let total = usize::from(piece.total);
        while !self.packets.is_empty()
            && (self.packets.len() >= PACKETS_MAX || self.bytes + total > BYTES_MAX)
        {
            self.discard(0, ReassemblyDrop::Evicted);
        }

        self.bytes += total;
        self.packets.push_back(Packet {
            flow: piece.flow,
            id: piece.packet,
            octets: vec![0; total],
            stretches: Vec::new(),
            expires_at: now + LIFETIME,
        });
        self.packets.len() - 1
    }

    fn discard(&mut self, index: usize, reason: ReassemblyDrop) {
        if let Some(packet) = self.packets.remove(index) {
            self.bytes -= packet.octets.len();
        }
        if let Some(count) = self.drops.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

impl Packet {
    /// Copies a piece to its place and returns whether the packet is whole.
    fn place(&mut self, piece: &Piece<'_>) -> Result<bool, ReassemblyDrop> {
        let total = usize::from(piece.total);
        if total != self.octets.len() {
            return Err(ReassemblyDrop::TotalChanged);
        }
        let start = usize::from(piece.offset);
        let end = start + piece.octets.len();
        let at = self.stretches.partition_point(|stretch| stretch.end <= start);
        if self.stretches.get(at).is_some_and(|next| next.start < end) {
            return Err(ReassemblyDrop::Overlap);
        }
        let Some(place) = self.octets.get_mut(start..end) else {
            return Err(ReassemblyDrop::Overlap);
        };
        place.copy_from_slice(piece.octets);

        self.stretches.insert(at, start..end);
        self.join(at);
        self.join(at.wrapping_sub(1));
        if self.stretches.len() > STRETCHES_MAX {
            return Err(ReassemblyDrop::Fragmented);
        }
        Ok(self.stretches.first().is_some_and(|stretch| *stretch == (0..total)))
    }

    /// Makes the stretch at `at` and its successor one if they touch.
    fn join(&mut self, at: usize) {
        let Some([left, right, ..]) = self.stretches.get_mut(at..) else { return };
        if left.end == right.start {
            left.end = right.end;
            self.stretches.remove(at + 1);
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

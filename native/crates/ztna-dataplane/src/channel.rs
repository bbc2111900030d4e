//! The relay's blind forwarding of tunnel packets between two legs' addresses.
//!
//! ```text
//!  0                1                            9
//!  +----------------+----------------------------+---------------------------------+
//!  | 01rrrrrr       | channel id (8)             | QUIC packet or STUN check       |
//!  +----------------+----------------------------+---------------------------------+
//! ```
//!
//! - **The id that comes in is the one the relay issued for that side; the id that goes out is the one
//!   the other side's client issued.** Nothing else of the frame changes and nothing of it is read
//!   beyond the first octet of the payload.
//! - **Only the address of a channel's leg may use it.** The table never learns an address from a
//!   packet: the owner sets it when a leg is admitted or moves, and takes it away when a leg is lost.
//! - **What is not forwarded is dropped and counted, never answered.**
//! - **One look-up for neighbours of one channel, and no allocation.** Addresses are kept in the
//!   channel, so moving a leg costs a walk over its channels and forwarding costs nothing more.

use std::net::SocketAddr;
use std::time::Instant;

use crate::command::ChannelSide;
use crate::demux::IdMap;
use crate::id::{ConnectionHandle, WireId};
use crate::rate_limit::RateLimit;

mod figures;
mod legs;

pub(crate) use figures::{ChannelCounters, ChannelDrop};
use legs::Legs;

/// Octets before the payload.
pub(crate) const PREFIX_BYTES: usize = 1 + WireId::LENGTH;

/// Smallest payload: a STUN header.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 20;

/// Largest payload: an Ethernet MTU, above every size that paths are raised to.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1_500;

/// A limited channel saves up this part of a second's bits.
const BURST_PART_OF_SECOND: u64 = 20;

/// Smallest burst: one GRO train, or a slow channel would never pass one.
const BURST_BYTES_MIN: u64 = 65_536;

/// Why a channel cannot be opened: the owner's mistake, for its peers' ids are not keys here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ChannelOpenError {
    /// Both sides have the same id, or one of them is no channel id.
    #[error("{0:?} is no id for a side of a channel")]
    InvalidId(WireId),
    /// Another channel has the id.
    #[error("{0:?} belongs to another channel")]
    IdInUse(WireId),
}

/// All channels of a relay.
#[derive(Debug, Default)]
pub(crate) struct ChannelTable {
    /// By the id that comes in. The sides lie in the table itself: among many channels a second place
    /// to look in is a second cache miss.
    sides: IdMap<Side>,
    legs: Legs,
    counters: ChannelCounters,
}

/// Frames that one channel took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Forwarded {
    pub(crate) destination: SocketAddr,
    pub(crate) octets: usize,
}

/// One direction: what comes in with its id goes out to the other side.
#[derive(Debug)]
struct Side {
    /// Where frames with this id must come from.
    source: Option<SocketAddr>,
    /// Where they go: the other side's leg.
    destination: Option<SocketAddr>,
    /// The id they go out with.
    send_id: WireId,
    limit: Option<RateLimit>,
    leg: ConnectionHandle,
    /// The id that the other direction comes in with.
    other: WireId,
}

impl ChannelTable {
    /// Creates an empty table.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Pairs two legs. A channel that has both ids is replaced: its legs, client ids and rate are the
    /// ones given here. `rate_bps` counts each way, 0 = no limit.
    ///
    /// Legs without an address are suspended until [`Self::set_leg_address`]. How many channels a leg
    /// may have is the caller's to bound.
    pub(crate) fn open(
        &mut self,
        a: ChannelSide,
        b: ChannelSide,
        rate_bps: u64,
        now: Instant,
    ) -> Result<(), ChannelOpenError> {
        for (id, other) in [(a.relay_id, b.relay_id), (b.relay_id, a.relay_id)] {
            if !id.is_channel() || id == other {
                return Err(ChannelOpenError::InvalidId(id));
            }
        }
        self.close_replaced(a.relay_id, b.relay_id)?;

        self.insert(a, b, rate_bps, now);
        self.insert(b, a, rate_bps, now);
        Ok(())
    }

    /// Ends the channel that has this relay id on either side; returns the ids of both.
    pub(crate) fn close(&mut self, relay_id: WireId) -> Option<[WireId; 2]> {
        let other = self.sides.get(&relay_id)?.other;
        self.remove(relay_id);
        self.remove(other);
        Some([relay_id, other])
    }

    /// Gives the channels of one leg to the leg that supersedes it, with the address of the latter.
    pub(crate) fn move_leg(&mut self, from: ConnectionHandle, to: ConnectionHandle) {
        if from == to {
            return;
        }
        let address = self.legs.address(to);
        for relay_id in self.legs.detach_all(from) {
            if let Some(side) = self.sides.get_mut(&relay_id) {
                side.leg = to;
            }
            self.legs.attach(to, relay_id);
            self.set_side_address(relay_id, address);
        }
    }

    /// Sets where a leg is, from which its frames must come and to which they are sent. `None`
    /// suspends its channels.
    pub(crate) fn set_leg_address(&mut self, leg: ConnectionHandle, address: Option<SocketAddr>) {
        for relay_id in self.legs.set_address(leg, address) {
            self.set_side_address(relay_id, address);
        }
    }

    /// Rewrites the ids of the frames at the front of `train` that one channel takes, in place.
    ///
    /// The frames are `stride` octets long, the last of the train perhaps shorter. Returns where they
    /// go and how many octets they are, one frame at least, or counts why the first goes nowhere. The
    /// caller goes on behind them, or behind the first: what ends a run is judged when it comes first.
    #[inline]
    pub(crate) fn forward(
        &mut self,
        train: &mut [u8],
        stride: usize,
        source: SocketAddr,
        now: Instant,
    ) -> Result<Forwarded, ChannelDrop> {
        let outcome = self.try_forward(train, stride.max(1), source, now);
        if let Err(reason) = outcome
            && let Some(count) = self.counters.drops.get_mut(reason as usize)
        {
            *count += 1;
        }
        outcome
    }

    /// Returns the figures of all channels, closed ones included.
    pub(crate) const fn counters(&self) -> &ChannelCounters {
        &self.counters
    }

    /// Returns how many channels are open.
    pub(crate) fn len(&self) -> usize {
        self.sides.len() / 2
    }

    #[inline]
    fn try_forward(
        &mut self,
        train: &mut [u8],
        stride: usize,
        source: SocketAddr,
        now: Instant,
    ) -> Result<Forwarded, ChannelDrop> {
        let mut frames = train.chunks_mut(stride);
        let first = Frame::parse(frames.next().unwrap_or_default())?;
        let id = WireId(*first.id);
        let side = self.sides.get_mut(&id).ok_or(ChannelDrop::UnknownChannel)?;
        let (Some(expected), Some(destination)) = (side.source, side.destination) else {
            return Err(ChannelDrop::Suspended);
        };
        if expected != source {
            return Err(ChannelDrop::WrongSource);
        }
        if !side.may_send(first.length, now) {
            return Err(ChannelDrop::RateExceeded);
        }

        let (mut octets, mut packets) = (first.length, 1);
        *first.id = side.send_id.0;
        while let Some(Ok(frame)) = frames.next().map(Frame::parse)
            && *frame.id == id.0
            && side.may_send(frame.length, now)
        {
            *frame.id = side.send_id.0;
            octets += frame.length;
            packets += 1;
        }
        self.counters.packets += packets;
        self.counters.bytes += octets as u64 - packets * PREFIX_BYTES as u64;
        Ok(Forwarded { destination, octets })
    }

    /// Inserts one direction.
    fn insert(&mut self, side: ChannelSide, peer: ChannelSide, rate_bps: u64, now: Instant) {
        let direction = Side {
            source: self.legs.address(side.leg),
            destination: self.legs.address(peer.leg),
            send_id: peer.client_id,
            limit: (rate_bps > 0).then(|| new_limit(rate_bps, now)),
            leg: side.leg,
            other: peer.relay_id,
        };
        self.sides.insert(side.relay_id, direction);
        self.legs.attach(side.leg, side.relay_id);
    }

    /// Removes one direction.
    fn remove(&mut self, relay_id: WireId) {
        if let Some(side) = self.sides.remove(&relay_id) {
            self.legs.detach(side.leg, relay_id);
        }
    }

    /// Removes the channel that has both ids; refuses ids of two channels.
    fn close_replaced(&mut self, a: WireId, b: WireId) -> Result<(), ChannelOpenError> {
        match (self.sides.get(&a), self.sides.get(&b)) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(ChannelOpenError::IdInUse(b)),
            (Some(side), Some(_)) if side.other == b => {
                self.close(a);
                Ok(())
            }
            (Some(_), _) => Err(ChannelOpenError::IdInUse(a)),
        }
    }

    fn set_side_address(&mut self, relay_id: WireId, address: Option<SocketAddr>) {
        let Some(side) = self.sides.get_mut(&relay_id) else { return };
        side.source = address;
        let other = side.other;
        if let Some(other) = self.sides.get_mut(&other) {
            other.destination = address;
        }
    }
}

/// A frame of the right shape.
struct Frame<'a> {
    id: &'a mut [u8; WireId::LENGTH],
    length: usize,
}

impl<'a> Frame<'a> {
    #[inline]
    fn parse(frame: &'a mut [u8]) -> Result<Self, ChannelDrop> {
        let length = frame.len();
        if length < PREFIX_BYTES + PAYLOAD_BYTES_MIN {
            return Err(ChannelDrop::TooShort);
        }
        if length > PREFIX_BYTES + PAYLOAD_BYTES_MAX {
            return Err(ChannelDrop::TooLong);
        }
        let Some(([first, id @ ..], [inner, ..])) = frame.split_first_chunk_mut::<PREFIX_BYTES>()
        else {
            return Err(ChannelDrop::TooShort);
        };
        if *first & 0xc0 != 0x40 || matches!(*inner, 0x04..=0x3f) {
            return Err(ChannelDrop::Malformed);
        }
        Ok(Self { id, length })
    }
}

impl Side {
    #[inline]
    fn may_send(&mut self, octets: usize, now: Instant) -> bool {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        self.limit.as_mut().is_none_or(|limit| limit.try_spend(octets, now))
    }
}

fn new_limit(rate_bps: u64, now: Instant) -> RateLimit {
    let burst = (rate_bps / 8 / BURST_PART_OF_SECOND).max(BURST_BYTES_MIN);
    RateLimit::new(rate_bps, u32::try_from(burst).unwrap_or(u32::MAX), now)
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

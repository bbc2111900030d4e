//! Puts fragmented datagrams together: an application may send more than the device's MTU.
//!
//! - **Bounded**: at most [`PACKETS_MAX`] packets at a time (the oldest makes room), each at most
//!   [`DATAGRAM_MAX`] octets and [`PIECES_MAX`] pieces, for at most [`LIFETIME`].
//! - **An overlap or a contradiction drops the whole packet** (RFC 5722 §3, for both families).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::ip::{Fragment, IpPacket};

/// The bounds of pieces in the tunnel (`docs/protocol.md`, flows), which carries these datagrams next.
pub(super) const PACKETS_MAX: usize = 64;
/// A header of 8 octets and the largest datagram that a tunnel carries.
pub(super) const DATAGRAM_MAX: usize = 9_216 + 8;
/// A datagram of the largest size in pieces of an IPv4 path of 576 octets needs 17.
pub(super) const PIECES_MAX: usize = 32;
/// As long as a tunnel waits for pieces.
pub(super) const LIFETIME: Duration = Duration::from_secs(2);

/// Packets of which pieces are missing.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    packets: BTreeMap<Key, Partial>,
}

/// What became of a fragment.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Reassembled {
    /// More pieces are needed.
    Waiting,
    /// The transport header and all behind it.
    Whole(Vec<u8>),
    /// This many pieces were dropped, this one among them.
    Dropped(usize),
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Key {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
}

#[derive(Debug)]
struct Partial {
    expires: Instant,
    octets: Vec<u8>,
    /// Non-overlapping `start..end`, in order of arrival.
    pieces: Vec<(usize, usize)>,
    received: usize,
    total: Option<usize>,
}

impl Reassembly {
    /// Takes one fragment. What it displaces is counted in `evicted`.
    pub(super) fn add(
        &mut self,
        packet: &IpPacket,
        fragment: Fragment,
        payload: &[u8],
        now: Instant,
        evicted: &mut u64,
    ) -> Reassembled {
        let key = Key {
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol,
            identification: fragment.identification,
        };
        if !self.packets.contains_key(&key) && self.packets.len() >= PACKETS_MAX {
            *evicted += self.evict_oldest();
        }
        let partial = self.packets.entry(key).or_insert_with(|| Partial::new(now + LIFETIME));
        if !partial.add(fragment, payload) {
            let pieces = partial.pieces.len() + 1;
            self.packets.remove(&key);
            return Reassembled::Dropped(pieces);
        }
        if partial.total != Some(partial.received) {
            return Reassembled::Waiting;
        }

        match self.packets.remove(&key) {
            Some(partial) => Reassembled::Whole(partial.octets),
            None => Reassembled::Waiting,
        }
    }

    /// Forgets packets whose pieces did not come and returns how many pieces that were.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> u64 {
        let mut dropped = 0;
        self.packets.retain(|_, partial| {
            let keep = partial.expires > now;
            dropped += if keep { 0 } else { partial.pieces.len() as u64 };
            keep
        });
        dropped
    }

    /// Returns when the next packet is forgotten.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.packets.values().map(|partial| partial.expires).min()
    }

    fn evict_oldest(&mut self) -> u64 {
        let oldest = self.packets.iter().min_by_key(|(_, partial)| partial.expires);
        let Some(key) = oldest.map(|(key, _)| *key) else { return 0 };
        self.packets.remove(&key).map_or(0, |partial| partial.pieces.len() as u64)
    }
}

impl Partial {
    const fn new(expires: Instant) -> Self {
        Self { expires, octets: Vec::new(), pieces: Vec::new(), received: 0, total: None }
    }

    /// Returns whether the piece fits what is known.
    fn add(&mut self, fragment: Fragment, payload: &[u8]) -> bool {
        let start = fragment.offset;
        let end = start + payload.len();
        let aligned = !fragment.more || payload.len().is_multiple_of(8);
        let overlaps = self.pieces.iter().any(|&(from, to)| start < to && from < end);
        if payload.is_empty()
            || !aligned
            || overlaps
            || end > DATAGRAM_MAX
            || self.pieces.len() >= PIECES_MAX
        {
            return false;
        }
        if !fragment.more && self.total.replace(end).is_some() {
            return false;
        }
        if self.total.is_some_and(|total| end > total || self.octets.len() > total) {
            return false;
        }

        if self.octets.len() < end {
            self.octets.resize(end, 0);
        }
        if let Some(target) = self.octets.get_mut(start..end) {
            target.copy_from_slice(payload);
        }
        self.pieces.push((start, end));
        self.received += payload.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_any_order_become_the_packet() {
        let mut reassembly = Reassembly::default();
        let now = epoch();

        assert_eq!(add(&mut reassembly, 1, 16, false, &[3; 5], now), Reassembled::Waiting);
        assert_eq!(add(&mut reassembly, 1, 0, true, &[1; 8], now), Reassembled::Waiting);
        let whole = add(&mut reassembly, 1, 8, true, &[2; 8], now);

        let expected = [[1; 8].as_slice(), &[2; 8], &[3; 5]].concat();
        assert_eq!(whole, Reassembled::Whole(expected));
        assert_eq!(reassembly.poll_timeout(), None);
    }

    #[test]
    fn an_overlap_drops_the_whole_packet() {
        let mut reassembly = Reassembly::default();
        let now = epoch();
        add(&mut reassembly, 1, 0, true, &[1; 16], now);

        assert_eq!(add(&mut reassembly, 1, 8, true, &[1; 8], now), Reassembled::Dropped(2));
        assert_eq!(add(&mut reassembly, 1, 16, false, &[1; 8], now), Reassembled::Waiting);
    }

    #[test]
    fn a_last_piece_that_contradicts_what_came_drops_the_packet() {
        let mut reassembly = Reassembly::default();
        let now = epoch();
        add(&mut reassembly, 1, 24, true, &[1; 8], now);

        assert_eq!(add(&mut reassembly, 1, 8, false, &[1; 8], now), Reassembled::Dropped(2));
    }

    #[test]
    fn the_largest_datagram_is_taken_and_one_octet_more_is_not() {
        let mut reassembly = Reassembly::default();
        let now = epoch();
        let head = vec![7; 9_216];

        add(&mut reassembly, 1, 0, true, &head, now);
        let whole = add(&mut reassembly, 1, 9_216, false, &[7; 8], now);
        assert_eq!(whole, Reassembled::Whole(vec![7; DATAGRAM_MAX]));

        add(&mut reassembly, 2, 0, true, &head, now);
        let dropped = add(&mut reassembly, 2, 9_216, false, &[7; 9], now);
        assert_eq!(dropped, Reassembled::Dropped(2));
    }

    #[test]
    fn the_oldest_packet_makes_room_for_one_past_the_limit() {
        let mut reassembly = Reassembly::default();
        let now = epoch();
        let mut evicted = 0;
        for id in 0..=PACKETS_MAX as u32 {
            assert_eq!(evicted, 0);
            let now = now + Duration::from_millis(id.into());
            let fragment = Fragment { identification: id, offset: 0, more: true };
            reassembly.add(&packet(), fragment, &[0; 8], now, &mut evicted);
        }

        assert_eq!((evicted, reassembly.packets.len()), (1, PACKETS_MAX));
        assert_eq!(reassembly.poll_timeout(), Some(now + LIFETIME + Duration::from_millis(1)));
    }

    #[test]
    fn a_packet_takes_its_most_pieces_and_not_one_more() {
        let mut reassembly = Reassembly::default();
        let now = epoch();
        for piece in 0..PIECES_MAX {
            let waiting = add(&mut reassembly, 1, piece * 16, true, &[0; 8], now);
            assert_eq!(waiting, Reassembled::Waiting);
        }

        let past = add(&mut reassembly, 1, PIECES_MAX * 16, true, &[0; 8], now);

        assert_eq!(past, Reassembled::Dropped(PIECES_MAX + 1));
    }

    #[test]
    fn missing_pieces_are_waited_for_as_long_as_the_tunnel_does() {
        let mut reassembly = Reassembly::default();
        let now = epoch();
        add(&mut reassembly, 1, 0, true, &[1; 8], now);

        assert_eq!(reassembly.handle_timeout(now + LIFETIME - Duration::from_millis(1)), 0);
        assert_eq!(reassembly.handle_timeout(now + LIFETIME), 1);
    }

    fn add(
        reassembly: &mut Reassembly,
        identification: u32,
        offset: usize,
        more: bool,
        payload: &[u8],
        now: Instant,
    ) -> Reassembled {
        let fragment = Fragment { identification, offset, more };
        reassembly.add(&packet(), fragment, payload, now, &mut 0)
    }

    fn packet() -> IpPacket {
        IpPacket {
            source: "10.0.0.1".parse().unwrap(),
            destination: "10.100.0.1".parse().unwrap(),
            protocol: 17,
            transport: 20,
            total: 28,
            fragment: None,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do: only differences matter")]
    fn epoch() -> Instant {
        Instant::now()
    }
}

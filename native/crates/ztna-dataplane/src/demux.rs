//! What a UDP payload is, and whose: the first octet tells the kind, eight octets tell the owner.
//!
//! ```text
//! 0x00..0x03   STUN
//! 0x40..0x7F   QUIC short header, or a channel frame, which has its shape   (id at offset 1)
//! 0x80..0xFF   QUIC long header                                             (id = DCID)
//! ```
//!
//! - **Every id comes from one issuer a process.** Two live things never share an id, and the lowest
//!   bit of the last octet tells connection ids (0) from channel ids (1) before any look-up.
//! - **Ids are random and only we insert them.** A peer can ask for any id but cannot choose what is in
//!   a table, so [`IdMap`] hashes by taking the octets as they are.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::id::WireId;

/// What the first octet of a UDP payload says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PacketKind {
    /// A check, or address discovery (RFC 8489).
    Stun,
    /// QUIC version 1, or a channel frame when the header is short.
    Quic {
        /// Whether the header is long: a handshake packet.
        long: bool,
    },
    /// Nothing of ours.
    Invalid,
}

/// Returns what a payload that begins with `first` is (RFC 9443 §3 narrowed to what is sent here).
pub(crate) const fn classify(first: u8) -> PacketKind {
    match first {
        0x00..=0x03 => PacketKind::Stun,
        0x40..=0x7f => PacketKind::Quic { long: false },
        0x80..=0xff => PacketKind::Quic { long: true },
        0x04..=0x3f => PacketKind::Invalid,
    }
}

/// A table keyed by id.
pub(crate) type IdMap<V> = HashMap<WireId, V, BuildHasherDefault<IdHasher>>;

/// Hashes a [`WireId`] to itself. Only for keys that are random and our own.
#[derive(Clone, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        // Little-endian puts the octet with the fixed bit on top, where a hash table looks last.
        if let Some(octets) = octets.first_chunk() {
            self.0 ^= u64::from_le_bytes(*octets);
        }
    }

    /// The length that precedes an array's elements: the same for every id.
    fn write_usize(&mut self, _length: usize) {}
}

/// Which table an id belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum IdKind {
    /// QUIC source connection id.
    Connection,
    /// Channel, as one side knows it.
    Channel,
}

/// Hands out ids that nothing alive has.
///
/// A clone is another handle on the same issuer, so that the thread that opens channels and the one
/// that accepts connections never collide.
#[derive(Clone)]
pub(crate) struct IdIssuer {
    state: Arc<Mutex<IssuerState>>,
}

/// Fills eight octets with unpredictable bits.
type RandomSource = Box<dyn FnMut(&mut [u8; WireId::LENGTH]) + Send>;

struct IssuerState {
    live: HashSet<WireId, BuildHasherDefault<IdHasher>>,
    random: RandomSource,
}

impl IdIssuer {
    /// Creates an issuer that draws from `random`, which must be unpredictable: whoever guesses a
    /// channel id can spend its rate.
    pub(crate) fn new(random: impl FnMut(&mut [u8; WireId::LENGTH]) + Send + 'static) -> Self {
        let state = IssuerState { live: HashSet::default(), random: Box::new(random) };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Creates an issuer that draws from BoringSSL.
    #[expect(clippy::expect_used, reason = "BoringSSL aborts before it reports a failure here")]
    pub(crate) fn from_system() -> Self {
        Self::new(|octets| boring::rand::rand_bytes(octets).expect("the system has random bits"))
    }

    /// Returns an id that is not in use, and marks it used until [`Self::release`].
    pub(crate) fn issue(&self, kind: IdKind) -> WireId {
        let mut state = self.lock();
        loop {
            let mut octets = [0; WireId::LENGTH];
            (state.random)(&mut octets);
            octets[WireId::LENGTH - 1] &= !1;
            octets[WireId::LENGTH - 1] |= u8::from(kind == IdKind::Channel);

            let id = WireId(octets);
            if state.live.insert(id) {
                return id;
            }
        }
    }

    /// Marks an id that was issued elsewhere as used; returns whether it was free.
    #[must_use]
    pub(crate) fn claim(&self, id: WireId) -> bool {
        self.lock().live.insert(id)
    }

    /// Gives an id back; returns whether it was in use.
    pub(crate) fn release(&self, id: WireId) -> bool {
        self.lock().live.remove(&id)
    }

    /// Returns how many ids are in use.
    pub(crate) fn live(&self) -> usize {
        self.lock().live.len()
    }

    /// A panic elsewhere leaves the set whole: every operation on it is one call.
    fn lock(&self) -> MutexGuard<'_, IssuerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for IdIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdIssuer").field("live", &self.live()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    #[test]
    fn every_first_octet_has_one_kind() {
        for first in 0..=u8::MAX {
            let expected = match first >> 6 {
                0 if first < 4 => PacketKind::Stun,
                0 => PacketKind::Invalid,
                1 => PacketKind::Quic { long: false },
                _ => PacketKind::Quic { long: true },
            };

            assert_eq!(classify(first), expected, "first octet {first:#04x}");
        }
    }

    #[test]
    fn the_lowest_bit_tells_channels_from_connections() {
        let issuer = IdIssuer::from_system();

        for _ in 0..100 {
            assert!(issuer.issue(IdKind::Channel).is_channel());
            assert!(!issuer.issue(IdKind::Connection).is_channel());
        }
        assert_eq!(issuer.live(), 200);
    }

    #[test]
    fn an_id_in_use_is_never_issued_again() {
        // Each draw is repeated once: without the check every second id would be a duplicate.
        let mut draws = 0_u64;
        let issuer = IdIssuer::new(move |octets| {
            *octets = (draws / 2 * 2).to_be_bytes();
            draws += 1;
        });

        let ids: Vec<_> = (0..100).map(|_| issuer.issue(IdKind::Connection)).collect();

        let distinct: HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn a_released_id_may_be_issued_again() {
        let issuer = IdIssuer::new(|octets| octets.fill(2));
        let id = issuer.issue(IdKind::Connection);

        assert!(issuer.release(id));
        assert!(!issuer.release(id));

        assert_eq!(issuer.issue(IdKind::Connection), id);
    }

    #[test]
    fn an_id_that_was_claimed_is_not_issued() {
        let mut next = 0_u8;
        let issuer = IdIssuer::new(move |octets| {
            octets.fill(next);
            next += 2;
        });

        assert!(issuer.claim(WireId([0; 8])));
        assert!(!issuer.claim(WireId([0; 8])));

        assert_eq!(issuer.issue(IdKind::Connection), WireId([2; 8]));
    }

    #[test]
    fn clones_share_what_is_in_use() {
        let issuer = IdIssuer::from_system();
        let other = issuer.clone();

        let id = issuer.issue(IdKind::Channel);

        assert!(!other.claim(id));
    }

    #[test]
    fn ids_that_differ_in_one_bit_hash_apart() {
        let hashes = BuildHasherDefault::<IdHasher>::default();
        let base = hashes.hash_one(WireId([0; 8]));

        for bit in 0..64 {
            assert_ne!(hashes.hash_one(WireId((1_u64 << bit).to_be_bytes())), base);
        }
    }
}

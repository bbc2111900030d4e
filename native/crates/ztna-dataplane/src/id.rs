//! Names of things that outlive one call: connections, pairs, channels, requests.

use std::fmt;

/// A QUIC connection, unique for the life of the process. Not a QUIC connection id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionHandle(pub u32);

/// An (agent instance, connector instance) pair as one of the two sees it: it owns the relayed paths
/// of the pair's tunnel. Chosen by the caller.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PairId(pub u32);

/// The 8 octets in the place of a destination connection id. The lowest bit of the last octet is 0 in
/// a connection id and 1 in a channel id (`docs/protocol.md`, ports and demultiplexing).
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WireId(pub [u8; 8]);

impl WireId {
    /// Octets on the wire.
    pub const LENGTH: usize = 8;

    /// Returns the id at the start of `octets`, or `None` when there are fewer than eight.
    pub fn from_prefix(octets: &[u8]) -> Option<Self> {
        octets.first_chunk().copied().map(Self)
    }

    /// Returns whether this is a channel id and not a connection id.
    pub const fn is_channel(self) -> bool {
        self.0[7] & 1 == 1
    }
}

impl fmt::Debug for WireId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

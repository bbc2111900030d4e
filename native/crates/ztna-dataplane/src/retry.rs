//! Address validation by Retry (RFC 9000 §8.1.2) without a word of memory for each stranger.
//!
//! ```text
//!  0              8                          24 - 8 ..
//!  +--------------+------------------------+----------------+
//!  | issued (8)   | client's first DCID    | MAC (16)       |
//!  +--------------+------------------------+----------------+
//! ```
//!
//! `issued` is seconds since 1970. The MAC covers both, the client's address and port, and the id
//! that Retry gave it, so a token proves that *this* client received *this* Retry. Tokens survive a
//! restart, because their key does. **What does not verify is dropped**: a stranger is never told why.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use boring::hash::hmac_sha256;
use boring::memcmp;
use quiche::{ConnectionId, Header, Type};

use crate::id::WireId;
use crate::source_rate::{Rate, RateExceeded, SourceLimit, SourceRates};

/// A token is good for so long: a round trip and a few lost packets.
pub(crate) const TOKEN_LIFE_SECONDS: i64 = 10;

/// RFC 9000 §14.1: an Initial comes in no smaller datagram.
pub(crate) const INITIAL_DATAGRAM_MIN: usize = 1_200;

/// A first flight of connections is answered in full; what keeps coming from one source is not.
pub(crate) fn retry_rates(per_source: u32) -> SourceRates {
    let per_second = per_source.max(1);
    SourceRates {
        source: Rate { per_second, burst: per_second.saturating_mul(2) },
        total: Rate { per_second: 2_000, burst: 2_000 },
    }
}

/// RFC 9000 §7.2: a client's first destination connection id is unpredictable.
const DCID_MIN: usize = 8;

const ISSUED_LENGTH: usize = 8;
const MAC_LENGTH: usize = 16;

/// Keeps the MAC apart from other uses of the key.
const LABEL: &[u8] = b"ztna retry token v2\0";

/// Why a first packet is not answered with Retry, for a counter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unanswered {
    /// It is not a well-formed first Initial of version 1.
    NotAnInitial,
    /// Too many strangers, or this one too often.
    Rate(RateExceeded),
}

/// Answers strangers with Retry and recognises them when they come back.
#[derive(Debug)]
pub(crate) struct Retry {
    key: [u8; 32],
    limit: SourceLimit,
}

impl Retry {
    /// Creates one that keeps to `rates`.
    pub(crate) fn new(key: [u8; 32], rates: SourceRates, now: Instant) -> Self {
        Self { key, limit: SourceLimit::new(rates, now) }
    }

    /// Writes the Retry to a client's first Initial into `out` and returns its length.
    ///
    /// `received` is the length of the datagram, `header` its first packet's, `new_id` the id that the
    /// client has to use from here on. The answer is shorter than what came.
    pub(crate) fn answer(
        &mut self,
        header: &Header<'_>,
        received: usize,
        from: SocketAddr,
        new_id: WireId,
        clock: Clock,
        out: &mut [u8],
    ) -> Result<usize, Unanswered> {
        let has_token = header.token.as_ref().is_some_and(|token| !token.is_empty());
        let first = header.ty == Type::Initial
            && header.version == quiche::PROTOCOL_VERSION
            && !has_token
            && received >= INITIAL_DATAGRAM_MIN
            && (DCID_MIN..=quiche::MAX_CONN_ID_LEN).contains(&header.dcid.len());
        if !first {
            return Err(Unanswered::NotAnInitial);
        }
        self.limit.try_spend(from.ip(), clock.now).map_err(Unanswered::Rate)?;

        let token = self.token(&header.dcid, from, new_id, clock.unix);
        let new_id = ConnectionId::from_ref(&new_id.0);
        quiche::retry(&header.scid, &header.dcid, &new_id, &token, header.version, out)
            .map_err(|_| Unanswered::NotAnInitial)
    }

    /// Returns the client's first destination connection id if its token is good: what
    /// `quiche::accept` wants as `odcid`, with the packet's own DCID as `scid`.
    pub(crate) fn verify(
        &self,
        header: &Header<'_>,
        from: SocketAddr,
        now_unix: i64,
    ) -> Option<ConnectionId<'static>> {
        let token = header.token.as_deref()?;
        let new_id = WireId(<[u8; 8]>::try_from(header.dcid.as_ref()).ok()?);
        let (head, mac) = token.split_at_checked(token.len().checked_sub(MAC_LENGTH)?)?;
        let (issued, dcid) = head.split_first_chunk::<ISSUED_LENGTH>()?;
        if !(DCID_MIN..=quiche::MAX_CONN_ID_LEN).contains(&dcid.len()) {
            return None;
        }
        if !memcmp::eq(mac, &self.mac(head, from, new_id)) {
            return None;
        }

        let age = now_unix.checked_sub(i64::from_be_bytes(*issued))?;
        let fresh = (0..=TOKEN_LIFE_SECONDS).contains(&age);
        fresh.then(|| ConnectionId::from_vec(dcid.to_vec()))
    }

    fn token(&self, dcid: &[u8], from: SocketAddr, new_id: WireId, now_unix: i64) -> Vec<u8> {
        let mut token = [&now_unix.to_be_bytes(), dcid].concat();
        let mac = self.mac(&token, from, new_id);
        token.extend(mac);
        token
    }

    fn mac(&self, head: &[u8], from: SocketAddr, new_id: WireId) -> [u8; MAC_LENGTH] {
        let address = match from.ip().to_canonical() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        // All parts but the last are of fixed length, so no two inputs run into each other.
        let message = [LABEL, &address.octets(), &from.port().to_be_bytes(), &new_id.0, head];
        let mac = hmac_sha256(&self.key, &message.concat()).expect("HMAC needs memory only");
        mac.first_chunk().copied().expect("SHA-256 has 32 octets")
    }
}

/// Both clocks at one moment: budgets need the one that never steps, tokens the one that survives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Monotonic.
    pub now: Instant,
    /// Seconds since 1970.
    pub unix: i64,
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

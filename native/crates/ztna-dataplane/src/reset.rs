//! Stateless resets (RFC 9000 §10.3): how a relay that restarted tells its clients so.
//!
//! - **Only short headers with an unknown connection id are reset**, never a channel frame.
//! - **The answer is shorter than what came**, so two endpoints cannot reset each other for ever.
//! - **Tokens follow from the key on disk and the id**, so the relay knows them after a restart.

use std::net::SocketAddr;
use std::time::Instant;

use boring::hash::hmac_sha256;

use crate::id::WireId;
use crate::source_rate::{Rate, RateExceeded, SourceLimit, SourceRates};

/// Shortest packet that is answered: the answer is one octet shorter, and RFC 9000 §10.3 wants 21.
pub(crate) const RESET_RECEIVED_MIN: usize = 22;

/// Longest answer: it looks like any small packet.
pub(crate) const RESET_LENGTH_MAX: usize = 42;

/// `docs/protocol.md`, ports and demultiplexing.
pub(crate) const RESET_RATES: SourceRates = SourceRates {
    source: Rate { per_second: 10, burst: 10 },
    total: Rate { per_second: 1_000, burst: 1_000 },
};

const TOKEN_LENGTH: usize = 16;
const TOKEN_LABEL: &[u8] = b"ztna stateless reset token v2\0";
const FILLER_LABEL: &[u8] = b"ztna stateless reset filler v2\0";

/// Why a packet is not answered with a reset, for a counter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotReset {
    /// It is not a short header with a connection id, or too small.
    Unfit,
    /// Too many resets, or this source too often.
    Rate(RateExceeded),
}

/// Makes reset tokens and resets.
#[derive(Debug)]
pub(crate) struct StatelessReset {
    key: [u8; 32],
    limit: SourceLimit,
}

impl StatelessReset {
    /// Creates one that keeps to `rates`, which are [`RESET_RATES`] unless configured.
    pub(crate) fn new(key: [u8; 32], rates: SourceRates, now: Instant) -> Self {
        Self { key, limit: SourceLimit::new(rates, now) }
    }

    /// Returns the token of a connection id: for `TlsContext::leg_server` before each accept.
    pub(crate) fn token(&self, id: WireId) -> u128 {
        u128::from_be_bytes(self.token_octets(id))
    }

    /// Writes the answer to a packet whose connection id nobody knows into `out` and returns its
    /// length.
    pub(crate) fn answer(
        &mut self,
        packet: &[u8],
        from: SocketAddr,
        now: Instant,
        out: &mut [u8; RESET_LENGTH_MAX],
    ) -> Result<usize, NotReset> {
        let Some((&first, rest)) = packet.split_first() else { return Err(NotReset::Unfit) };
        let id = WireId::from_prefix(rest).filter(|id| !id.is_channel());
        let (Some(id), 0x40) = (id, first & 0xc0) else { return Err(NotReset::Unfit) };
        if packet.len() < RESET_RECEIVED_MIN {
            return Err(NotReset::Unfit);
        }
        self.limit.try_spend(from.ip(), now).map_err(NotReset::Rate)?;

        let length = RESET_LENGTH_MAX.min(packet.len() - 1);
        let reset = out.get_mut(..length).ok_or(NotReset::Unfit)?;
        let (filler, token) = reset.split_at_mut(length - TOKEN_LENGTH);
        self.fill(filler, packet);
        token.copy_from_slice(&self.token_octets(id));
        Ok(length)
    }

    fn token_octets(&self, id: WireId) -> [u8; TOKEN_LENGTH] {
        let mac = self.hmac(&[TOKEN_LABEL, &id.0]);
        mac.first_chunk().copied().expect("SHA-256 has 32 octets")
    }

    /// Writes what looks like a short header and ciphertext, and nobody without the key can tell.
    fn fill(&self, filler: &mut [u8], packet: &[u8]) {
        let noise = self.hmac(&[FILLER_LABEL, packet]);
        for (octet, noise) in filler.iter_mut().zip(noise) {
            *octet = noise;
        }
        if let Some(first) = filler.first_mut() {
            *first = 0x40 | (*first & 0x3f);
        }
    }

    fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        hmac_sha256(&self.key, &parts.concat()).expect("HMAC needs memory only")
    }
}

#[cfg(test)]
mod tests;

//! Token bucket over bits.
//!
//! Holds one deadline instead of a token count: the instant at which the bucket is full again.
//! Spending pushes it into the future, waiting lets it recede, and a burst is refused while it is
//! further away than one burst takes to refill. Nothing ticks while a channel is idle.

use std::time::{Duration, Instant};

/// A budget that refills at a steady rate up to one burst.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    bits_per_second: u64,
    burst: Duration,
    full_at: Instant,
}

impl RateLimit {
    /// Creates a full bucket that holds `burst_bytes`.
    ///
    /// # Panics
    ///
    /// Panics if `bits_per_second` is zero: a limit that forbids everything is a policy decision, not
    /// a rate.
    pub(crate) fn new(bits_per_second: u64, burst_bytes: u32, now: Instant) -> Self {
        assert!(bits_per_second > 0, "a rate limit lets something through");

        Self { bits_per_second, burst: cost(burst_bytes, bits_per_second), full_at: now }
    }

    /// Spends `bytes` if the bucket holds them and returns whether it did.
    #[must_use]
    pub(crate) fn try_spend(&mut self, bytes: u32, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + cost(bytes, self.bits_per_second);
        if full_at > now + self.burst {
            return false;
        }

        self.full_at = full_at;
        true
    }
}

/// Time that `bytes` take at the rate, rounded up: at 1 Tbit/s the error is below one per cent for a
/// packet, and no rate however high makes a packet free.
fn cost(bytes: u32, bits_per_second: u64) -> Duration {
    const NANOBITS_PER_BYTE: u64 = 8 * 1_000_000_000;

    // Saturates only above 2 GiB in one call, which no packet is.
    Duration::from_nanos(
        u64::from(bytes).saturating_mul(NANOBITS_PER_BYTE).div_ceil(bits_per_second),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::epoch;

    #[test]
    fn spends_one_burst_at_once_and_no_more() {
        let now = epoch();
        let mut limit = RateLimit::new(8_000, 500, now);

        assert!(limit.try_spend(500, now));
        assert!(!limit.try_spend(1, now));
    }

    #[test]
    fn refills_at_the_configured_rate() {
        let now = epoch();
        let mut limit = RateLimit::new(8_000, 500, now);
        assert!(limit.try_spend(500, now));

        let later = now + Duration::from_millis(100);

        assert!(!limit.try_spend(101, later));
        assert!(limit.try_spend(100, later));
    }

    #[test]
    fn idling_never_saves_up_more_than_one_burst() {
        let now = epoch();
        let mut limit = RateLimit::new(8_000, 500, now);

        let tomorrow = now + Duration::from_secs(86_400);

        assert!(!limit.try_spend(501, tomorrow));
        assert!(limit.try_spend(500, tomorrow));
    }

    #[test]
    fn a_refused_burst_costs_nothing() {
        let now = epoch();
        let mut limit = RateLimit::new(8_000, 500, now);

        assert!(!limit.try_spend(501, now));

        assert!(limit.try_spend(500, now));
    }

    #[test]
    fn a_rate_above_four_gigabit_is_kept() {
        let now = epoch();
        let mut limit = RateLimit::new(100_000_000_000, 1_250_000, now);
        assert!(limit.try_spend(1_250_000, now));

        let later = now + Duration::from_micros(10);

        assert!(!limit.try_spend(125_001, later));
        assert!(limit.try_spend(125_000, later));
    }

    #[test]
    #[should_panic(expected = "a rate limit lets something through")]
    fn a_rate_of_zero_is_a_bug() {
        let _ = RateLimit::new(0, 500, epoch());
    }
}

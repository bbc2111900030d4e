//! How often strangers are answered: a rate for each source and one for all of them.
//!
//! - **Memory is fixed.** Sources live in buckets of eight; a ninth replaces the one whose budget is
//!   fullest, which is the one that forgetting helps least.
//! - **Nobody chooses his bucket**: the hash is keyed.
//! - An answer that one of the two rates refuses spends nothing of the other.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Sources that are remembered at most.
pub(crate) const SOURCES_MAX: usize = BUCKETS * WAYS;

const BUCKETS: usize = 512;
const WAYS: usize = 8;

/// So many a second in the long run, and so many at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rate {
    /// In the long run; at least 1.
    pub per_second: u32,
    /// At once; at least 1.
    pub burst: u32,
}

/// Rates for answers to strangers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct SourceRates {
    /// For one IPv4 address or one /56 of IPv6: what one subscriber has.
    pub source: Rate,
    /// For everybody together.
    pub total: Rate,
}

/// Why a stranger is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RateExceeded {
    /// By this source.
    Source,
    /// By all together.
    Total,
}

/// Spends from the budgets of sources.
#[derive(Debug)]
pub(crate) struct SourceLimit<S = RandomState> {
    rates: SourceRates,
    total: Bucket,
    sources: Vec<Option<(u64, Bucket)>>,
    hasher: S,
}

impl SourceLimit {
    /// Creates full budgets.
    pub(crate) fn new(rates: SourceRates, now: Instant) -> Self {
        Self::with_hasher(rates, RandomState::new(), now)
    }
}

impl<S: BuildHasher> SourceLimit<S> {
    fn with_hasher(rates: SourceRates, hasher: S, now: Instant) -> Self {
        let total = Bucket { full_at: now };
        Self { rates, total, sources: vec![None; SOURCES_MAX], hasher }
    }

    /// Spends one answer to `source`, or says which of the rates forbids it.
    pub(crate) fn try_spend(&mut self, source: IpAddr, now: Instant) -> Result<(), RateExceeded> {
        let key = source_key(source);
        let bucket = usize::try_from(self.hasher.hash_one(key) % BUCKETS as u64).unwrap_or(0);
        let start = bucket * WAYS;
        let Some(ways) = self.sources.get_mut(start..start + WAYS) else {
            return Err(RateExceeded::Total);
        };

        let known = ways.iter().flatten().find(|(k, _)| *k == key).map(|(_, bucket)| *bucket);
        let spent = known
            .unwrap_or(Bucket { full_at: now })
            .spend(self.rates.source, now)
            .ok_or(RateExceeded::Source)?;
        self.total = self.total.spend(self.rates.total, now).ok_or(RateExceeded::Total)?;

        let place = match ways.iter_mut().position(|way| way.is_some_and(|(k, _)| k == key)) {
            Some(index) => ways.get_mut(index),
            None => ways.iter_mut().min_by_key(|way| way.map(|(_, bucket)| bucket.full_at)),
        };
        if let Some(place) = place {
            *place = Some((key, spent));
        }
        Ok(())
    }
}

/// One deadline instead of a count: when the budget is full again.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    fn spend(self, rate: Rate, now: Instant) -> Option<Self> {
        let one = Duration::from_secs(1) / rate.per_second.max(1);
        let full_at = self.full_at.max(now) + one;
        (full_at <= now + one * rate.burst.max(1)).then_some(Self { full_at })
    }
}

/// A subscriber has one IPv4 address, or a /56 of IPv6 (RFC 6177 §2).
fn source_key(source: IpAddr) -> u64 {
    const V4: u64 = 1 << 63;
    match source.to_canonical() {
        IpAddr::V4(v4) => V4 | u64::from(v4.to_bits()),
        IpAddr::V6(v6) => prefix_56(v6),
    }
}

fn prefix_56(v6: Ipv6Addr) -> u64 {
    u64::try_from(v6.to_bits() >> 72).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasherDefault;
    use std::hash::DefaultHasher;

    use super::*;

    const RATES: SourceRates = SourceRates {
        source: Rate { per_second: 20, burst: 40 },
        total: Rate { per_second: 2_000, burst: 2_000 },
    };

    #[test]
    fn a_source_gets_one_burst_and_then_its_rate() {
        let (mut limit, now) = limit(RATES);
        let source = "192.0.2.1".parse().unwrap();

        let at_once = (0..100).filter(|_| limit.try_spend(source, now).is_ok()).count();
        let later = now + Duration::from_secs(1);
        let after_a_second = (0..100).filter(|_| limit.try_spend(source, later).is_ok()).count();

        assert_eq!(at_once, 40);
        assert_eq!(limit.try_spend(source, now), Err(RateExceeded::Source));
        assert_eq!(after_a_second, 20);
    }

    #[test]
    fn all_sources_together_get_the_total_rate_and_no_more() {
        let (mut limit, now) = limit(RATES);
        let spend =
            |limit: &mut TestLimit, host: u32| limit.try_spend(IpAddr::V4(host.into()), now);

        let granted = (0..2_000).filter(|host| spend(&mut limit, *host).is_ok()).count();

        assert_eq!(granted, 2_000);
        assert_eq!(spend(&mut limit, 9_999), Err(RateExceeded::Total));
    }

    #[test]
    fn what_the_total_refuses_costs_the_source_nothing() {
        let tight = SourceRates { total: Rate { per_second: 1, burst: 1 }, ..RATES };
        let (mut limit, now) = limit(tight);
        let source = "192.0.2.1".parse().unwrap();
        assert!(limit.try_spend("192.0.2.2".parse().unwrap(), now).is_ok());

        for _ in 0..100 {
            assert_eq!(limit.try_spend(source, now), Err(RateExceeded::Total));
        }

        assert!(limit.try_spend(source, now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn a_subscriber_is_an_ipv4_address_or_a_56_bit_prefix() {
        let key = |text: &str| source_key(text.parse().unwrap());

        assert_eq!(key("2001:db8:0:ff00::1"), key("2001:db8:0:ffff:9::2"));
        assert_ne!(key("2001:db8:0:ff00::1"), key("2001:db8:0:fe00::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("0.0.0.1"), key("::1"));
    }

    #[test]
    fn a_flood_of_sources_takes_no_more_memory_and_forgets_the_fullest_budget_first() {
        let wide = SourceRates {
            total: Rate { per_second: 1_000_000, burst: 1_000_000 },
            source: Rate { per_second: 1, burst: 10 },
        };
        let (mut limit, now) = limit(wide);
        let greedy: IpAddr = "192.0.2.1".parse().unwrap();
        while limit.try_spend(greedy, now).is_ok() {}

        for host in 0..100_000_u32 {
            assert!(limit.try_spend(IpAddr::V4((0x0a00_0000 | host).into()), now).is_ok());
        }

        assert_eq!(limit.sources.len(), SOURCES_MAX);
        assert_eq!(limit.sources.iter().flatten().count(), SOURCES_MAX);
        assert_eq!(limit.try_spend(greedy, now), Err(RateExceeded::Source));
    }

    type TestLimit = SourceLimit<BuildHasherDefault<DefaultHasher>>;

    #[expect(clippy::disallowed_methods, reason = "any instant will do: only differences matter")]
    fn limit(rates: SourceRates) -> (TestLimit, Instant) {
        let now = Instant::now();
        (SourceLimit::with_hasher(rates, BuildHasherDefault::default(), now), now)
    }
}

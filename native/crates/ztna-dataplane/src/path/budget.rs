//! How many checks an address that has proven nothing may be sent, by the whole process.
//!
//! A peer names addresses for us to check and requests make us answer: both aim packets at whoever is
//! there. Per IP address a token bucket of 20, refilled 20 a second, and 200 in any 10 minutes, bound
//! what a stranger can get (`docs/protocol.md`, tunnels and paths). Addresses that no peer can have
//! are never checked at all.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Depth of an address's bucket and its refill each second.
const BURST: u32 = 20;
/// One token's time.
const REFILL: Duration = Duration::from_millis(50);
/// Checks to one address in ten minutes.
const CHECKS_PER_TEN_MINUTES: u32 = 200;
/// Ten whole minutes and the one under way, so that any ten minutes lie inside.
const MINUTES: usize = 11;
/// Addresses remembered; past it no further address is checked until one is forgotten.
const ADDRESSES_MAX: usize = 4_096;

/// Shared by every tunnel of the process; clones are the same budget.
#[derive(Clone, Debug)]
pub struct CheckBudget {
    allow_loopback: bool,
    addresses: Arc<Mutex<HashMap<IpAddr, Spent>>>,
}

#[derive(Clone, Debug)]
struct Spent {
    /// When the bucket is full again.
    full_at: Instant,
    /// When the minute that is counted last began.
    minute_at: Instant,
    /// Checks by minute, the one under way first.
    minutes: [u32; MINUTES],
}

impl CheckBudget {
    /// Creates the process's budget. Loopback addresses are checked only in tests on one machine.
    pub fn new(allow_loopback: bool) -> Self {
        Self { allow_loopback, addresses: Arc::default() }
    }

    /// Returns whether an address can be a peer's: not loopback, multicast, broadcast, unspecified,
    /// link-local or a cloud's metadata service.
    pub fn may_check(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        if ip.is_loopback() {
            return self.allow_loopback;
        }
        if ip.is_unspecified() || ip.is_multicast() || METADATA.contains(&ip) {
            return false;
        }
        match ip {
            // 169.254.0.0/16 holds most metadata services; 0.0.0.0/8 is "this network".
            IpAddr::V4(ip) => {
                !ip.is_link_local() && !ip.is_broadcast() && ip.octets().first() != Some(&0)
            }
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        }
    }

    /// Takes one check to an unproven address and returns whether there was one left.
    #[must_use]
    pub(super) fn try_spend(&self, ip: IpAddr, now: Instant) -> bool {
        // Nothing panics while the lock is held, and plain counters cannot be left half-written.
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let ip = ip.to_canonical();
        if addresses.len() >= ADDRESSES_MAX && !addresses.contains_key(&ip) {
            addresses.retain(|_, spent| !spent.is_forgotten(now));
            if addresses.len() >= ADDRESSES_MAX {
                return false;
            }
        }
        addresses.entry(ip).or_insert_with(|| Spent::new(now)).try_spend(now)
    }
}

impl Spent {
    fn new(now: Instant) -> Self {
        Self { full_at: now, minute_at: now, minutes: [0; MINUTES] }
    }

    fn try_spend(&mut self, now: Instant) -> bool {
        self.turn_minutes(now);
        let full_at = self.full_at.max(now) + REFILL;
        let [current, ..] = &mut self.minutes;
        if full_at > now + REFILL * BURST {
            return false;
        }
        *current += 1;
        if self.minutes.iter().sum::<u32>() > CHECKS_PER_TEN_MINUTES {
            let [current, ..] = &mut self.minutes;
            *current -= 1;
            return false;
        }
        self.full_at = full_at;
        true
    }

    fn turn_minutes(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.minute_at).as_secs() / 60;
        let turns = usize::try_from(passed).unwrap_or(MINUTES).min(MINUTES);
        self.minutes.rotate_right(turns);
        self.minutes.iter_mut().take(turns).for_each(|count| *count = 0);
        self.minute_at += Duration::from_secs(passed * 60);
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.minute_at) >= Duration::from_secs(60 * MINUTES as u64)
    }
}

/// Metadata services outside the link-local ranges: Alibaba, and AWS in IPv6.
const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xFD00, 0x0EC2, 0, 0, 0, 0, 0, 0x0254)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::tests::t0;

    #[test]
    fn a_burst_of_20_passes_and_the_21st_waits_for_its_token() {
        let (budget, now) = (CheckBudget::new(false), t0());

        assert!((0..20).all(|_| budget.try_spend(STRANGER, now)));
        assert!(!budget.try_spend(STRANGER, now));
        assert!(!budget.try_spend(STRANGER, now + Duration::from_millis(49)));
        assert!(budget.try_spend(STRANGER, now + Duration::from_millis(50)));
    }

    #[test]
    fn any_ten_minutes_hold_200_checks_whatever_the_pace() {
        let (budget, start) = (CheckBudget::new(false), t0());
        let mut sent = Vec::new();
        for tick in 0..40 * 60 * 4 {
            let now = start + Duration::from_millis(250) * tick;
            if budget.try_spend(STRANGER, now) {
                sent.push(now);
            }
        }

        assert!(sent.len() >= 600, "only {} checks in 40 minutes", sent.len());
        for window in sent.windows(201) {
            assert!(window[200] - window[0] > Duration::from_secs(600));
        }
    }

    #[test]
    fn the_200th_check_passes_and_the_201st_does_not() {
        let (budget, start) = (CheckBudget::new(false), t0());
        let passed = (0..201)
            .map(|check| budget.try_spend(STRANGER, start + Duration::from_secs(1) * check))
            .filter(|passed| *passed)
            .count();

        assert_eq!(passed, 200);
    }

    #[test]
    fn one_address_never_spends_what_is_anothers_and_mapped_ipv4_is_ipv4() {
        let (budget, now) = (CheckBudget::new(false), t0());
        assert!((0..20).all(|_| budget.try_spend(STRANGER, now)));

        assert!(budget.try_spend("198.51.100.2".parse().unwrap(), now));
        assert!(!budget.try_spend("::ffff:198.51.100.1".parse().unwrap(), now));
    }

    #[test]
    fn the_4096th_address_is_remembered_and_the_next_is_refused_until_one_is_forgotten() {
        let (budget, now) = (CheckBudget::new(false), t0());
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0001 + n));

        assert!((0..4_096).all(|n| budget.try_spend(address(n), now)));
        assert!(!budget.try_spend(address(4_096), now));
        assert!(budget.try_spend(address(0), now), "a remembered address goes on");
        assert!(budget.try_spend(address(4_096), now + Duration::from_secs(11 * 60)));
    }

    #[test]
    fn addresses_that_no_peer_has_are_never_checked() {
        let budget = CheckBudget::new(false);
        for refused in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "169.254.169.254",
            "fe80::1",
            "100.100.100.200",
            "fd00:ec2::254",
        ] {
            assert!(!budget.may_check(refused.parse().unwrap()), "{refused}");
        }
        for allowed in ["198.51.100.1", "10.0.0.1", "2001:db8::1", "fd00::1"] {
            assert!(budget.may_check(allowed.parse().unwrap()), "{allowed}");
        }
        assert!(CheckBudget::new(true).may_check("127.0.0.1".parse().unwrap()));
    }

    const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
}

//! The datagram flows of one tunnel by how long they have rested.
//!
//! - **A datagram changes nothing here.** What is kept is when a flow was used last *as far as anybody
//!   looked*, which is never later than the truth; whoever asks for the longest resting flow corrects
//!   what he meets on his way.
//! - **Each correction is paid for by a datagram** that came since the last one for that flow, so that
//!   asking costs O(log n) beyond what the flows' own datagrams have cost.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// Flows by when they were used last.
#[derive(Default)]
pub(crate) struct RestOrder {
    order: BTreeSet<(Instant, usize)>,
    noted: HashMap<usize, Instant>,
}

impl RestOrder {
    /// Adds a flow that was used last at `at`; one that is there already stays as it is.
    pub(super) fn insert(&mut self, key: usize, at: Instant) {
        if let Entry::Vacant(unknown) = self.noted.entry(key) {
            unknown.insert(at);
            self.order.insert((at, key));
        }
    }

    pub(super) fn remove(&mut self, key: usize) {
        if let Some(at) = self.noted.remove(&key) {
            self.order.remove(&(at, key));
        }
    }

    /// Returns the flow that rested longest. `last_used` tells the truth about a flow.
    pub(super) fn longest(&mut self, mut last_used: impl FnMut(usize) -> Instant) -> Option<usize> {
        loop {
            let (noted, key) = *self.order.first()?;
            let at = last_used(key);
            if at <= noted {
                return Some(key);
            }
            self.remove(key);
            self.insert(key, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test_support::{epoch, seeded};

    #[test]
    fn the_longest_resting_of_16384_flows_is_found_by_a_look_a_search_and_one_a_use() {
        const FLOWS: usize = 16_384;
        const SEARCHES: usize = 1_000;
        seeded(3, |random| {
            let mut now = epoch();
            let mut order = RestOrder::default();
            let mut used: Vec<Option<Instant>> = Vec::new();
            for key in 0..FLOWS {
                now += Duration::from_millis(1);
                order.insert(key, now);
                used.push(Some(now));
            }
            let (mut looks, mut uses) = (0, 0);

            for search in 0..SEARCHES {
                for _ in 0..random.usize(0..8) {
                    now += Duration::from_millis(1);
                    // Those that rested longest most of all: the worst that datagrams can do.
                    let among = if random.bool() { FLOWS } else { 2 * SEARCHES };
                    let key = random.usize(0..among);
                    if let Some(at) = used.get_mut(key).and_then(Option::as_mut) {
                        *at = now;
                        uses += 1;
                    }
                }
                let found = order.longest(|key| {
                    looks += 1;
                    used[key].unwrap()
                });
                if search % 50 == 0 {
                    let resting = used.iter().enumerate();
                    let resting = resting.filter_map(|(key, at)| Some(((*at)?, key)));
                    assert_eq!(found, resting.min().map(|(_, key)| key));
                }
                order.remove(found.unwrap());
                used[found.unwrap()] = None;
            }

            assert!(looks <= SEARCHES + uses, "{looks} looks, {uses} uses");
        });
    }

    #[test]
    fn a_flow_that_was_removed_is_not_found() {
        let mut order = RestOrder::default();
        let now = epoch();
        order.insert(1, now);
        order.insert(2, now + Duration::from_millis(1));
        order.insert(1, now + Duration::from_millis(2));

        order.remove(1);

        assert_eq!(order.longest(|_| now), Some(2));
        order.remove(2);
        assert_eq!(order.longest(|_| now), None);
    }
}

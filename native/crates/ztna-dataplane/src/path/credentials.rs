//! Credentials of checks: ours, which requests must carry, and the peer's, which ours carry.

use std::time::{Duration, Instant};

use crate::command::Credentials;

/// How long the credentials of an earlier list stay valid.
const OLD_VALID_FOR: Duration = Duration::from_secs(10);
/// Sets held at once: one generation in 5 s with a burst of 3, each valid for 10 s after the next.
const LOCAL_MAX: usize = 6;

/// What requests to this side must carry.
#[derive(Debug, Default)]
pub(super) struct LocalCredentials {
    /// Newest first, with the instant from which each is void.
    sets: Vec<(Credentials, Option<Instant>)>,
}

impl LocalCredentials {
    pub(super) fn set(&mut self, credentials: Credentials, now: Instant) {
        self.expire(now);
        if self.sets.first().is_some_and(|(newest, _)| *newest == credentials) {
            return;
        }
        if let Some((_, until)) = self.sets.first_mut() {
            *until = Some(now + OLD_VALID_FOR);
        }
        self.sets.insert(0, (credentials, None));
        self.sets.truncate(LOCAL_MAX);
    }

    /// Returns the password that belongs to a live `ufrag`.
    pub(super) fn password(&self, ufrag: &str, now: Instant) -> Option<&str> {
        self.sets
            .iter()
            .find(|(set, until)| set.ufrag == ufrag && until.is_none_or(|until| now < until))
            .map(|(set, _)| set.password.as_str())
    }

    pub(super) fn ufrags(&self) -> impl Iterator<Item = &str> {
        self.sets.iter().map(|(set, _)| set.ufrag.as_str())
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.sets.retain(|(_, until)| until.is_none_or(|until| now < until));
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.sets.iter().filter_map(|(_, until)| *until).min()
    }
}

/// What our requests carry; a response is signed like its request, so the set before is kept for
/// those under way.
#[derive(Debug, Default)]
pub(super) struct RemoteCredentials {
    current: Option<(u32, Credentials)>,
    previous: Option<(u32, Credentials)>,
}

impl RemoteCredentials {
    /// Takes credentials of a later generation and returns whether it was later.
    pub(super) fn set(&mut self, generation: u32, credentials: Credentials) -> bool {
        if self.current.as_ref().is_some_and(|(current, _)| generation <= *current) {
            return false;
        }
        self.previous = self.current.replace((generation, credentials));
        true
    }

    pub(super) fn current(&self) -> Option<(u32, &Credentials)> {
        self.current.as_ref().map(|(generation, credentials)| (*generation, credentials))
    }

    pub(super) fn is_known(&self) -> bool {
        self.current.is_some()
    }

    pub(super) fn password(&self, generation: u32) -> Option<&str> {
        [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .find(|(known, _)| *known == generation)
            .map(|(_, credentials)| credentials.password.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::tests::{credentials, t0};

    #[test]
    fn old_credentials_stay_valid_for_ten_seconds() {
        let now = t0();
        let mut local = LocalCredentials::default();
        local.set(credentials(1), now);
        local.set(credentials(2), now);

        let last = now + OLD_VALID_FOR - Duration::from_nanos(1);
        assert!(local.password(&credentials(1).ufrag, last).is_some());
        assert!(local.password(&credentials(1).ufrag, now + OLD_VALID_FOR).is_none());
        assert!(local.password(&credentials(2).ufrag, now + OLD_VALID_FOR).is_some());
    }

    #[test]
    fn at_most_six_sets_are_held() {
        let now = t0();
        let mut local = LocalCredentials::default();
        (1..=6).for_each(|n| local.set(credentials(n), now));
        assert!(local.password(&credentials(1).ufrag, now).is_some());

        local.set(credentials(7), now);

        assert!(local.password(&credentials(1).ufrag, now).is_none());
        assert_eq!(local.ufrags().count(), 6);
    }

    #[test]
    fn an_earlier_or_equal_generation_changes_nothing() {
        let mut remote = RemoteCredentials::default();
        assert!(remote.set(5, credentials(5)));

        assert!(!remote.set(5, credentials(6)));
        assert!(!remote.set(4, credentials(6)));
        assert_eq!(remote.current(), Some((5, &credentials(5))));
    }

    #[test]
    fn responses_of_the_generation_before_still_verify() {
        let mut remote = RemoteCredentials::default();
        (1..=3).for_each(|n| assert!(remote.set(n, credentials(n))));

        assert_eq!(remote.password(2), Some(credentials(2).password.as_str()));
        assert_eq!(remote.password(1), None);
    }
}

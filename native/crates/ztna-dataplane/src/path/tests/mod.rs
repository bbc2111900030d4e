//! Two path sets and a network between them.

mod agreement;
mod chaos;
mod choice;
mod exchange;
mod failover;
mod world;

use std::time::Instant;

pub(crate) use crate::path::fuzz::credentials;

/// Where time starts.
#[expect(clippy::disallowed_methods, reason = "any instant will do: only differences matter")]
pub(crate) fn t0() -> Instant {
    use std::sync::OnceLock;
    static T0: OnceLock<Instant> = OnceLock::new();
    *T0.get_or_init(Instant::now)
}

/// The seeds that a random test plays: these, or the one of `SEED=`.
fn seeds(all: std::ops::Range<u64>) -> Vec<u64> {
    let replayed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    replayed.map_or_else(|| all.collect(), |seed| vec![seed])
}

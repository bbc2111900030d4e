//! Two path sets and a network between them.

mod chaos;
mod choice;
mod exchange;
mod failover;
mod world;

use std::time::Instant;

use crate::command::Credentials;

pub(crate) fn credentials(n: u32) -> Credentials {
    Credentials { ufrag: format!("{n:016x}"), password: format!("{n:032x}") }
}

/// Where time starts.
#[expect(clippy::disallowed_methods, reason = "any instant will do: only differences matter")]
pub(crate) fn t0() -> Instant {
    use std::sync::OnceLock;
    static T0: OnceLock<Instant> = OnceLock::new();
    *T0.get_or_init(Instant::now)
}

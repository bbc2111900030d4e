//! What depends on time or on what only a peer of our own making sends.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test that is wrong may panic, and waits for one event of many"
)]

mod backends;
mod bench;
mod closing;
mod early;
mod ending;
mod forwarding;
mod headers;
mod standing;

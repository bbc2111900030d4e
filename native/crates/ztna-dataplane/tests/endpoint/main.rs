//! Whole endpoints on loopback: a relay, a connector and an agent in one process, driven as their
//! owner drives them, by commands and events.

#![expect(
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that is wrong may panic, and waits for one event of many"
)]

mod failover;
mod flows;
mod harness;
mod legs;
mod limits;
mod local;
mod wire;
mod world;

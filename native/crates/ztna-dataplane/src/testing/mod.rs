//! What tests of this crate and of others need: throw-away certificates and connections in memory.
//!
//! Compiled for tests and with the feature `testing` only. Everything here panics on failure.

pub mod pki;
pub mod quic;

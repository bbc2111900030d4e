//! The data plane of ztna: QUIC legs and tunnels, relayed and direct paths, flows, TCP termination.
//!
//! This crate knows nothing of JavaScript. `ztna-napi` wraps it in a handful of coarse calls, so that
//! a packet that is only moved never crosses the language boundary.
//!
//! One thread runs [`endpoint`], which alone reads the clock and touches sockets. Everything else is
//! sans-IO: packets and `now` go in, packets and events come out.

pub mod command;
pub mod config;
mod error;
pub mod event;
pub mod id;

pub use error::EndpointError;

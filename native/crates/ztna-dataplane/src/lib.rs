//! The data plane of ztna: QUIC legs and tunnels, relayed and direct paths, flows, TCP termination.
//!
//! This crate knows nothing of JavaScript. `ztna-napi` wraps it in a handful of coarse calls, so that
//! a packet that is only moved never crosses the language boundary.
//!
//! One thread runs [`endpoint`], which alone reads the clock and touches sockets. Everything else is
//! sans-IO: packets and `now` go in, packets and events come out.

pub mod backend;
pub mod buffer_count;
pub mod channel;
pub mod command;
pub mod config;
mod connection;
pub mod control_frame;
pub mod demux;
pub mod endpoint;
mod error;
pub mod event;
pub mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod id;
pub mod listener;
pub mod packet_socket;
pub mod path;
pub mod profile;
pub mod rate_limit;
pub mod reset;
pub mod retry;
pub mod socks;
pub mod source_rate;
pub mod stun;
pub mod termination;
#[cfg(test)]
mod test_support;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
pub mod tun;
mod udp;
pub mod user_udp;

pub use endpoint::Endpoint;
pub use error::EndpointError;

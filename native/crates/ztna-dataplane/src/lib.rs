//! The data plane of ztna: QUIC legs and tunnels, relayed and direct paths, flows, TCP termination.
//!
//! This crate knows nothing of JavaScript. `ztna-napi` wraps it in a handful of coarse calls, so that
//! a packet that is only moved never crosses the language boundary.
//!
//! One thread runs [`endpoint`], which alone reads the clock and touches sockets. Everything else is
//! sans-IO: packets and `now` go in, packets and events come out.

mod backend;
mod buffer_count;
mod channel;
pub mod command;
pub mod config;
mod connection;
mod control_frame;
mod demux;
mod endpoint;
mod error;
pub mod event;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod id;
mod listener;
mod packet_socket;
/// Public because what it knows of direct paths has no caller before the endpoint opens any.
pub mod path;
pub mod profile;
mod rate_limit;
mod reset;
mod retry;
mod socket_option;
mod socks;
mod source_rate;
mod stun;
mod termination;
#[cfg(test)]
mod test_support;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tls;
mod tun;
mod udp;
mod user_udp;

pub use endpoint::Endpoint;
pub use error::EndpointError;

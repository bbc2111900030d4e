//! Sockets to services at the connector, and to applications at the agent.
//!
//! Each end is one non-blocking socket that the caller registered its token for. Errors come out as
//! what a flow tells its peer: an answer before it is connected, a stream error code after.

pub(crate) mod tcp;
pub(crate) mod udp;

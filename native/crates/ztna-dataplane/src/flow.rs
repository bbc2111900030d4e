//! What flows look like on the wire: the header and answer on their stream, and their datagrams.
//!
//! Codecs only: bytes in, values out. Who may open a flow, and what carries it, is decided elsewhere.

pub(crate) mod answer;
pub(crate) mod datagram;
pub(crate) mod header;
pub(crate) mod reassembly;

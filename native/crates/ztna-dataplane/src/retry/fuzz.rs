//! What a token of any octets is worth.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is the finding")]

use std::net::SocketAddr;

use quiche::{Header, Type};

use super::{Retry, retry_rates};
use crate::fuzzing::epoch;
use crate::id::WireId;
use crate::testing::pki::NOW;
use crate::testing::quic::CLIENT;

pub(super) const ID: WireId = WireId([8; 8]);
/// Retries a second to one source.
pub(super) const PER_SOURCE: u32 = 3;

/// Returns whether the token is good.
pub(crate) fn check_one_token(retry: &Retry, token: &[u8]) -> bool {
    verify(retry, token, CLIENT, ID, NOW).is_some()
}

pub(super) fn verify(
    retry: &Retry,
    token: &[u8],
    from: SocketAddr,
    id: WireId,
    now_unix: i64,
) -> Option<Vec<u8>> {
    let header = header(Type::Initial, quiche::PROTOCOL_VERSION, &id.0, token);
    retry.verify(&header, from, now_unix).map(|dcid| dcid.to_vec())
}

/// Writes a long header as a client would and lets quiche read it.
pub(super) fn header(ty: Type, version: u32, dcid: &[u8], token: &[u8]) -> Header<'static> {
    let bits = if ty == Type::Initial { 0xc0 } else { 0xe0 };
    let mut packet = vec![bits];
    packet.extend(version.to_be_bytes());
    packet.push(u8::try_from(dcid.len()).unwrap());
    packet.extend(dcid);
    packet.extend([4, 1, 2, 3, 4]);
    if ty == Type::Initial {
        packet.extend((0x4000 | u16::try_from(token.len()).unwrap()).to_be_bytes());
        packet.extend(token);
    }
    packet.extend([0; 64]);
    Header::from_slice(&mut packet, 8).unwrap()
}

pub(crate) fn retry(key: [u8; 32]) -> Retry {
    Retry::new(key, retry_rates(PER_SOURCE), epoch())
}

//! What holds for any octets of a peer, an application or a file: one function for each parser.
//!
//! Compiled for tests and with the feature `fuzzing` only. The bodies lie beside what they check and
//! are the ones that the tests feed with seeded inputs; `native/fuzz` has libFuzzer look for others.
//! Everything here panics on a finding.

use std::time::{Duration, Instant};

use crate::termination::fuzz::Fuzzed;
use crate::{
    channel, control_frame, flow, packet_socket, path, retry, socks, stun, termination, tls,
};

/// A token does not outgrow the datagram that brings it.
const TOKEN_BYTES_MAX: usize = 1_500;

/// A STUN check.
pub fn stun(data: &[u8]) {
    stun::fuzz::check_one_stun(data);
}

/// A check at a path set that knows its peer's credentials; the octets are not signed by that peer.
pub fn path(data: &[u8]) {
    let now = epoch();
    let (mut set, path) = path::fuzz::connector(now);
    set.set_remote(1, path::fuzz::credentials(1), now);
    path::fuzz::check_one_path_packet(&mut set, path, data, now);
}

/// A channel frame at a relay with one channel; and a train of frames, behind the two octets of their
/// length.
pub fn channel(data: &[u8]) {
    let mut table = channel::fuzz::open_table(1_000_000);
    channel::fuzz::check_one_channel_frame(&mut table, &mut data.to_vec(), epoch());
    if let Some((stride, train)) = data.split_first_chunk() {
        let stride = usize::from(u16::from_be_bytes(*stride)).max(1);
        channel::fuzz::check_one_channel_train(train, stride);
    }
}

/// A Retry token that the relay did not issue.
pub fn retry_token(data: &[u8]) {
    let token = data.get(..TOKEN_BYTES_MAX).unwrap_or(data);
    let forged = retry::fuzz::check_one_token(&retry::fuzz::retry([1; 32]), token);
    assert!(!forged, "a token of anybody's is taken");
}

/// A certificate.
pub fn certificate(data: &[u8]) {
    tls::fuzz::check_one_certificate(data);
}

/// A control stream.
pub fn control_stream(data: &[u8]) {
    control_frame::fuzz::check_one_control_stream(data);
}

/// The first octets of a flow.
pub fn flow_header(data: &[u8]) {
    flow::header::fuzz::check_one_flow_header(data);
}

/// A datagram of a flow.
pub fn flow_datagram(data: &[u8]) {
    flow::datagram::fuzz::check_one_flow_datagram(data);
}

/// Datagrams of flows, a millisecond apart, each after its length.
pub fn pieces(data: &[u8]) {
    let mut reassembler = flow::reassembly::Reassembler::new();
    let mut now = epoch();
    for piece in parts(data) {
        now += Duration::from_millis(1);
        flow::reassembly::fuzz::check_one_piece(&mut reassembler, piece, now);
    }
}

/// An IP packet.
pub fn ip_packet(data: &[u8]) {
    termination::fuzz::check_one_ip_packet(data);
}

/// IP packets, each after its length, at a termination whose owner does what the first octet seeds.
pub fn termination(data: &[u8]) {
    let Some((&seed, packets)) = data.split_first() else { return };
    let mut random = fastrand::Rng::with_seed(seed.into());
    let mut fuzzed = Fuzzed::new(seed.into());
    for packet in parts(packets) {
        termination::fuzz::check_one_packet(&mut fuzzed, packet, &mut random);
    }
}

/// What an application says to the SOCKS5 listener.
pub fn socks_handshake(data: &[u8]) {
    socks::fuzz::check_one_socks_handshake(data);
}

/// A datagram at the SOCKS5 listener.
pub fn socks_datagram(data: &[u8]) {
    socks::fuzz::check_one_socks_datagram(data);
}

/// A stream of packets over a Unix socket.
pub fn packet_stream(data: &[u8]) {
    assert!(packet_socket::frames::fuzz::check_one_stream(data), "the cuts make a difference");
}

/// Returns an instant to count from.
#[expect(clippy::disallowed_methods, reason = "any instant will do: only differences matter")]
pub(crate) fn epoch() -> Instant {
    Instant::now()
}

/// Cuts `data` into parts, each after its length in two octets; the last may be shorter.
fn parts(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at(rest.len().min(u16::from_be_bytes(*length).into()));
        data = rest;
        Some(part)
    })
}

#[cfg(test)]
mod tests;

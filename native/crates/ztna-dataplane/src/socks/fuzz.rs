//! What holds for any octets of an application that speaks SOCKS, or does not.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is the finding")]

use super::{REQUEST_BYTES_MAX, SocksHandshake, read_datagram, write_datagram};

pub(crate) fn check_one_socks_handshake(data: &[u8]) {
    let mut handshake = SocksHandshake::new();
    let mut out = Vec::new();
    let mut rest = data;

    let outcome = handshake.read(&mut rest, &mut out);

    assert!(handshake.held.len() <= REQUEST_BYTES_MAX && out.len() <= 12);
    if outcome == Ok(None) {
        assert!(rest.is_empty());
    }
}

pub(crate) fn check_one_socks_datagram(data: &[u8]) {
    if let Ok((target, octets)) = read_datagram(data) {
        let mut written = Vec::new();
        write_datagram(&target, octets, &mut written);
        assert_eq!(written[3..], data[3..]);
    }
}

//! What holds for any piece.

use std::time::Instant;

use super::{BYTES_MAX, PACKETS_MAX, Reassembler, STRETCHES_MAX};
use crate::flow::datagram::FlowDatagram;

pub(crate) fn check_one_piece(reassembler: &mut Reassembler, data: &[u8], now: Instant) {
    let Ok(FlowDatagram::Piece(piece)) = FlowDatagram::read(data) else { return };

    if let Some(packet) = reassembler.insert(&piece, now) {
        assert_eq!(packet.len(), usize::from(piece.total));
    }

    assert!(reassembler.packets() <= PACKETS_MAX && reassembler.bytes() <= BYTES_MAX);
    let held: usize = reassembler.packets.iter().map(|packet| packet.octets.len()).sum();
    assert_eq!(reassembler.bytes(), held);
    assert!(reassembler.packets.iter().all(|packet| packet.expires_at > now));
    assert!(reassembler.packets.iter().all(|packet| packet.stretches.len() <= STRETCHES_MAX));
}

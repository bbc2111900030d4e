//! What holds for any payload of a QUIC DATAGRAM.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is the finding")]

use super::{FlowDatagram, PACKET_BYTES_MAX, write_packet};

pub(crate) fn check_one_flow_datagram(data: &[u8]) {
    match FlowDatagram::read(data) {
        Ok(FlowDatagram::Whole { flow, octets }) => {
            let written: Vec<_> = write_packet(flow, 0, octets, usize::MAX).unwrap().collect();
            assert_eq!(FlowDatagram::read(&written[0]), Ok(FlowDatagram::Whole { flow, octets }));
        }
        Ok(FlowDatagram::Piece(piece)) => {
            assert!(data.ends_with(piece.octets) && !piece.octets.is_empty());
            let end = usize::from(piece.offset) + piece.octets.len();
            assert!(end <= usize::from(piece.total) && end <= PACKET_BYTES_MAX);
        }
        Err(_) => {}
    }
}

use super::fuzz::check_one_flow_datagram;
use super::*;
use crate::test_support::{flow_vectors, hex, seeded};

#[test]
fn the_vectors_of_the_protocol_are_written_and_read() {
    for case in flow_vectors("datagrams") {
        let name = &case["name"];
        let octets = hex(case["octets"].as_str().unwrap());
        let flow = case["flow"].as_u64().unwrap();
        let packet = u16::try_from(case["packet"].as_u64().unwrap()).unwrap();
        let size_max = usize::try_from(case["sizeMax"].as_u64().unwrap()).unwrap();
        let wire: Vec<_> =
            case["wire"].as_array().unwrap().iter().map(|w| hex(w.as_str().unwrap())).collect();

        let written: Vec<_> = write_packet(flow, packet, &octets, size_max).unwrap().collect();

        assert_eq!(written, wire, "{name}");
        let mut read = Vec::new();
        for payload in &wire {
            match FlowDatagram::read(payload).unwrap() {
                FlowDatagram::Whole { flow: read_flow, octets } => {
                    assert_eq!(read_flow, flow, "{name}");
                    read.extend_from_slice(octets);
                }
                FlowDatagram::Piece(piece) => {
                    assert_eq!((piece.flow, piece.packet), (flow, packet), "{name}");
                    assert_eq!(usize::from(piece.offset), read.len(), "{name}");
                    read.extend_from_slice(piece.octets);
                }
            }
        }
        assert_eq!(read, octets, "{name}");
    }
}

#[test]
fn the_refusals_of_the_protocol_are_refused() {
    for case in flow_vectors("datagramRefusals") {
        let error = FlowDatagram::read(&hex(case["wire"].as_str().unwrap())).unwrap_err();

        let reason = match error {
            DatagramError::Truncated => "truncated",
            DatagramError::UnknownType(_) => "unknown-type",
            DatagramError::InvalidFlow => "invalid-flow",
            DatagramError::InvalidPiece => "invalid-piece",
            DatagramError::TooLarge => "too-large",
            DatagramError::NoRoom => "no-room",
        };
        assert_eq!(reason, case["reason"], "{}", case["name"]);
    }
}

#[test]
fn every_length_of_flow_number_reads_back() {
    let limits = [0, 0x3f, 0x40, 0x3fff, 0x4000, 0x3fff_ffff, 0x4000_0000, FLOW_MAX - 1, FLOW_MAX];
    for flow in limits {
        let payloads: Vec<_> = write_packet(flow, 0, b"x", 1_200).unwrap().collect();

        assert_eq!(
            FlowDatagram::read(&payloads[0]),
            Ok(FlowDatagram::Whole { flow, octets: b"x" })
        );
    }
    assert_eq!(write_packet(FLOW_MAX + 1, 0, b"", 99).err(), Some(DatagramError::InvalidFlow));
}

#[test]
fn a_flow_number_in_a_longer_form_is_the_same_flow() {
    let expected = Ok(FlowDatagram::Whole { flow: 5, octets: &[0xaa] });
    for wire in ["00 05 aa", "00 4005 aa", "00 80000005 aa", "00 c000000000000005 aa"] {
        assert_eq!(FlowDatagram::read(&hex(wire)), expected);
    }
}

#[test]
fn a_packet_that_fits_to_the_octet_is_whole_and_one_more_is_two_pieces() {
    assert_eq!(write_packet(1, 0, &[7; 98], 100).unwrap().count(), 1);
    assert_eq!(write_packet(1, 0, &[7; 99], 100).unwrap().count(), 2);
}

#[test]
fn a_packet_of_9216_octets_is_sent_and_one_more_is_not() {
    assert!(write_packet(1, 0, &[0; 9_216], 1_176).is_ok());
    assert_eq!(write_packet(1, 0, &[0; 9_217], 1_176).err(), Some(DatagramError::TooLarge));
    assert_eq!(write_packet(1, 0, &[0; 9_217], 65_000).err(), Some(DatagramError::TooLarge));
}

#[test]
fn a_packet_of_9216_octets_is_read_and_one_more_is_not() {
    let mut payload = vec![0, 1];
    payload.resize(2 + 9_216, 0);
    assert!(FlowDatagram::read(&payload).is_ok());

    payload.push(0);
    assert_eq!(FlowDatagram::read(&payload), Err(DatagramError::TooLarge));
}

#[test]
fn a_size_without_room_for_one_octet_is_refused() {
    assert_eq!(write_packet(1, 0, &[0; 20], 8).err(), Some(DatagramError::NoRoom));
    assert_eq!(write_packet(1, 0, &[0; 20], 9).unwrap().count(), 20);
    assert_eq!(write_packet(1, 0, &[], 2).unwrap().count(), 1);
    assert_eq!(write_packet(1, 0, &[], 1).err(), Some(DatagramError::NoRoom));
}

#[test]
fn no_payload_exceeds_the_size_and_together_they_are_the_packet() {
    seeded(2_000, |random| {
        let octets: Vec<u8> =
            (0..random.usize(0..=PACKET_BYTES_MAX)).map(|_| random.u8(..)).collect();
        let flow = random.u64(..) >> random.u32(4..64);
        let size_max = random.usize(64..2_000);
        let packet = random.u16(..);

        let mut joined = Vec::new();
        for payload in write_packet(flow, packet, &octets, size_max).unwrap() {
            assert!(payload.len() <= size_max);
            match FlowDatagram::read(&payload).unwrap() {
                FlowDatagram::Whole { octets, .. } => joined.extend_from_slice(octets),
                FlowDatagram::Piece(piece) => {
                    assert_eq!(usize::from(piece.offset), joined.len());
                    assert_eq!(usize::from(piece.total), octets.len());
                    joined.extend_from_slice(piece.octets);
                }
            }
        }

        assert_eq!(joined, octets);
    });
}

#[test]
fn any_octets_are_read_without_a_panic() {
    seeded(200_000, |random| {
        let mut data: Vec<u8> = (0..random.usize(0..24)).map(|_| random.u8(..)).collect();
        if let Some(first) = data.first_mut()
            && random.u8(..8) > 0
        {
            *first &= 1;
        }
        check_one_flow_datagram(&data);
    });
}

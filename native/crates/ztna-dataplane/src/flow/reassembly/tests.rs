use super::fuzz::check_one_piece;
use super::*;
use crate::flow::datagram::{FlowDatagram, write_packet};
use crate::test_support::{epoch, flow_vectors, hex, seeded};

#[test]
fn the_vectors_of_the_protocol_come_out_as_they_say() {
    for case in flow_vectors("reassembly") {
        let now = epoch();
        let mut reassembler = Reassembler::new();
        let mut delivered = Vec::new();
        for wire in case["wire"].as_array().unwrap() {
            let payload = hex(wire.as_str().unwrap());
            let FlowDatagram::Piece(piece) = FlowDatagram::read(&payload).unwrap() else {
                panic!("{} is about pieces", case["name"]);
            };
            delivered.extend(reassembler.insert(&piece, now));
        }

        let expected: Vec<_> = case["delivered"]
            .as_array()
            .unwrap()
            .iter()
            .map(|packet| hex(packet.as_str().unwrap()))
            .collect();
        assert_eq!(delivered, expected, "{}", case["name"]);
    }
}

#[test]
fn pieces_make_a_packet_in_whatever_order_they_come() {
    seeded(2_000, |random| {
        let octets: Vec<u8> = (0..random.usize(1_200..=9_216)).map(|_| random.u8(..)).collect();
        let mut wire: Vec<_> = write_packet(3, 9, &octets, 1_176).unwrap().collect();
        random.shuffle(&mut wire);
        let mut reassembler = Reassembler::new();

        let mut delivered: Vec<_> =
            wire.iter().map(|payload| insert(&mut reassembler, payload, epoch())).collect();

        assert_eq!(delivered.pop(), Some(Some(octets)), "the last piece completes it");
        assert!(delivered.iter().all(Option::is_none));
        assert_eq!((reassembler.packets(), reassembler.bytes()), (0, 0));
    });
}

#[test]
fn packets_of_other_flows_and_other_numbers_do_not_mix() {
    let mut reassembler = Reassembler::new();
    let now = epoch();

    assert_eq!(reassembler.insert(&piece(1, 1, 0, 2, b"a"), now), None);
    assert_eq!(reassembler.insert(&piece(2, 1, 1, 2, b"x"), now), None);
    assert_eq!(reassembler.insert(&piece(1, 2, 1, 2, b"y"), now), None);

    assert_eq!(reassembler.insert(&piece(1, 1, 1, 2, b"b"), now), Some(b"ab".to_vec()));
    assert_eq!(reassembler.packets(), 2);
}

#[test]
fn an_overlap_drops_the_packet() {
    for (start, octets) in [(0, &b"ab"[..]), (1, b"b"), (3, b"de"), (0, b"abcdefg"), (4, b"e")] {
        let mut reassembler = Reassembler::new();
        let now = epoch();
        reassembler.insert(&piece(1, 1, 1, 8, b"bcd"), now);
        reassembler.insert(&piece(1, 1, 4, 8, b"e"), now);

        assert_eq!(reassembler.insert(&piece(1, 1, start, 8, octets), now), None);

        assert_eq!(dropped(&reassembler, ReassemblyDrop::Overlap), 1, "{octets:?} at {start}");
        assert_eq!((reassembler.packets(), reassembler.bytes()), (0, 0));
    }
}

#[test]
fn a_total_that_changes_drops_the_packet() {
    let mut reassembler = Reassembler::new();
    reassembler.insert(&piece(1, 1, 0, 8, b"ab"), epoch());

    assert_eq!(reassembler.insert(&piece(1, 1, 2, 9, b"cd"), epoch()), None);

    assert_eq!(dropped(&reassembler, ReassemblyDrop::TotalChanged), 1);
    assert_eq!(reassembler.packets(), 0);
}

#[test]
fn a_gap_is_dropped_after_two_seconds_and_not_before() {
    let mut reassembler = Reassembler::new();
    let now = epoch();
    reassembler.insert(&piece(1, 1, 0, 2, b"a"), now);

    reassembler.handle_timeout(now + LIFETIME - Duration::from_nanos(1));
    assert_eq!(reassembler.packets(), 1);

    reassembler.handle_timeout(now + LIFETIME);
    assert_eq!(dropped(&reassembler, ReassemblyDrop::TimedOut), 1);
    assert_eq!(reassembler.packets(), 0);
}

#[test]
fn the_last_piece_comes_too_late_after_two_seconds() {
    let mut reassembler = Reassembler::new();
    let now = epoch();
    reassembler.insert(&piece(1, 1, 0, 2, b"a"), now);

    assert_eq!(reassembler.insert(&piece(1, 1, 1, 2, b"b"), now + LIFETIME), None);
}

#[test]
fn sixty_four_packets_are_held_and_one_more_evicts_the_oldest() {
    let mut reassembler = Reassembler::new();
    let now = epoch();
    for id in 0..64 {
        reassembler.insert(&piece(1, id, 0, 2, b"a"), now);
    }
    assert_eq!(reassembler.packets(), 64);
    assert_eq!(dropped(&reassembler, ReassemblyDrop::Evicted), 0);

    reassembler.insert(&piece(1, 64, 0, 2, b"a"), now);

    assert_eq!(reassembler.packets(), 64);
    assert_eq!(dropped(&reassembler, ReassemblyDrop::Evicted), 1);
    assert_eq!(reassembler.insert(&piece(1, 1, 1, 2, b"b"), now), Some(b"ab".to_vec()));
    assert_eq!(reassembler.insert(&piece(1, 0, 1, 2, b"b"), now), None);
}

#[test]
fn two_hundred_and_fifty_six_kibibytes_are_held_and_one_octet_more_evicts_the_oldest() {
    let mut reassembler = Reassembler::new();
    let now = epoch();
    for id in 0..32 {
        reassembler.insert(&piece(1, id, 0, 8_192, b"a"), now);
    }
    assert_eq!((reassembler.packets(), reassembler.bytes()), (32, BYTES_MAX));

    reassembler.insert(&piece(1, 32, 0, 1, b"a"), now);
    assert_eq!(dropped(&reassembler, ReassemblyDrop::Evicted), 1);

    reassembler.insert(&piece(1, 33, 0, 8_193, b"a"), now);
    assert_eq!(dropped(&reassembler, ReassemblyDrop::Evicted), 2);
}

#[test]
fn sixteen_stretches_are_held_and_one_more_drops_the_packet() {
    let mut reassembler = Reassembler::new();
    for at in 0..16 {
        reassembler.insert(&piece(1, 1, 2 * at, 100, b"a"), epoch());
    }
    assert_eq!(reassembler.packets(), 1);

    reassembler.insert(&piece(1, 1, 32, 100, b"a"), epoch());

    assert_eq!(dropped(&reassembler, ReassemblyDrop::Fragmented), 1);
    assert_eq!(reassembler.packets(), 0);
}

#[test]
fn the_packets_of_a_flow_that_ended_are_dropped() {
    let mut reassembler = Reassembler::new();
    for id in 0..3 {
        reassembler.insert(&piece(1, id, 0, 2, b"a"), epoch());
        reassembler.insert(&piece(2, id, 0, 2, b"a"), epoch());
    }

    reassembler.end_flow(1);

    assert_eq!((reassembler.packets(), reassembler.bytes()), (3, 6));
    assert_eq!(dropped(&reassembler, ReassemblyDrop::FlowEnded), 3);
}

#[test]
fn a_packet_that_is_one_piece_comes_out_at_once() {
    let mut reassembler = Reassembler::new();
    assert_eq!(reassembler.insert(&piece(1, 1, 0, 2, b"ab"), epoch()), Some(b"ab".to_vec()));
}

#[test]
fn any_pieces_keep_the_bounds() {
    let mut reassembler = Reassembler::new();
    let mut now = epoch();
    seeded(200_000, |random| {
        let mut data = vec![1, random.u8(..4), 0, random.u8(..32)];
        let total = if random.bool() { 4 } else { random.u16(..=9_300) };
        data.extend_from_slice(&random.u16(..6).to_be_bytes());
        data.extend_from_slice(&total.to_be_bytes());
        data.resize(data.len() + random.usize(0..4), 0);
        now += Duration::from_micros(random.u64(..20_000));
        check_one_piece(&mut reassembler, &data, now);
    });
}

fn piece(flow: u64, packet: u16, offset: u16, total: u16, octets: &[u8]) -> Piece<'_> {
    Piece { flow, packet, offset, total, octets }
}

fn insert(reassembler: &mut Reassembler, payload: &[u8], now: Instant) -> Option<Vec<u8>> {
    let FlowDatagram::Piece(piece) = FlowDatagram::read(payload).unwrap() else {
        panic!("the packet is larger than one datagram");
    };
    reassembler.insert(&piece, now)
}

fn dropped(reassembler: &Reassembler, reason: ReassemblyDrop) -> u64 {
    reassembler.drops().find(|(each, _)| *each == reason).unwrap().1
}

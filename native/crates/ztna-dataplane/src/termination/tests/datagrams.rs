//! UDP and echo: found in packets, and built into packets. Each direction is the other's oracle: what
//! is built is what an application would have sent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::world::epoch;
use crate::termination::{
    Datagram, DatagramKind, Termination, TerminationConfig, TerminationCounters, Unreachable,
};
use crate::tun::vnet::VnetHeader;

const ENDS: [(&str, &str); 2] =
    [("10.0.0.1:5353", "10.100.0.1:53"), ("[fd00::1]:5353", "[fd7a:7a74:6e61::1]:53")];

#[test]
fn a_datagram_of_every_size_survives_being_built_and_found() {
    for (source, destination) in ENDS.map(parse) {
        let mut wire = Wire::new();
        for size in (0..1_500).chain([9_216, 65_507 - 20]) {
            let payload: Vec<u8> = (0..size).map(|index| index as u8).collect();
            let mut packet = Vec::new();
            let header = Termination::send_udp(source, destination, &payload, &mut packet);

            let found = wire.take(header.unwrap(), &packet);

            assert_eq!(found, [(DatagramKind::Udp, source, destination, payload)], "{size}");
        }
    }
}

#[test]
fn one_octet_more_than_an_ip_packet_holds_is_refused() {
    let (source, destination) = parse(ENDS[0]);
    let mut out = Vec::new();

    assert!(Termination::send_udp(source, destination, &vec![0; 65_507], &mut out).is_some());
    assert!(Termination::send_udp(source, destination, &vec![0; 65_508], &mut out).is_none());
    let (source, destination) = parse(ENDS[1]);
    assert!(Termination::send_udp(source, destination, &vec![0; 65_527], &mut out).is_some());
    assert!(Termination::send_udp(source, destination, &vec![0; 65_528], &mut out).is_none());
}

#[test]
fn ends_of_different_families_make_no_packet() {
    let (v4, _) = parse(ENDS[0]);
    let (v6, _) = parse(ENDS[1]);

    assert!(Termination::send_udp(v4, v6, b"", &mut Vec::new()).is_none());
}

#[test]
fn a_wrong_checksum_is_dropped_unless_the_device_vouches_for_it() {
    for (source, destination) in ENDS.map(parse) {
        let mut wire = Wire::new();
        let mut packet = Vec::new();
        Termination::send_udp(source, destination, b"datagram", &mut packet).unwrap();
        *packet.last_mut().unwrap() ^= 1;

        assert!(wire.take(VnetHeader::PLAIN, &packet).is_empty());
        assert_eq!(wire.counters().bad_checksum, 1);

        for flags in [VnetHeader::FLAG_NEEDS_CSUM, VnetHeader::FLAG_DATA_VALID] {
            let header = VnetHeader { flags, ..VnetHeader::PLAIN };
            assert_eq!(wire.take(header, &packet).len(), 1);
        }
    }
}

#[test]
fn an_absent_checksum_is_right_in_ipv4_and_wrong_in_ipv6() {
    for ((source, destination), found) in ENDS.map(parse).into_iter().zip([1, 0]) {
        let mut wire = Wire::new();
        let mut packet = Vec::new();
        Termination::send_udp(source, destination, b"datagram", &mut packet).unwrap();
        let field = packet.len() - b"datagram".len() - 2;
        packet[field..field + 2].fill(0);

        assert_eq!(wire.take(VnetHeader::PLAIN, &packet).len(), found);
    }
}

#[test]
fn a_udp_super_packet_is_split_into_the_datagrams_that_were_sent() {
    let (source, destination) = parse(ENDS[0]);
    let mut wire = Wire::new();
    let mut packet = Vec::new();
    Termination::send_udp(source, destination, b"aaaabbbbcc", &mut packet).unwrap();
    let header = VnetHeader {
        flags: VnetHeader::FLAG_NEEDS_CSUM,
        gso_type: VnetHeader::GSO_UDP_L4,
        gso_size: 4,
        ..VnetHeader::PLAIN
    };

    let payloads: Vec<_> = wire.take(header, &packet).into_iter().map(|found| found.3).collect();

    assert_eq!(payloads, [b"aaaa".to_vec(), b"bbbb".to_vec(), b"cc".to_vec()]);
}

#[test]
fn an_echo_request_is_found_and_its_reply_is_what_a_host_would_send() {
    for (source, destination) in ENDS.map(parse) {
        let mut wire = Wire::new();
        let mut reply = Vec::new();
        Termination::send_echo_reply(source, destination, 7, 9, b"ping", &mut reply).unwrap();
        assert!(wire.take(VnetHeader::PLAIN, &reply).is_empty(), "a reply is no request");
        assert_eq!(wire.counters().unsupported, 1);

        let request = into_request(reply);
        let found = wire.take(VnetHeader::PLAIN, &request);

        let kind = DatagramKind::Echo { identifier: 7, sequence: 9 };
        let ends = (SocketAddr::new(source.ip(), 0), SocketAddr::new(destination.ip(), 0));
        assert_eq!(found, [(kind, ends.0, ends.1, b"ping".to_vec())]);
    }
}

#[test]
fn fragments_of_a_datagram_are_put_together_in_both_families() {
    for (index, (source, destination)) in ENDS.map(parse).into_iter().enumerate() {
        let mut wire = Wire::new();
        let payload: Vec<u8> = (0..4_000).map(|index| index as u8).collect();
        let mut packet = Vec::new();
        Termination::send_udp(source, destination, &payload, &mut packet).unwrap();
        let pieces = if index == 0 { fragments_v4(&packet) } else { fragments_v6(&packet) };
        assert_eq!(pieces.len(), 4);

        let mut found = Vec::new();
        for piece in pieces.iter().rev() {
            assert!(found.is_empty());
            found = wire.take(VnetHeader::PLAIN, piece);
        }

        assert_eq!(found, [(DatagramKind::Udp, source, destination, payload)]);
        assert_eq!(wire.counters().reassembled, 1);
    }
}

#[test]
fn fragments_whose_siblings_never_come_are_forgotten_and_counted() {
    let (source, destination) = parse(ENDS[0]);
    let mut wire = Wire::new();
    let mut packet = Vec::new();
    Termination::send_udp(source, destination, &[1; 4_000], &mut packet).unwrap();
    let pieces = fragments_v4(&packet);
    wire.take(VnetHeader::PLAIN, &pieces[0]);
    wire.take(VnetHeader::PLAIN, &pieces[1]);

    let due = wire.termination.poll_timeout().unwrap();
    assert_eq!(due, wire.now + Duration::from_secs(2));
    wire.termination.handle_timeout(due);

    assert_eq!(wire.counters().fragments_dropped, 2);
    assert_eq!(wire.termination.poll_timeout(), None);
}

#[test]
fn an_unreachable_port_is_told_in_the_words_of_either_family() {
    for ((source, destination), expected) in ENDS.map(parse).into_iter().zip([[3, 3], [1, 4]]) {
        let mut packet = Vec::new();
        let port = Unreachable::Port;
        let kind = DatagramKind::Udp;

        Termination::send_unreachable(port, kind, source, destination, &mut packet).unwrap();

        let ip = if source.is_ipv4() { 20 } else { 40 };
        assert_eq!(packet[ip..ip + 2], expected);
        let quoted = &packet[ip + 8 + ip..];
        assert_eq!(quoted[..2], source.port().to_be_bytes());
        assert_eq!(quoted[2..4], destination.port().to_be_bytes());
    }
}

#[test]
fn what_is_no_service_of_ours_is_dropped_and_counted() {
    let (source, destination) = parse(ENDS[0]);
    let mut wire = Wire::new();
    let mut packet = Vec::new();
    Termination::send_udp(source, destination, b"datagram", &mut packet).unwrap();

    let mut multicast = packet.clone();
    multicast[16] = 224;
    let mut other = packet.clone();
    other[9] = 132;
    for packet in [&mut multicast, &mut other] {
        fix_ipv4_checksum(packet);
        assert!(wire.take(VnetHeader::PLAIN, packet).is_empty());
    }
    packet[10] ^= 1;
    assert!(wire.take(VnetHeader::PLAIN, &packet).is_empty());

    let counters = wire.counters();
    assert_eq!((counters.martian, counters.unsupported, counters.malformed), (1, 1, 1));
}

type Found = (DatagramKind, SocketAddr, SocketAddr, Vec<u8>);

struct Wire {
    termination: Termination,
    now: Instant,
}

impl Wire {
    fn new() -> Self {
        let now = epoch();
        let config = TerminationConfig {
            offload: true,
            mtu: 1_280,
            held_syns_max: 1,
            flows_max: 1,
            random_seed: 1,
        };
        Self { termination: Termination::new(config, now), now }
    }

    fn take(&mut self, header: VnetHeader, packet: &[u8]) -> Vec<Found> {
        let mut found = Vec::new();
        let mut packet = packet.to_vec();
        let take = &mut |datagram: Datagram<'_>| {
            let Datagram { kind, source, destination, payload } = datagram;
            found.push((kind, source, destination, payload.to_vec()));
        };
        self.termination.handle_packet(header, &mut packet, self.now, take);
        found
    }

    fn counters(&self) -> TerminationCounters {
        self.termination.counters()
    }
}

fn parse((source, destination): (&str, &str)) -> (SocketAddr, SocketAddr) {
    (source.parse().unwrap(), destination.parse().unwrap())
}

/// Turns an echo reply into the request that it answers, checksum included.
fn into_request(mut packet: Vec<u8>) -> Vec<u8> {
    let (ip, delta) = if packet[0] >> 4 == 4 { (20, 8_u16) } else { (40, 0_u16.wrapping_sub(1)) };
    packet[ip] = packet[ip].wrapping_add(delta as u8);
    // RFC 1624 with the type in the high half of the changed word.
    let old = u16::from_be_bytes([packet[ip + 2], packet[ip + 3]]);
    let sum = if delta == 8 { u32::from(!old) + 0x0800 } else { u32::from(!old) + 0xFEFF };
    let sum = (sum & 0xFFFF) + (sum >> 16);
    packet[ip + 2..ip + 4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}

fn fragments_v4(packet: &[u8]) -> Vec<Vec<u8>> {
    let chunks: Vec<&[u8]> = packet[20..].chunks(1_256).collect();
    (0..chunks.len())
        .map(|index| {
            let mut piece = [&packet[..20], chunks[index]].concat();
            let length = piece.len() as u16;
            piece[2..4].copy_from_slice(&length.to_be_bytes());
            let more = if index + 1 < chunks.len() { 0x2000 } else { 0 };
            let field = more | (index * 1_256 / 8) as u16;
            piece[6..8].copy_from_slice(&field.to_be_bytes());
            fix_ipv4_checksum(&mut piece);
            piece
        })
        .collect()
}

fn fragments_v6(packet: &[u8]) -> Vec<Vec<u8>> {
    let chunks: Vec<&[u8]> = packet[40..].chunks(1_232).collect();
    (0..chunks.len())
        .map(|index| {
            let more = u16::from(index + 1 < chunks.len());
            let field = ((index * 1_232) as u16 | more).to_be_bytes();
            let extension = [17, 0, field[0], field[1], 0, 0, 0, 42];
            let mut piece = [&packet[..40], &extension, chunks[index]].concat();
            let length = (piece.len() - 40) as u16;
            piece[4..6].copy_from_slice(&length.to_be_bytes());
            piece[6] = 44;
            piece
        })
        .collect()
}

fn fix_ipv4_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum: u32 =
        packet[..20].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let sum = (sum & 0xFFFF) + (sum >> 16);
    let sum = (sum & 0xFFFF) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

//! Random and mutated packets, and random calls, against a termination with live flows.
//!
//! Prints the seed on failure; `SEED=` replays it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{MODES, World, application, epoch};
use crate::termination::ip;
use crate::termination::segment::{self, Segment};
use crate::termination::{TcpEvent, TcpRefusal, TerminatedFlow, Termination, TerminationConfig};
use crate::tun::vnet::VnetHeader;

const EXECUTIONS: usize = 200_000;
const FLOWS_MAX: usize = 24;
const HELD_MAX: usize = 8;

#[test]
fn no_packet_whatever_breaks_the_termination() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let corpus = corpus();
    let printer = PrintSeed(seed);
    let mut fuzzed = Fuzzed::new(seed);
    for _ in 0..EXECUTIONS {
        let data = next_input(&mut random, &corpus);
        check_one_packet(&mut fuzzed, &data, &mut random);
    }
    assert!(fuzzed.established > 100, "the corpus reaches live flows");
    printer.disarm();
}

#[test]
fn no_packet_whatever_breaks_the_ip_parser() {
    let seed = seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let corpus = corpus();
    let printer = PrintSeed(seed);
    for _ in 0..EXECUTIONS {
        check_one_ip_packet(&next_input(&mut random, &corpus));
    }
    printer.disarm();
}

/// Parses any octets, and checks what is promised of those that are taken.
fn check_one_ip_packet(data: &[u8]) {
    let Ok(parsed) = ip::parse(data) else { return };
    assert!(parsed.transport <= parsed.total && parsed.total <= data.len());
    let mut stripped = data.to_vec();
    let start = ip::strip_extension_headers(&mut stripped, &parsed);
    if start > 0 && parsed.fragment.is_none() {
        let again = ip::parse(&stripped[start..]).unwrap();
        assert_eq!((again.transport, again.protocol), (40, parsed.protocol));
        assert_eq!(stripped[start + 40..], data[parsed.transport..]);
    }
}

struct Fuzzed {
    termination: Termination,
    now: std::time::Instant,
    flows: Vec<TerminatedFlow>,
    /// By the application's port: what it would acknowledge.
    sent: BTreeMap<u16, u32>,
    established: u64,
}

impl Fuzzed {
    fn new(seed: u64) -> Self {
        let config = TerminationConfig {
            offload: seed.is_multiple_of(2),
            mtu: 1_280,
            held_syns_max: HELD_MAX,
            flows_max: FLOWS_MAX,
            random_seed: seed,
        };
        let now = epoch();
        Self {
            termination: Termination::new(config, now),
            now,
            flows: Vec::new(),
            sent: BTreeMap::new(),
            established: 0,
        }
    }
}

/// Takes one packet and one step of the owner, and checks the bounds.
fn check_one_packet(fuzzed: &mut Fuzzed, data: &[u8], random: &mut fastrand::Rng) {
    let Fuzzed { termination, now, flows, sent, established } = fuzzed;
    let mut packet = data.to_vec();
    if random.u8(..8) > 0 {
        acknowledge(&mut packet, sent);
    }
    // Whatever the device says of the packet, nothing may break.
    let header = VnetHeader {
        flags: random.u8(..4),
        gso_type: if random.u8(..8) == 0 { VnetHeader::GSO_UDP_L4 } else { 0 },
        gso_size: random.u16(..64),
        ..VnetHeader::PLAIN
    };
    let mut datagrams = 0;
    termination.handle_packet(header, &mut packet, *now, &mut |datagram| {
        assert!(datagram.payload.len() <= data.len().max(9_216));
        datagrams += 1;
    });
    assert!(datagrams <= data.len().max(1));

    while let Some(event) = termination.poll_event() {
        match event {
            TcpEvent::Syn { flow, .. } => match random.u8(..6) {
                0 => termination.refuse(flow, TcpRefusal::Reset, *now),
                1 => termination.refuse(flow, TcpRefusal::Unreachable, *now),
                2 => {}
                _ => {
                    termination.accept(flow, *now);
                    flows.push(flow);
                }
            },
            TcpEvent::Readable { flow } => {
                let take = random.usize(..4_096);
                while termination.recv(flow, |part| part.len().min(take)).is_ok_and(|n| n > 0) {}
            }
            TcpEvent::Writable { flow } => {
                *established += 1;
                let _ = termination.send(flow, |room| room.len().min(5_000));
            }
            TcpEvent::Reset { flow } | TcpEvent::Closed { flow } => {
                flows.retain(|&other| other != flow);
            }
        }
    }
    if let Some(&flow) = flows.get(random.usize(..64)) {
        match random.u8(..4) {
            0 => termination.finish(flow),
            1 => {
                termination.abort(flow, *now);
                flows.retain(|&other| other != flow);
            }
            _ => while termination.recv(flow, |part| part.len()).is_ok() {},
        }
    }
    if random.u8(..4) == 0 {
        *now += Duration::from_millis(random.u64(..400));
        termination.handle_timeout(*now);
        termination.flush(*now, &mut |_, packet| note_sent(packet, sent));
    }

    assert!(termination.flows() <= FLOWS_MAX);
    assert!(flows.len() <= FLOWS_MAX);
    assert!(termination.dirty.len() <= FLOWS_MAX + 1);
}

/// Remembers what an application would acknowledge.
fn note_sent(packet: &[u8], sent: &mut BTreeMap<u16, u32>) {
    let parsed = ip::parse(packet).unwrap();
    let Some(segment) = Segment::parse(packet, &parsed).filter(|_| parsed.protocol == ip::TCP)
    else {
        return;
    };
    let controls = (segment.flags & (segment::SYN | segment::FIN)).count_ones();
    sent.insert(segment.key.destination.port(), segment.data_end.wrapping_add(controls));
}

/// Makes a segment acknowledge what was sent to its port.
fn acknowledge(packet: &mut [u8], sent: &BTreeMap<u16, u32>) {
    let Ok(parsed) = ip::parse(packet) else { return };
    let Some(segment) = Segment::parse(packet, &parsed).filter(|_| parsed.protocol == ip::TCP)
    else {
        return;
    };
    if let Some(acknowledgement) = sent.get(&segment.key.source.port()) {
        let field = parsed.transport + 8;
        packet[field..field + 4].copy_from_slice(&acknowledgement.to_be_bytes());
    }
}

/// Returns random octets, or a packet of the corpus with some octets changed.
fn next_input(random: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut data = if random.u8(..8) == 0 {
        let length = random.usize(..128);
        std::iter::repeat_with(|| random.u8(..)).take(length).collect()
    } else {
        corpus[random.usize(..corpus.len())].clone()
    };
    let v4 = data.first().is_some_and(|octet| octet >> 4 == 4);
    for _ in 0..random.usize(..6) {
        if data.is_empty() {
            break;
        }
        let index = random.usize(..data.len());
        match random.u8(..6) {
            0 => data[index] ^= 1 << random.u8(..8),
            1 => data[index] = *random.choice(&[0, 1, 0x7F, 0x80, 0xFF]).unwrap(),
            2 => data.truncate(index),
            3 => data.extend_from_within(index..),
            4 => data.insert(index, random.u8(..)),
            _ => data[index] = random.u8(..),
        }
        data.truncate(4_096);
    }
    // Most mutants get past the first gate.
    if v4 && data.len() >= 20 && random.u8(..8) > 0 {
        let length = data.len() as u16;
        data[2..4].copy_from_slice(&length.to_be_bytes());
        data[10..12].fill(0);
        let header = (usize::from(data[0] & 15) * 4).clamp(20, 60).min(data.len());
        let sum = crate::termination::octets::sum(&data[..header], 0);
        let checksum = !crate::termination::octets::fold(sum);
        data[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    data
}

/// Packets of whole conversations, of both families, and their fragments.
fn corpus() -> Vec<Vec<u8>> {
    let mut corpus = Vec::new();
    for mode in MODES {
        let mut world = World::new(mode);
        world.record = true;
        let (socket, flow) = world.established();
        world.upload(socket, flow, &[7; 3_000]);
        world.download(socket, flow, &[7; 3_000]);
        world.socket(socket).close();
        world.step();
        world.take_events();
        let aborted = world.established().0;
        world.socket(aborted).abort();
        world.step();
        corpus.append(&mut world.recorded);

        let source = std::net::SocketAddr::new(application(mode.v6), 5_353);
        let service = if mode.v6 { super::world::SERVICE_V6 } else { super::world::SERVICE_V4 };
        let destination = service.parse().unwrap();
        let mut packet = Vec::new();
        Termination::send_udp(source, destination, &[1; 300], &mut packet).unwrap();
        corpus.push(packet.clone());
        let mut fragment = packet.clone();
        fragment[6] = if mode.v6 { 44 } else { 0x20 };
        corpus.push(fragment);
        Termination::send_echo_reply(source, destination, 1, 2, &[1; 56], &mut packet).unwrap();
        packet[if mode.v6 { 40 } else { 20 }] = if mode.v6 { 128 } else { 8 };
        corpus.push(packet);
    }
    corpus
}

fn seed() -> u64 {
    std::env::var("SEED").map_or(0x7A74_6E61, |seed| seed.parse().expect("SEED is a number"))
}

struct PrintSeed(u64);

impl PrintSeed {
    const fn disarm(self) {
        std::mem::forget(self);
    }
}

impl Drop for PrintSeed {
    #[expect(clippy::print_stderr, reason = "tells how to replay a failure")]
    fn drop(&mut self) {
        eprintln!("seed={}", self.0);
    }
}

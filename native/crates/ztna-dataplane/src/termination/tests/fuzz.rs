//! Random and mutated packets, and random calls, against a termination with live flows.
//!
//! Prints the seed on failure; `SEED=` replays it.

use super::world::{MODES, World, application};
use crate::termination::Termination;
use crate::termination::fuzz::{Fuzzed, check_one_ip_packet, check_one_packet};

const EXECUTIONS: usize = 200_000;

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

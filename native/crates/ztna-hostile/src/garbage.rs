//! Random datagrams and mutated copies of real ones, reproducible by their seed.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use quiche::{Config, ConnectionId};
use serde_json::{Value, json};

use crate::options::Options;
use crate::raw_udp::Sender;
use crate::{Outcome, client};

/// Copies of one real first flight before another is made.
const COPIES: u64 = 500;
const DATAGRAM_MAX: usize = 1_472;
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// Sends `count` datagrams at `rate`.
pub(crate) fn garbage(options: &Options) -> Outcome<Value> {
    let sender = Sender::new(options.spoof, options.remote)?;
    let mut rng = Rng::with_seed(options.seed);
    let mut config = client::config(options)?;
    let mut real = Vec::new();
    let (mut sent, mut untaken, mut octets) = (0_u64, 0_u64, 0_usize);
    let started = Instant::now();
    for index in 0..options.count {
        if index % COPIES == 0 {
            real = real_packets(&mut rng, &mut config, options.remote)?;
        }
        let datagram = datagram(&mut rng, &real);
        match sender.send(&datagram, options.remote) {
            Ok(()) => sent += 1,
            // Refused because of an earlier datagram, or no room.
            Err(_) => untaken += 1,
        }
        octets += datagram.len();
        let due = Duration::from_micros(index.saturating_mul(1_000_000) / options.rate);
        if let Some(early) = due.checked_sub(started.elapsed())
            && early > Duration::from_millis(1)
        {
            thread::sleep(early);
        }
    }
    Ok(json!({
        "sent": sent,
        "untaken": untaken,
        "octets": octets,
        "seed": options.seed,
        "ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}

fn datagram(rng: &mut Rng, real: &[Vec<u8>]) -> Vec<u8> {
    match rng.u8(0..8) {
        0 => random(rng, 0..DATAGRAM_MAX),
        1 => with_first(random(rng, 1..DATAGRAM_MAX), rng.u8(0x40..0x80)),
        2 => with_first(random(rng, 1..DATAGRAM_MAX), rng.u8(0xc0..=0xff)),
        3 => stun(rng),
        4 => {
            let mut frame = with_first(random(rng, 9..10), rng.u8(0x40..0x80));
            frame.extend(if rng.bool() { stun(rng) } else { copy(rng, real) });
            frame
        }
        _ => mutated(rng, real),
    }
}

fn mutated(rng: &mut Rng, real: &[Vec<u8>]) -> Vec<u8> {
    let mut packet = copy(rng, real);
    match rng.u8(0..4) {
        0 => packet.truncate(rng.usize(0..=packet.len())),
        1 => packet.extend(random(rng, 1..200)),
        // The header is where decisions are made.
        2 => {
            let end = packet.len().min(64);
            flip(rng, packet.get_mut(..end).unwrap_or_default());
        }
        _ => flip(rng, &mut packet),
    }
    packet
}

fn flip(rng: &mut Rng, octets: &mut [u8]) {
    for _ in 0..rng.usize(1..=8) {
        if octets.is_empty() {
            return;
        }
        let place = rng.usize(0..octets.len());
        if let Some(octet) = octets.get_mut(place) {
            *octet ^= 1 << rng.u8(0..8);
        }
    }
}

/// Well-formed to the eye: type, cookie and length are right, attributes are not.
fn stun(rng: &mut Rng) -> Vec<u8> {
    let body = random(rng, 0..200);
    let length = u16::try_from(body.len() & !3).unwrap_or_default();
    let mut packet = vec![rng.u8(0..2), rng.u8(..)];
    packet.extend(length.to_be_bytes());
    packet.extend(STUN_COOKIE);
    packet.extend(random(rng, 12..13));
    packet.extend(body.get(..usize::from(length)).unwrap_or_default());
    packet
}

fn real_packets(rng: &mut Rng, config: &mut Config, remote: SocketAddr) -> Outcome<Vec<Vec<u8>>> {
    let id = random(rng, 16..17);
    let local = ([127, 0, 0, 1], 9).into();
    let mut quic = quiche::connect(None, &ConnectionId::from_ref(&id), local, remote, config)?;
    let mut packets = Vec::new();
    let mut buffer = [0; 1_500];
    while let Ok((length, _)) = quic.send(&mut buffer) {
        packets.push(buffer.get(..length).unwrap_or_default().to_vec());
    }
    Ok(packets)
}

fn copy(rng: &mut Rng, real: &[Vec<u8>]) -> Vec<u8> {
    rng.choice(real).cloned().unwrap_or_default()
}

pub(crate) fn random(rng: &mut Rng, length: std::ops::Range<usize>) -> Vec<u8> {
    let mut octets = vec![0; rng.usize(length)];
    rng.fill(&mut octets);
    octets
}

fn with_first(mut octets: Vec<u8>, first: u8) -> Vec<u8> {
    if let Some(octet) = octets.first_mut() {
        *octet = first;
    }
    octets
}

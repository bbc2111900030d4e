//! What holds for any packet of an application.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is the finding")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::segment::Segment;
use super::{TcpEvent, TcpRefusal, TerminatedFlow, Termination, TerminationConfig, ip, segment};
use crate::fuzzing::epoch;
use crate::tun::vnet::VnetHeader;

const FLOWS_MAX: usize = 24;
const HELD_MAX: usize = 8;

/// Parses any octets, and checks what is promised of those that are taken.
pub(crate) fn check_one_ip_packet(data: &[u8]) {
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

/// A termination and what its owner and its application remember.
pub(crate) struct Fuzzed {
    termination: Termination,
    now: Instant,
    flows: Vec<TerminatedFlow>,
    /// By the application's port: what it would acknowledge.
    sent: BTreeMap<u16, u32>,
    pub(super) established: u64,
}

impl Fuzzed {
    pub(crate) fn new(seed: u64) -> Self {
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
pub(crate) fn check_one_packet(fuzzed: &mut Fuzzed, data: &[u8], random: &mut fastrand::Rng) {
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

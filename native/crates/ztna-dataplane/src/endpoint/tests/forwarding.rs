//! Trains at a relay's socket: what goes on, in which order, and what is counted of the rest.

use std::net::UdpSocket;
use std::time::Duration;

use mio::{Poll, Waker};
use quinn_udp::RecvMeta;

use crate::channel::PREFIX_BYTES;
use crate::command::ChannelSide;
use crate::config::{EndpointConfig, Limits, Role};
use crate::endpoint::plane::{Plane, WAKE};
use crate::endpoint::queue::Shared;
use crate::endpoint::staging::Staging;
use crate::id::{ConnectionHandle, WireId};
use crate::test_support::epoch;
use crate::udp::{RECV_BATCH_MAX, UdpPort};

const TO_RELAY: WireId = WireId(*b"relay-a\x01");
const TO_CONNECTOR: WireId = WireId(*b"connect\x01");
const FRAME: usize = 60;
const STUN: u8 = 0;
const LONG_HEADER: u8 = 0xc0;
const SHORT_HEADER: u8 = 0x40;

#[test]
fn frames_go_on_from_between_whatever_a_train_has_besides() {
    let mut relay = Relay::new();
    let train = [
        frame(1),
        frame(2),
        packet(SHORT_HEADER, *b"no leg\0\0"),
        frame(3),
        packet(STUN, TO_RELAY.0),
        packet(LONG_HEADER, TO_RELAY.0),
        frame(4),
        packet(SHORT_HEADER, *b"nobody\0\x01"),
        frame(5)[..FRAME - 7].to_vec(),
    ];

    relay.receive(&train);

    assert_eq!(
        relay.forwarded(5),
        [(1, FRAME), (2, FRAME), (3, FRAME), (4, FRAME), (5, FRAME - 7)]
    );
    let counters = relay.plane.counters;
    assert_eq!((counters.dropped_unknown_id, counters.dropped_invalid), (1, 2));
    let channels = relay.plane.channels.counters();
    assert_eq!(channels.packets, 5);
    assert_eq!(channels.drops().map(|(_, count)| count).sum::<u64>(), 1);
}

#[test]
fn a_long_run_does_not_overtake_a_short_one() {
    let mut relay = Relay::new();
    let mut train: Vec<_> = (0..2).map(frame).collect();
    train.push(packet(STUN, TO_RELAY.0));
    train.extend((2..20).map(frame));
    train.push(packet(STUN, TO_RELAY.0));
    train.extend((20..22).map(frame));

    relay.receive(&train);

    let numbers: Vec<_> = relay.forwarded(22).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (0..22).collect::<Vec<_>>());
}

#[test]
fn a_turn_leaves_what_is_too_much_for_it() {
    let mut relay = Relay::new();
    relay.send(200, FRAME);

    let first = relay.read(RECV_BATCH_MAX);
    assert!(first <= RECV_BATCH_MAX, "{first} of one batch");
    let second = relay.read(RECV_BATCH_MAX + 1);
    assert!(second <= 2 * RECV_BATCH_MAX, "{second} of two batches");

    relay.read_until(200);
}

#[test]
fn a_relay_reads_long_trains_a_few_at_a_time() {
    let mut relay = Relay::new();
    relay.send(1, 60_000);
    relay.read_until(1);

    relay.send(6, 30_000);
    let first = relay.read(1);

    assert!(first <= 4, "{first} of a batch of the least");
    relay.read_until(7);
}

/// A relay's data plane without its loop, with one channel between two sockets.
struct Relay {
    plane: Plane,
    agent: UdpSocket,
    connector: UdpSocket,
}

impl Relay {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let shared = Shared::new(Waker::new(poll.registry(), WAKE).unwrap(), Box::new(|| {}));
        let config = EndpointConfig {
            role: Role::Relay,
            listen: Vec::new(),
            reset_key: [7; 32],
            allow_loopback: true,
            limits: Limits::default(),
        };
        let port = UdpPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut plane = Plane::new(config, poll, vec![port], shared);

        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (agent, connector) = (socket(), socket());
        connector.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let legs = [ConnectionHandle(1), ConnectionHandle(2)];
        for (leg, socket) in legs.into_iter().zip([&agent, &connector]) {
            plane.channels.set_leg_address(leg, Some(socket.local_addr().unwrap()));
        }
        let [near, far] = legs;
        let near =
            ChannelSide { leg: near, relay_id: TO_RELAY, client_id: WireId(*b"agent-i\x01") };
        let far =
            ChannelSide { leg: far, relay_id: WireId(*b"relay-b\x01"), client_id: TO_CONNECTOR };
        plane.channels.open(near, far, 0, epoch()).unwrap();
        Self { plane, agent, connector }
    }

    /// Takes packets of one length, the last perhaps shorter, as a train of the agent's.
    fn receive(&mut self, packets: &[Vec<u8>]) {
        let mut train = packets.concat();
        let mut meta = RecvMeta::default();
        meta.addr = self.agent.local_addr().unwrap();
        meta.len = train.len();
        meta.stride = FRAME;
        let mut staging = Staging::default();
        self.plane.receive_at_relay(0, &mut train, &meta, &mut staging, epoch());
        self.plane.flush_staging(0, &mut staging);
    }

    /// Sends the relay's socket so many packets from the agent's.
    fn send(&self, packets: usize, octets: usize) {
        let relay = self.plane.ports[0].local;
        for _ in 0..packets {
            self.agent.send_to(&vec![0; octets], relay).unwrap();
        }
    }

    /// Reads the socket as a turn of so many trains does; returns how many packets that gave.
    fn read(&mut self, trains: usize) -> usize {
        let before = self.received();
        self.plane.ports[0].readable = true;
        self.plane.receive_port(0, trains, epoch());
        self.received() - before
    }

    /// Reads until so many packets came, ever.
    fn read_until(&mut self, packets: usize) {
        for _ in 0..5_000 {
            self.read(RECV_BATCH_MAX);
            if self.received() >= packets {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(self.received(), packets);
    }

    fn received(&self) -> usize {
        self.plane.ports[0].counters.received_packets.try_into().unwrap()
    }

    /// Returns the numbers and lengths of the `count` frames that came to the connector, and no more.
    fn forwarded(&self, count: usize) -> Vec<(u8, usize)> {
        let mut buffer = [0; 2 * FRAME];
        let frames = (0..count).map(|_| {
            let length = self.connector.recv(&mut buffer).unwrap();
            assert_eq!(buffer[1..PREFIX_BYTES], TO_CONNECTOR.0);
            (buffer[PREFIX_BYTES + 1], length)
        });
        let frames = frames.collect();
        self.connector.set_nonblocking(true).unwrap();
        assert!(self.connector.recv(&mut buffer).is_err());
        frames
    }
}

/// A channel frame with a number behind its payload's first octet.
fn frame(number: u8) -> Vec<u8> {
    let mut frame = packet(SHORT_HEADER, TO_RELAY.0);
    frame[PREFIX_BYTES] = 0x40;
    frame[PREFIX_BYTES + 1] = number;
    frame
}

fn packet(first: u8, id: [u8; WireId::LENGTH]) -> Vec<u8> {
    let mut packet = vec![first];
    packet.extend(id);
    packet.resize(FRAME, 0xab);
    packet
}

//! Datagrams that come before their flow's header, or before its service is granted.

use std::net::UdpSocket;
use std::time::Duration;

use super::bench::Bench;
use crate::command::Protocol;
use crate::event::FlowKind;

#[test]
fn datagrams_before_their_grant_wait_for_it() {
    let (mut bench, backend) = bench_with_backend();
    let stream = bench.open(FlowKind::Udp);
    for number in 0..3 {
        bench.send_packet(stream, &[number]);
    }
    bench.pass(Duration::from_millis(900));

    bench.grant();

    assert_eq!(received(&backend), [[0], [1], [2]]);
}

#[test]
fn datagrams_before_their_header_wait_for_it() {
    let (mut bench, backend) = bench_with_backend();
    bench.grant();
    bench.send_packet(4, b"1");
    bench.pass(Duration::from_millis(900));

    assert_eq!(bench.open(FlowKind::Udp), 4);

    assert_eq!(received(&backend), [b"1"]);
}

#[test]
fn datagrams_wait_for_a_second_and_not_longer() {
    let (mut bench, backend) = bench_with_backend();
    bench.grant();
    bench.send_packet(4, b"1");
    bench.pass(Duration::from_secs(1));

    let stream = bench.open(FlowKind::Udp);
    bench.send_packet(stream, b"2");

    assert_eq!(received(&backend), [b"2"]);
}

#[test]
fn of_one_tunnel_64_datagrams_wait_and_the_next_is_dropped() {
    let (mut bench, backend) = bench_with_backend();
    bench.grant();
    for number in 0..64 {
        // Of many flows: the bound is the tunnel's.
        bench.send_packet(4 + 4 * u64::from(number % 8), &[number]);
    }
    assert_eq!(bench.counter("datagrams_dropped_early"), 0);

    bench.send_packet(4, b"x");

    assert_eq!(bench.counter("datagrams_dropped_early"), 1);
    bench.open(FlowKind::Udp);
    let first: Vec<[u8; 1]> = (0..64).step_by(8).map(|number| [number]).collect();
    assert_eq!(received(&backend), first);
    // Those eight left their places.
    for _ in 0..8 {
        bench.send_packet(40, b"y");
    }
    assert_eq!(bench.counter("datagrams_dropped_early"), 1);
    bench.send_packet(40, b"z");
    assert_eq!(bench.counter("datagrams_dropped_early"), 2);
}

#[test]
fn of_one_tunnel_65536_octets_wait_and_not_one_more() {
    let mut bench = Bench::new();
    let now = bench.now;
    let early = &mut bench.tunnel().early;
    for _ in 0..7 {
        assert!(early.hold(4, vec![0; 9_216], now));
    }
    assert!(!early.hold(8, vec![0; 1_025], now));
    assert!(early.hold(8, vec![0; 1_024], now));
    assert!(!early.hold(4, vec![0; 1], now));

    assert_eq!(early.take(4, now).len(), 7);

    assert!(!early.hold(4, vec![0; 64_513], now));
    assert!(early.hold(4, vec![0; 64_512], now));
}

fn bench_with_backend() -> (Bench, UdpSocket) {
    let mut bench = Bench::new();
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    backend.set_nonblocking(true).unwrap();
    bench.serve(Protocol::Udp, vec![backend.local_addr().unwrap()]);
    (bench, backend)
}

/// Returns what lies in a backend's buffer: loopback delivers before it returns to the sender.
fn received(backend: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2_000];
    let mut datagrams = Vec::new();
    while let Ok(length) = backend.recv(&mut buffer) {
        datagrams.push(buffer[..length].to_vec());
    }
    datagrams
}

//! What a live tunnel may do: its standing, its control frames, its figures.

use std::net::UdpSocket;
use std::time::Duration;

use super::backends::Silent;
use super::bench::Bench;
use crate::command::{Protocol, Revocation};
use crate::connection::CONTROL_BACKLOG_BYTES_MAX;
use crate::event::{Event, FlowChange, FlowKind};
use crate::flow::answer::StreamError;
use crate::flow::reassembly::ReassemblyDrop;

const REVOKED: u64 = 5;
const LIMIT_EXCEEDED: u64 = 6;

#[test]
fn material_that_revokes_a_peer_ends_its_live_tunnel_and_its_flows() {
    let mut bench = Bench::new();
    let stream = bench.open(FlowKind::Tcp);

    let alice = bench.alice.revoked_key();
    bench.revoke(alice);

    let error = bench.peer.peer_error().unwrap();
    assert_eq!((error.is_app, error.error_code), (true, REVOKED));
    assert!(bench.flow(stream).is_none());
    let told = bench
        .plane
        .events
        .iter()
        .any(|event| matches!(event, Event::Closed { code: REVOKED, application: true, .. }));
    assert!(told);
}

#[test]
fn the_flows_of_a_tunnel_that_ends_are_told_of_before_its_end_all_or_none() {
    let mut bench = Bench::new();
    let _backend = serve_udp(&mut bench);
    bench.plane.config.limits.events_max = 1;
    bench.open(FlowKind::Udp);
    bench.open(FlowKind::Udp);
    let alice = bench.alice.revoked_key();
    bench.revoke(alice);

    let told = publish(&mut bench, 0);

    let mut ends = told.iter().filter_map(|event| match event {
        Event::Flow(report) => Some(Some((report.change, report.count))),
        Event::Closed { .. } => Some(None),
        _ => None,
    });
    let closed = FlowChange::Closed(Some(StreamError::Internal.code()));
    assert_eq!(ends.next(), Some(Some((FlowChange::Opened, 2))));
    assert_eq!(ends.next(), Some(Some((closed, 2))));
    assert_eq!(ends.next(), Some(None));
    assert_eq!(ends.next(), None);
}

#[test]
fn reports_wait_50_ms_for_others_and_not_longer() {
    let mut bench = Bench::new();
    let _backend = serve_udp(&mut bench);
    bench.open(FlowKind::Udp);

    assert!(publish(&mut bench, 0).is_empty());
    bench.plane.timers.clear();
    bench.plane.next_judgement = bench.now + Duration::from_secs(60);
    assert_eq!(bench.plane.until_next_timer(bench.now), Some(Duration::from_millis(50)));
    assert!(publish(&mut bench, 49).is_empty());
    assert_eq!(publish(&mut bench, 50).len(), 1);
    assert!(publish(&mut bench, 100).is_empty());
}

#[test]
fn reports_for_which_there_is_no_room_are_summed_up_further() {
    let mut bench = Bench::new();
    let _backend = serve_udp(&mut bench);
    bench.plane.config.limits.events_max = 1;
    bench.plane.warn("a test", String::new());
    bench.plane.publish(bench.now);
    bench.open(FlowKind::Udp);
    bench.plane.publish(bench.now);
    bench.plane.publish(bench.now + Duration::from_millis(50));
    bench.open(FlowKind::Udp);
    let waiting = bench.plane.shared.drain();
    assert!(matches!(&waiting[..], [Event::Warning { .. }]), "{waiting:?}");

    assert!(publish(&mut bench, 99).is_empty());
    let told = publish(&mut bench, 100);

    assert!(matches!(&told[..], [Event::Flow(report)] if report.count == 2), "{told:?}");
}

#[test]
fn a_tunnel_that_ended_takes_no_grant() {
    let mut bench = Bench::new();
    let alice = bench.alice.revoked_key();
    bench.revoke(alice);

    bench.grant();

    assert!(bench.tunnel().grants.is_empty());
}

#[test]
fn a_live_tunnel_is_judged_by_issuer_and_serial_too() {
    let mut bench = Bench::new();

    let alice = bench.alice.revoked_certificate();
    bench.revoke(alice);

    assert_eq!(bench.peer.peer_error().unwrap().error_code, REVOKED);
}

#[test]
fn material_that_revokes_somebody_else_leaves_a_live_tunnel_alone() {
    let mut bench = Bench::new();

    bench.revoke(Revocation::Spki("ab".repeat(32)));

    assert!(bench.peer.peer_error().is_none());
    let stream = bench.open(FlowKind::Tcp);
    assert!(bench.flow(stream).is_some());
}

#[test]
fn of_control_frames_1048576_octets_wait_for_a_peer_and_not_one_more() {
    const FRAMES: usize = 16;
    let mut bench = Bench::new();
    let connection = &mut bench.plane.connections[bench.tunnel];
    let whole = vec![b'x'; CONTROL_BACKLOG_BYTES_MAX / FRAMES - 4];
    for _ in 1..FRAMES {
        assert!(connection.queue_control(&whole));
    }
    assert!(!connection.queue_control(&[b'x'; 1 << 16]));
    assert!(!connection.queue_control(&vec![b'x'; whole.len() + 1]));

    assert!(connection.queue_control(&whole));

    assert!(!connection.queue_control(b"x"));
}

#[test]
fn what_a_tunnel_counted_stays_in_the_figures_when_it_is_gone() {
    let mut bench = Bench::new();
    let piece = |offset: u8| [&[1, 1, 0, 7, 0, offset, 0, 9][..], b"abc"].concat();
    bench.send(&piece(0));
    bench.send(&piece(1));
    let overlap = ReassemblyDrop::Overlap.counter();
    assert_eq!(bench.counter(overlap), 1);

    let tunnel = bench.tunnel;
    bench.plane.finish(tunnel, bench.now);

    assert_eq!(bench.counter(overlap), 1);
    assert_eq!(bench.counter("connections_closed"), 1);
}

#[test]
fn the_figures_tell_what_hostile_octets_were() {
    let mut bench = Bench::new();
    bench.send(&[9]);
    bench.send(&[0]);
    bench.send_packet(0, b"x");
    for header in [&[9][..], &[1, 0, 0], &[1, 0, 80, 0]] {
        bench.write(header);
    }

    let names = [
        "datagrams_dropped_malformed",
        "datagrams_dropped_unknown_flow",
        "headers_invalid",
        "flows_refused_unknown",
    ];
    assert_eq!(names.map(|name| bench.counter(name)), [2, 1, 3, 0]);
    assert_eq!(bench.changes(), []);
    let snapshot = bench.snapshot();
    assert_eq!((snapshot.flows, snapshot.connections_total), (0, 1));
    for (at, (name, _)) in snapshot.counters.iter().enumerate() {
        let others = &snapshot.counters[at + 1..];
        assert!(others.iter().all(|(other, _)| other != name), "{name} is there twice");
    }
}

#[test]
fn a_tunnel_that_holds_too_much_that_nobody_can_read_is_closed_after_2_s() {
    let (mut bench, _backend) = hoarding();
    bench.now += Duration::from_millis(1_999);
    bench.plane.serve_timers(bench.now);
    bench.plane.drive_dirty(bench.now);
    bench.plane.transmit_dirty(bench.now);
    assert!(bench.plane.connections[bench.tunnel].closing.is_none());

    bench.now += Duration::from_millis(1);
    bench.plane.serve_timers(bench.now);
    bench.plane.drive_dirty(bench.now);

    let ending = bench.plane.connections[bench.tunnel].closing.as_ref().unwrap();
    assert_eq!(ending.code, LIMIT_EXCEEDED);
}

#[test]
fn a_tunnel_whose_gap_is_filled_in_time_goes_on() {
    let (mut bench, _backend) = hoarding();

    bench.run();
    bench.plane.config.limits.tunnel_buffer_bytes_max = usize::MAX;
    bench.pass(Duration::from_secs(3));

    assert!(bench.peer.peer_error().is_none());
    assert_eq!(bench.tunnel().hoards_since, None);
}

/// A tunnel that holds more than it may behind a packet that was lost.
fn hoarding() -> (Bench, Silent) {
    let mut bench = Bench::new();
    let backend = Silent::new();
    bench.serve(Protocol::Tcp, vec![backend.address]);
    bench.grant();
    let stream = bench.open(FlowKind::Tcp);
    let held = bench.plane.connections[bench.tunnel].meter.bytes();
    bench.plane.config.limits.tunnel_buffer_bytes_max = held + 4_096;
    bench.peer.stream_send(stream, &[7; 8_192], false).unwrap();
    bench.lose();
    bench.marked_flows();
    bench.plane.transmit_dirty(bench.now);
    assert!(bench.tunnel().hoards_since.is_some());
    (bench, backend)
}

#[test]
fn a_handshake_keeps_its_place_for_5_s_and_for_1_s_where_places_are_rare() {
    let mut bench = Bench::new();
    bench.plane.config.limits.handshakes_max = 10;
    bench.plane.handshakes = 5;
    assert_eq!(bench.plane.handshake_wait(), Duration::from_secs(5));

    bench.plane.handshakes = 6;

    assert_eq!(bench.plane.handshake_wait(), Duration::from_secs(1));
}

#[test]
fn a_tunnel_that_ends_without_a_path_is_gone_at_once() {
    let mut bench = Bench::new();
    bench.tunnel().routes.clear();

    bench.close();

    assert!(!bench.plane.connections.contains(bench.tunnel));
    assert!(bench.plane.handles.is_empty());
}

#[test]
fn a_flow_whose_backend_takes_nothing_is_not_looked_at_for_more_of_it() {
    let mut bench = Bench::new();
    let silent = Silent::new();
    bench.serve(Protocol::Tcp, vec![silent.address]);
    bench.grant();
    let stream = bench.open(FlowKind::Tcp);

    bench.peer.stream_send(stream, b"early", false).unwrap();
    assert_eq!(bench.marked_flows(), 0);

    let code = StreamError::PeerReset.code();
    bench.peer.stream_shutdown(stream, quiche::Shutdown::Write, code).unwrap();
    assert_eq!(bench.marked_flows(), 1);
}

/// Grants a service with a backend that takes everything, and forgets what was told so far.
fn serve_udp(bench: &mut Bench) -> UdpSocket {
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    bench.serve(Protocol::Udp, vec![backend.local_addr().unwrap()]);
    bench.grant();
    bench.plane.publish(bench.now);
    bench.plane.shared.drain();
    backend
}

/// Returns what the owner is told `after_ms` from now.
fn publish(bench: &mut Bench, after_ms: u64) -> Vec<Event> {
    bench.plane.publish(bench.now + Duration::from_millis(after_ms));
    bench.plane.shared.drain()
}

//! Streams of flows that are over are forgotten, whoever hears of the end last.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use super::bench::{Bench, PORT, SERVICE, header};
use crate::command::{AgentService, Command, Protocol, ServicePort};
use crate::endpoint::flows::Stage;
use crate::event::{FlowChange, FlowKind};
use crate::flow::answer::{FlowAnswer, StreamError};

const CONNECTED: u8 = FlowAnswer::Connected.octet();
/// Within this all streams are looked at.
const SWEEP: Duration = Duration::from_millis(300);

#[test]
fn a_stream_that_was_refused_is_forgotten_when_its_agent_ends_it_late() {
    let mut bench = Bench::new();
    bench.grant();
    let stream = 4;
    bench.peer.stream_send(stream, &header(FlowKind::Tcp), false).unwrap();
    bench.step();
    assert!(bench.knows(stream));

    bench.lose_and_go_on();

    assert_eq!(bench.answer(stream), Some(Ok(FlowAnswer::NotAvailable.octet())));
    assert!(!bench.knows(stream));
}

#[test]
fn a_stream_that_was_reset_here_is_forgotten_when_its_agent_ends_it_late() {
    let (mut bench, _backend, stream) = connected();
    fail(&mut bench, stream, StreamError::LimitExceeded);
    bench.step();
    assert!(bench.knows(stream));

    bench.lose_and_go_on();

    assert_eq!(bench.answer(stream), Some(Err(StreamError::LimitExceeded.code())));
    assert!(!bench.knows(stream));
}

#[test]
fn a_stream_that_was_finished_here_is_forgotten_and_what_it_carried_is_still_read() {
    let (mut bench, mut backend, stream) = connected();
    backend.write_all(b"whole").unwrap();
    backend.shutdown(Shutdown::Write).unwrap();
    while !bench.flow(stream).unwrap().up.finished {
        bench.wait_backend();
    }
    fail(&mut bench, stream, StreamError::PeerReset);
    bench.step();
    assert!(bench.knows(stream));

    bench.lose_and_go_on();

    assert!(!bench.knows(stream));
    assert_eq!(bench.peer.stream_recv(stream, &mut [0; 16]), Ok((5, true)));
}

#[test]
fn a_stream_whose_end_was_not_read_yet_is_refused_once() {
    let mut bench = Bench::new();
    let stream = bench.open(FlowKind::Tcp);
    assert_eq!(bench.flow(stream).unwrap().stage, Stage::Held);
    bench.peer.stream_send(stream, b"", true).unwrap();
    bench.run();

    bench.pass(Duration::from_millis(1_500));

    assert_eq!(bench.answer(stream), Some(Ok(FlowAnswer::NotAvailable.octet())));
    assert_eq!(bench.counter("headers_invalid"), 0);
    assert!(!bench.knows(stream));
}

#[test]
fn a_stream_that_the_agent_stops_behind_its_end_is_forgotten() {
    let (mut bench, backend, stream) = connected();
    bench.peer.stream_send(stream, b"", true).unwrap();
    bench.run();
    backend.shutdown(Shutdown::Write).unwrap();
    bench.hear_backend();
    bench.lose_own();
    assert!(bench.flow(stream).is_none());

    stop(&mut bench, stream);
    bench.pass(SWEEP);

    assert!(!bench.knows(stream));
    assert!(bench.plane.flow_timeout().is_none());
}

#[test]
fn a_flow_that_the_agent_stops_ends_though_its_backend_says_nothing() {
    let (mut bench, _backend, stream) = connected();
    bench.pass(SWEEP);
    assert!(bench.plane.flow_timeout().is_none());

    stop(&mut bench, stream);
    bench.pass(SWEEP);

    assert!(bench.flow(stream).is_none());
    assert_eq!(bench.changes(), [FlowChange::Closed(Some(StreamError::PeerReset.code()))]);
    assert!(!bench.knows(stream));
}

#[test]
fn a_stream_that_both_ends_stop_is_forgotten_at_once() {
    let (mut bench, _backend, stream) = connected();
    fail(&mut bench, stream, StreamError::PeerReset);

    stop(&mut bench, stream);

    assert!(!bench.knows(stream));
}

#[test]
fn a_flow_that_the_agent_finished_and_stops_ends_with_the_code_of_that() {
    let (mut bench, _backend, stream) = connected();
    bench.peer.stream_send(stream, b"", true).unwrap();
    bench.run();

    stop(&mut bench, stream);
    bench.pass(SWEEP);

    assert_eq!(bench.changes(), [FlowChange::Closed(Some(StreamError::PeerReset.code()))]);
}

#[test]
fn ends_that_finish_at_once_both_hear_of_it() {
    let (mut bench, backend, stream) = connected();
    backend.shutdown(Shutdown::Write).unwrap();
    bench.peer.stream_send(stream, b"", true).unwrap();
    bench.hear_backend();

    bench.run();

    assert_eq!(bench.peer.stream_recv(stream, &mut [0; 16]), Ok((0, true)));
    assert!(bench.flow(stream).is_none());
    assert!(!bench.knows(stream));
}

#[test]
fn streams_that_do_not_end_hide_no_others_for_long() {
    let mut bench = Bench::new();
    bench.grant();
    let streams: Vec<u64> = (1..=100).map(|count| count * 4).collect();
    let last = 400;
    for stream in streams {
        bench.peer.stream_send(stream, &header(FlowKind::Tcp), false).unwrap();
    }
    bench.marked_flows();
    bench.peer.stream_shutdown(last, quiche::Shutdown::Write, 0).unwrap();
    bench.marked_flows();
    assert!(bench.tunnel().ending.is_ending(last));

    bench.plane.serve_timers(bench.now + SWEEP);

    assert!(!bench.tunnel().ending.is_ending(last));
    assert!(bench.tunnel().ending.is_ending(4));
}

#[test]
fn what_an_agent_sends_behind_the_end_opens_no_flow() {
    let (mut bench, _backend, stream) = connected();
    fail(&mut bench, stream, StreamError::PeerReset);

    bench.peer.stream_send(stream, b"under way", false).unwrap();
    bench.send_packet(stream, b"under way");

    assert_eq!(bench.changes(), [FlowChange::Closed(Some(StreamError::PeerReset.code()))]);
    assert_eq!(bench.counter("headers_invalid"), 0);
    assert_eq!(bench.counter("datagrams_dropped_unknown_flow"), 1);
    assert!(bench.plane.flows.slab.is_empty());
}

#[test]
fn a_reset_is_heard_while_the_backend_takes_nothing() {
    let (mut bench, _backend, stream) = connected();
    fill(&mut bench, stream);
    let code = StreamError::PeerReset.code();

    bench.peer.stream_shutdown(stream, quiche::Shutdown::Write, code).unwrap();
    bench.run();

    assert!(bench.flow(stream).is_none());
    assert_eq!(bench.changes(), [FlowChange::Closed(Some(code))]);
}

#[test]
fn a_fin_is_passed_on_when_a_backend_that_took_nothing_reads_again() {
    let (mut bench, mut backend, stream) = connected();
    let sent = fill(&mut bench, stream);
    bench.peer.stream_send(stream, b"", true).unwrap();
    bench.run();

    let reading = std::thread::spawn(move || {
        let mut read = Vec::new();
        backend.read_to_end(&mut read).unwrap();
        read.len()
    });
    while !bench.flow(stream).unwrap().down.finished {
        bench.wait_backend();
    }

    assert_eq!(reading.join().unwrap(), sent);
}

#[test]
fn an_agent_forgets_the_stream_of_a_ping_that_is_over() {
    let (mut bench, stream) = pinging();
    bench.run();
    assert_eq!(
        bench.peer.stream_recv(stream, &mut [0; 64]),
        Ok((header(FlowKind::Echo).len(), false))
    );
    bench.peer.stream_send(stream, &[CONNECTED], false).unwrap();
    bench.run();
    // Nobody answers the ping itself.
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.peer.stream_recv(stream, &mut [0; 64]), Ok((0, true)));

    bench.peer.stream_send(stream, b"", true).unwrap();
    bench.run();

    assert!(!bench.knows(stream));
}

#[test]
fn flows_whose_connector_does_not_end_them_count() {
    let (mut bench, stream) = pinging();
    fail(&mut bench, stream, StreamError::PeerReset);
    bench.plane.config.limits.flows_per_tunnel_max = 1;

    ping(&mut bench);

    assert_eq!(bench.counter("flows_refused_limit"), 1);
}

#[test]
fn a_connector_hears_of_a_flow_that_ended_before_its_header_was_sent() {
    let (mut bench, stream) = pinging();
    fail(&mut bench, stream, StreamError::PeerReset);

    bench.run();

    assert_eq!(bench.answer(stream), Some(Err(StreamError::PeerReset.code())));
}

/// An agent that pings a service, and the stream of that.
fn pinging() -> (Bench, u64) {
    let mut bench = Bench::agent();
    let ports = vec![ServicePort { protocol: Protocol::Tcp, port: PORT }];
    let ipv4 = Some(Ipv4Addr::new(10, 100, 0, 1));
    let service = AgentService { name: SERVICE.to_owned(), ipv4, ipv6: None, ports };
    let services = Command::SetServices { services: vec![service], listeners: Vec::new() };
    bench.plane.apply(services, bench.now);
    bench.grant();
    ping(&mut bench);
    let stream = *bench.tunnel().flows.first_key_value().unwrap().0;
    (bench, stream)
}

fn ping(bench: &mut Bench) {
    let (service, interval) = (SERVICE.to_owned(), Duration::from_millis(100));
    let ping = Command::Ping { request: 1, service, count: 1, interval, size: 64 };
    bench.plane.apply(ping, bench.now);
    bench.plane.serve_timers(bench.now);
}

/// A flow to a backend, and the backend's end of it.
fn connected() -> (Bench, TcpStream, u64) {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    bench.serve(Protocol::Tcp, vec![listener.local_addr().unwrap()]);
    bench.grant();
    let stream = bench.open(FlowKind::Tcp);
    let (backend, _) = listener.accept().unwrap();
    while bench.answer(stream) != Some(Ok(CONNECTED)) {
        bench.wait_backend();
    }
    bench.changes();
    (bench, backend, stream)
}

/// Sends until the backend's socket takes nothing more; returns the octets.
fn fill(bench: &mut Bench, stream: u64) -> usize {
    let octets = vec![7; 65_536];
    let mut sent = 0;
    while !bench.flow(stream).unwrap().down.local_blocked {
        sent += bench.peer.stream_send(stream, &octets, false).unwrap();
        bench.run();
    }
    sent
}

fn fail(bench: &mut Bench, stream: u64, error: StreamError) {
    let key = bench.tunnel().flows[&stream];
    bench.plane.fail_flow(key, error, bench.now);
}

fn stop(bench: &mut Bench, stream: u64) {
    let code = StreamError::PeerReset.code();
    bench.peer.stream_shutdown(stream, quiche::Shutdown::Read, code).unwrap();
    bench.run();
}

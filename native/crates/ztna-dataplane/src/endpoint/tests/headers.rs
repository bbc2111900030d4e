//! Flow headers: complete in time, held while their service is judged.

use std::time::Duration;

use super::bench::{Bench, PORT};
use crate::command::Protocol;
use crate::event::{FlowChange, FlowKind};
use crate::flow::answer::{FlowAnswer, StreamError};
use crate::flow::header::FlowHeader;

const NOT_AVAILABLE: u8 = FlowAnswer::NotAvailable.octet();

#[test]
fn a_header_that_is_not_complete_within_5_s_ends_its_flow() {
    let mut bench = Bench::new();
    let stream = bench.write(&[1, 0]);
    bench.pass(Duration::from_millis(4_900));
    assert_eq!((bench.answer(stream), bench.counter("headers_invalid")), (None, 0));

    bench.pass(Duration::from_millis(400));

    assert_eq!(bench.answer(stream), Some(Err(StreamError::Internal.code())));
    assert_eq!(bench.counter("headers_invalid"), 1);
    assert!(bench.flow(stream).is_none());
}

#[test]
fn a_header_that_trickles_in_is_answered_when_it_is_complete() {
    let mut bench = Bench::new();
    bench.grant();
    let stream = bench.write(&[3]);

    for octet in *b"\x00\x00\x05notes" {
        bench.pass(Duration::from_millis(500));
        bench.peer.stream_send(stream, &[octet], false).unwrap();
        bench.run();
    }

    // No such service: the answer is given only once that is certain.
    assert_eq!(bench.answer(stream), Some(Ok(NOT_AVAILABLE)));
    assert_eq!(bench.counter("headers_invalid"), 0);
}

#[test]
fn a_header_without_a_grant_is_held_for_a_second_and_not_longer() {
    let mut bench = Bench::new();
    let stream = bench.open(FlowKind::Tcp);
    bench.pass(Duration::from_millis(950));
    assert_eq!(bench.answer(stream), None);

    bench.pass(Duration::from_millis(350));

    assert_eq!(bench.answer(stream), Some(Ok(NOT_AVAILABLE)));
    assert!(bench.tunnel().held.is_empty());
}

#[test]
fn the_256_headers_that_are_held_are_answered_in_turn_and_make_room_for_256_others() {
    let mut bench = Bench::new();
    bench.serve(Protocol::Tcp, Vec::new());
    let held: Vec<u64> = (0..256).map(|_| bench.open(FlowKind::Tcp)).collect();
    assert_eq!(bench.changes(), []);
    let one_more = bench.open(FlowKind::Tcp);
    assert_eq!(bench.answer(one_more), Some(Ok(NOT_AVAILABLE)));
    assert_eq!(bench.changes(), [FlowChange::Refused(NOT_AVAILABLE)]);

    bench.pass(Duration::from_millis(1_300));

    for stream in held {
        assert_eq!(bench.answer(stream), Some(Ok(NOT_AVAILABLE)));
    }
    assert_eq!(bench.changes().len(), 256);
    for _ in 0..256 {
        bench.open(FlowKind::Tcp);
    }
    assert_eq!(bench.changes(), []);
    assert_eq!(bench.tunnel().held.len(), 256);
}

#[test]
fn services_that_an_agent_invents_leave_nothing_behind() {
    let mut bench = Bench::new();
    for index in 0..300 {
        let mut header = Vec::new();
        let name = format!("invented-{index}");
        FlowHeader::new(FlowKind::Tcp, PORT, &name).unwrap().write(&mut header);
        bench.write(&header);
    }
    assert_eq!(bench.snapshot().services.len(), 0);

    bench.pass(Duration::from_millis(1_300));

    assert_eq!(bench.counter("flows_refused_unknown"), 300);
    assert_eq!(bench.changes(), []);
    assert_eq!(bench.snapshot().services.len(), 0);
}

#[test]
fn a_tunnel_that_ends_holds_no_headers() {
    let mut bench = Bench::new();
    bench.open(FlowKind::Tcp);
    bench.open(FlowKind::Udp);

    let alice = bench.alice.revoked_key();
    bench.revoke(alice);

    assert!(bench.tunnel().held.is_empty() && bench.plane.flows.slab.is_empty());
}

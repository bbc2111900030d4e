//! A backend with several addresses: each has its turn, all together have 10 s.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::bench::Bench;
use crate::command::Protocol;
use crate::endpoint::flows::Stage;
use crate::event::{FlowChange, FlowKind};
use crate::flow::answer::FlowAnswer;

const CONNECTED: u8 = FlowAnswer::Connected.octet();

#[test]
fn an_address_that_refuses_gives_way_to_the_next_at_once() {
    let good = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (mut bench, stream) = dial(vec![refusing, good.local_addr().unwrap()]);

    while bench.flow(stream).unwrap().stage == Stage::Connecting {
        bench.wait_backend();
    }

    assert_eq!(bench.answer(stream), Some(Ok(CONNECTED)));
    good.accept().unwrap();
}

#[test]
fn an_address_that_is_silent_gives_way_to_the_next_after_5_s() {
    let good = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Silent::new();
    let (mut bench, stream) = dial(vec![silent.address, good.local_addr().unwrap()]);
    bench.pass(Duration::from_millis(4_900));
    assert_eq!(bench.answer(stream), None);

    bench.pass(Duration::from_millis(400));

    good.accept().unwrap();
    while bench.flow(stream).unwrap().stage == Stage::Connecting {
        bench.wait_backend();
    }
    assert_eq!(bench.answer(stream), Some(Ok(CONNECTED)));
}

#[test]
fn addresses_that_are_all_silent_have_10_s_together() {
    let silent = [Silent::new(), Silent::new(), Silent::new()];
    let addresses = silent.iter().map(|it| it.address).collect();
    let (mut bench, stream) = dial(addresses);
    bench.pass(Duration::from_millis(9_900));
    assert_eq!(bench.answer(stream), None);

    bench.pass(Duration::from_millis(500));

    let timed_out = FlowAnswer::TimedOut.octet();
    assert_eq!(bench.answer(stream), Some(Ok(timed_out)));
    assert_eq!(bench.changes(), [FlowChange::Refused(timed_out)]);
}

fn dial(addresses: Vec<SocketAddr>) -> (Bench, u64) {
    let mut bench = Bench::new();
    bench.serve(Protocol::Tcp, addresses);
    bench.grant();
    bench.changes();
    let stream = bench.open(FlowKind::Tcp);
    (bench, stream)
}

/// An address where connections are neither taken nor refused: its queue is full.
pub(super) struct Silent {
    pub(super) address: SocketAddr,
    _sockets: Vec<Socket>,
}

impl Silent {
    pub(super) fn new() -> Self {
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let listener = new();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut sockets = vec![listener];
        for _ in 0..4 {
            let waiting = new();
            waiting.set_nonblocking(true).unwrap();
            // In progress, all of them: one is in the queue, the others wait for room.
            let _ = waiting.connect(&address);
            sockets.push(waiting);
        }
        let address = address.as_socket().unwrap();
        Self { address, _sockets: sockets }
    }
}

use super::*;
use crate::test_support::epoch;
use mio::{Events, Poll};
use std::net::{TcpListener, TcpStream as StdStream};

const TOKEN: Token = Token(7);

#[test]
fn octets_flow_both_ways_and_each_fin_on_its_own() {
    let mut poll = Poll::new().unwrap();
    let (mut end, mut backend) = connected(&mut poll);

    assert_eq!(end.write(b"request"), TcpWrite::Accepted(7));
    end.shutdown_write();
    let mut request = Vec::new();
    backend.read_to_end(&mut request).unwrap();
    assert_eq!(request, b"request");

    backend.write_all(b"answer after the half-close").unwrap();
    drop(backend);
    assert_eq!(read_to_end(&mut poll, &mut end), Ok(b"answer after the half-close".to_vec()));
}

#[test]
fn a_backend_that_resets_is_told_from_one_that_ends() {
    let mut poll = Poll::new().unwrap();
    let (mut end, backend) = connected(&mut poll);

    SockRef::from(&backend).set_linger(Some(Duration::ZERO)).unwrap();
    drop(backend);

    assert_eq!(read_to_end(&mut poll, &mut end), Err(StreamError::PeerReset));
    assert_eq!(end.write(b"x"), TcpWrite::Failed(StreamError::PeerReset));
}

#[test]
fn a_reset_reaches_the_backend_as_a_reset() {
    let mut poll = Poll::new().unwrap();
    let (end, mut backend) = connected(&mut poll);

    end.reset();

    let error = backend.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_dropped_end_reaches_the_backend_as_a_fin() {
    let mut poll = Poll::new().unwrap();
    let (end, mut backend) = connected(&mut poll);

    drop(end);

    assert_eq!(backend.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_backend_that_does_not_read_blocks_the_writer_and_nothing_else() {
    let mut poll = Poll::new().unwrap();
    let (mut end, _backend) = connected(&mut poll);
    let block = vec![0; 1 << 20];

    let mut written = 0;
    while let TcpWrite::Accepted(length) = end.write(&block) {
        written += length;
        assert!(written < 1 << 30, "the socket's buffers have an end");
    }

    assert_eq!(end.write(&block), TcpWrite::WouldBlock);
    assert_eq!(end.read(&mut [0; 8]), TcpRead::WouldBlock);
}

#[test]
fn a_closed_port_is_refused() {
    let mut poll = Poll::new().unwrap();

    let outcome = connect(&mut poll, &[closed_port()]).map(|_| ());

    assert_eq!(outcome, Err(FlowAnswer::Refused));
}

#[test]
fn a_backend_without_addresses_is_unreachable() {
    let poll = Poll::new().unwrap();

    let (end, progress) = TcpEnd::connect(&[], poll.registry(), TOKEN, epoch());

    assert_eq!(progress, ConnectProgress::Failed(FlowAnswer::Unreachable));
    assert!(end.stream.is_none());
}

#[test]
fn the_next_address_is_tried_when_one_refuses() {
    let mut poll = Poll::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = listener.local_addr().unwrap();

    let end = connect(&mut poll, &[closed_port(), closed_port(), good]).unwrap();

    assert_eq!(end.peer_address(), Some(good));
}

#[test]
fn an_address_that_cannot_be_dialled_at_all_is_passed_over() {
    let mut poll = Poll::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = listener.local_addr().unwrap();
    let broadcast = "255.255.255.255:9".parse().unwrap();

    assert!(connect(&mut poll, &[broadcast, good]).is_ok());

    let outcome = connect(&mut poll, &[broadcast]).map(|_| ());
    assert_eq!(outcome, Err(FlowAnswer::Unreachable));
}

#[test]
fn an_address_has_five_seconds_and_all_together_ten() {
    let poll = Poll::new().unwrap();
    // Nobody looks at the sockets, so each attempt stays pending whatever the network says.
    let somewhere = closed_port();
    let start = epoch();
    let (mut end, progress) = TcpEnd::connect(&[somewhere; 4], poll.registry(), TOKEN, start);
    assert_eq!(progress, ConnectProgress::Pending);
    assert_eq!(end.poll_timeout(), Some(start + ATTEMPT_TIMEOUT));
    let mut timeout = |at| end.handle_timeout(poll.registry(), at);

    assert_eq!(timeout(start + Duration::from_millis(4_999)), ConnectProgress::Pending);
    assert_eq!(timeout(start + Duration::from_millis(6_000)), ConnectProgress::Pending);
    assert_eq!(end.poll_timeout(), Some(start + CONNECT_TIMEOUT), "not 5 s more");
    assert_eq!(
        end.handle_timeout(poll.registry(), start + CONNECT_TIMEOUT),
        ConnectProgress::Failed(FlowAnswer::TimedOut)
    );
}

#[test]
fn nothing_flows_before_the_connection_is_made() {
    let poll = Poll::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [listener.local_addr().unwrap()];

    let (mut end, _) = TcpEnd::connect(&addresses, poll.registry(), TOKEN, epoch());

    assert_eq!(end.write(b"early"), TcpWrite::WouldBlock);
    assert_eq!(end.read(&mut [0; 8]), TcpRead::WouldBlock);
}

#[test]
fn small_writes_leave_at_once_and_dead_peers_are_probed() {
    let mut poll = Poll::new().unwrap();
    let (end, _backend) = connected(&mut poll);

    let stream = end.stream.as_ref().unwrap();
    assert!(stream.nodelay().unwrap());
    assert!(SockRef::from(stream).keepalive().unwrap());
}

#[test]
fn the_end_that_was_told_with_the_last_octets_is_read_behind_them() {
    let mut poll = Poll::new().unwrap();
    let (mut end, mut backend) = connected(&mut poll);
    backend.write_all(b"last").unwrap();
    drop(backend);
    while !end.reads_on {
        wait(&mut poll, &mut end);
    }

    let mut buffer = [0; 16];
    assert_eq!(end.read(&mut buffer), TcpRead::Data(4));
    assert_eq!(end.read(&mut buffer), TcpRead::End);
}

/// TCP's urgent mark ends a read before it, whatever lies behind (tcp(7)).
#[test]
fn what_lies_behind_urgent_data_is_read_without_another_event() {
    let mut poll = Poll::new().unwrap();
    let (mut end, mut backend) = connected(&mut poll);
    backend.write_all(b"before").unwrap();
    let urgent = SockRef::from(&backend).send_out_of_band(b"!");
    assert_eq!(urgent.unwrap(), 1);
    backend.write_all(b"behind").unwrap();
    // All of it has come before the first event is looked at.
    std::thread::sleep(Duration::from_millis(50));
    wait(&mut poll, &mut end);

    let mut octets = Vec::new();
    let mut buffer = [0; 64];
    while let TcpRead::Data(length) = end.read(&mut buffer) {
        octets.extend_from_slice(&buffer[..length]);
    }

    assert_eq!(octets, b"beforebehind");
}

#[test]
fn a_read_that_leaves_room_is_the_last_until_the_next_event() {
    let mut poll = Poll::new().unwrap();
    let (mut end, mut backend) = connected(&mut poll);
    let mut buffer = [0; 4];
    for octets in [&b"full"[..], b"few"] {
        assert_eq!(end.read(&mut buffer), TcpRead::WouldBlock);
        backend.write_all(octets).unwrap();
        wait(&mut poll, &mut end);
        assert_eq!(end.read(&mut buffer), TcpRead::Data(octets.len()));
    }

    assert!(!end.readable);
    backend.write_all(b"more").unwrap();
    wait(&mut poll, &mut end);
    assert_eq!(end.read(&mut buffer), TcpRead::Data(4));
}

#[test]
fn an_accepted_connection_is_an_end_like_any_other() {
    let mut poll = Poll::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = StdStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    let mut end =
        TcpEnd::from_accepted(TcpStream::from_std(accepted), poll.registry(), TOKEN).unwrap();
    assert!(end.connect.is_none() && end.stream.as_ref().unwrap().nodelay().unwrap());

    client.write_all(b"hello").unwrap();
    drop(client);

    assert_eq!(read_to_end(&mut poll, &mut end), Ok(b"hello".to_vec()));
}

fn connected(poll: &mut Poll) -> (TcpEnd, StdStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let end = connect(poll, &[listener.local_addr().unwrap()]).unwrap();
    (end, listener.accept().unwrap().0)
}

fn connect(poll: &mut Poll, addresses: &[SocketAddr]) -> Result<TcpEnd, FlowAnswer> {
    let now = epoch();
    let (mut end, mut progress) = TcpEnd::connect(addresses, poll.registry(), TOKEN, now);
    loop {
        match progress {
            ConnectProgress::Connected => return Ok(end),
            ConnectProgress::Failed(answer) => return Err(answer),
            ConnectProgress::Pending => {}
        }
        wait(poll, &mut end);
        progress = end.handle_ready(poll.registry(), now);
    }
}

fn read_to_end(poll: &mut Poll, end: &mut TcpEnd) -> Result<Vec<u8>, StreamError> {
    let mut octets = Vec::new();
    let mut buffer = [0; 16];
    loop {
        match end.read(&mut buffer) {
            TcpRead::Data(length) => octets.extend_from_slice(&buffer[..length]),
            TcpRead::WouldBlock => wait(poll, end),
            TcpRead::End => return Ok(octets),
            TcpRead::Failed(error) => return Err(error),
        }
    }
}

fn wait(poll: &mut Poll, end: &mut TcpEnd) {
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
    let mut of_end = events.iter().filter(|event| event.token() == TOKEN).peekable();
    assert!(of_end.peek().is_some(), "an event comes within 10 s");
    for event in of_end {
        end.note_ready(event);
    }
}

/// A port that was free a moment ago.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

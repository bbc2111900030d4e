use super::*;
use mio::{Events, Poll};
use std::io::{Read, Write};
use std::net::{TcpStream as StdStream, UdpSocket};
use std::time::Duration;

const TOKEN: Token = Token(5);

#[test]
fn connections_are_accepted_one_a_call_until_none_waits() {
    let (mut poll, mut listener) = listen();
    let clients: Vec<_> =
        (0..3).map(|_| StdStream::connect(listener.local_address()).unwrap()).collect();
    wait(&mut poll);

    for _ in &clients {
        assert!(matches!(listener.accept(), Accept::Connection(_)));
    }
    assert!(matches!(listener.accept(), Accept::WouldBlock));
    assert!(!listener.is_stalled());
}

#[test]
fn out_of_descriptors_a_waiting_connection_is_closed_and_the_next_one_served() {
    let (mut poll, mut listener) = listen();
    let mut refused = StdStream::connect(listener.local_address()).unwrap();
    refused.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    wait(&mut poll);

    // What `accept` does when the system says EMFILE, which one test cannot make the system say
    // without disturbing the others in its process.
    assert!(matches!(listener.refuse_one(), Accept::Refused));

    assert_eq!(refused.read(&mut [0; 1]).unwrap(), 0, "the client is told");
    assert!(listener.reserve.is_some(), "the reserve is there for the next one");
    assert!(matches!(listener.refuse_one(), Accept::WouldBlock));
    let mut client = StdStream::connect(listener.local_address()).unwrap();
    let Accept::Connection(_served) = listener.accept() else { panic!("a connection waits") };
    client.write_all(b"x").unwrap();
}

#[test]
fn without_a_reserve_the_listener_says_that_it_is_stalled() {
    let (mut poll, mut listener) = listen();
    let _client = StdStream::connect(listener.local_address()).unwrap();
    wait(&mut poll);
    listener.reserve = None;

    assert!(matches!(listener.refuse_one(), Accept::WouldBlock));
    assert!(listener.is_stalled());

    assert!(matches!(listener.accept(), Accept::Connection(_)));
    assert!(!listener.is_stalled());
}

#[test]
fn an_address_in_use_is_named() {
    let (poll, listener) = listen();
    let address = listener.local_address();

    let tcp = TcpListening::bind(address, poll.registry(), Token(6)).map(|_| ());
    assert_eq!(tcp, Err(EndpointError::AddressInUse(address)));

    let taken = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _first = UdpListening::bind(taken, poll.registry(), Token(6)).unwrap();
    let udp = UdpListening::bind(taken, poll.registry(), Token(7)).map(|_| ());
    assert_eq!(udp, Err(EndpointError::AddressInUse(taken)));
}

#[test]
fn an_address_that_is_not_ours_is_named() {
    let poll = Poll::new().unwrap();
    let address = "192.0.2.1:1".parse().unwrap();

    for code in [
        TcpListening::bind(address, poll.registry(), TOKEN).map(|_| ()).unwrap_err().code(),
        UdpListening::bind(address, poll.registry(), TOKEN).map(|_| ()).unwrap_err().code(),
    ] {
        assert_eq!(code, "ADDRESS_UNAVAILABLE");
    }
}

#[test]
fn both_families_can_have_the_same_port() {
    let poll = Poll::new().unwrap();
    let all = "0.0.0.0:0".parse().unwrap();
    let ipv4 = TcpListening::bind(all, poll.registry(), Token(1)).unwrap();
    let all = SocketAddr::new("::".parse().unwrap(), ipv4.local_address().port());

    assert!(TcpListening::bind(all, poll.registry(), Token(2)).is_ok());
}

#[test]
fn datagrams_come_with_their_source_and_go_back_to_it() {
    let mut poll = Poll::new().unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = UdpListening::bind(address, poll.registry(), TOKEN).unwrap();
    let clients = [application(&listener), application(&listener)];
    for (tag, client) in clients.iter().enumerate() {
        client.send(&[u8::try_from(tag).unwrap(); 3]).unwrap();
    }

    let received = receive(&mut poll, &listener, 2);

    for (tag, client) in clients.iter().enumerate() {
        let octets = vec![u8::try_from(tag).unwrap(); 3];
        let source = client.local_addr().unwrap();
        assert!(received.contains(&(source, octets.clone())));
        assert_eq!(listener.send_all(&[&octets, b""], source, None, &mut Vec::new()), 2);
        let mut buffer = [0; 8];
        assert_eq!(client.recv(&mut buffer).unwrap(), 3);
        assert_eq!(buffer[..3], octets);
        assert_eq!(client.recv(&mut buffer).unwrap(), 0);
    }
}

#[test]
fn a_listener_on_all_addresses_answers_from_the_one_that_was_reached() {
    let mut poll = Poll::new().unwrap();
    let all = "0.0.0.0:0".parse().unwrap();
    let listener = UdpListening::bind(all, poll.registry(), TOKEN).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // A connected socket takes answers from that address only.
    client.connect(("127.0.0.2", listener.local_address().port())).unwrap();
    client.send(b"ping").unwrap();
    wait(&mut poll);
    let mut batch = UdpBatch::new();
    assert!(listener.receive(&mut batch));
    let datagram = batch.datagrams().next().unwrap();
    assert_eq!(datagram.local, Some("127.0.0.2".parse().unwrap()));

    listener.send_all(&[b"pong"], datagram.source, datagram.local, &mut Vec::new());

    let mut buffer = [0; 8];
    assert_eq!(client.recv(&mut buffer).unwrap(), 4);
}

fn listen() -> (Poll, TcpListening) {
    let poll = Poll::new().unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = TcpListening::bind(address, poll.registry(), TOKEN).unwrap();
    (poll, listener)
}

fn application(listener: &UdpListening) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.connect(listener.local_address()).unwrap();
    socket
}

fn receive(poll: &mut Poll, listener: &UdpListening, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut batch = UdpBatch::new();
    let mut received = Vec::new();
    while received.len() < count {
        if listener.receive(&mut batch) {
            received.extend(batch.datagrams().map(|it| (it.source, it.octets.to_vec())));
        } else {
            wait(poll);
        }
    }
    received
}

fn wait(poll: &mut Poll) {
    let mut events = Events::with_capacity(8);
    poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
    assert!(!events.is_empty(), "an event comes within 10 s");
}

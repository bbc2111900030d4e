//! What becomes of a train that the kernel does not take.
//!
//! A UDP socket cannot be filled over loopback, however small its buffer: the device lets go of a
//! packet before the call that sent it returns. A TCP socket takes its place, which knows nothing of
//! destinations and segments but is full like any other.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket as StdUdpSocket};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::time::Duration;

use super::*;

#[test]
fn a_train_that_does_not_fit_is_kept_and_goes_before_any_other() {
    let (mut port, mut far, filled) = full_port();

    assert_eq!(send(&mut port, b"first"), SendOutcome::Blocked);
    assert!(port.is_blocked());
    assert_eq!(send(&mut port, b"second"), SendOutcome::Dropped);
    assert!(!port.resume(), "the socket is still full");
    assert!(port.is_blocked());
    far.read_exact(&mut vec![0; filled]).unwrap();
    assert!(port.resume());
    assert!(!port.is_blocked());
    assert_eq!(send(&mut port, b"third"), SendOutcome::Sent);

    let mut octets = [0; 10];
    far.read_exact(&mut octets).unwrap();
    assert_eq!(&octets, b"firstthird");
    assert_eq!((port.counters.send_blocked, port.counters.sent_packets), (3, 2));
}

#[test]
fn a_packet_that_was_built_behind_a_kept_train_goes_behind_it() {
    let (mut port, mut far, filled) = full_port();
    let nowhere = "127.0.0.1:9".parse().unwrap();
    assert_eq!(send(&mut port, b"train"), SendOutcome::Blocked);

    assert_eq!(port.send_behind(nowhere, None, b"behind"), SendOutcome::Blocked);
    assert_eq!(port.send_behind(nowhere, None, b"dropped"), SendOutcome::Dropped);

    assert!(!port.resume(), "the socket is still full");
    far.read_exact(&mut vec![0; filled]).unwrap();
    assert!(port.resume());
    assert_eq!(port.send_behind(nowhere, None, b"last"), SendOutcome::Sent);
    let mut octets = [0; 15];
    far.read_exact(&mut octets).unwrap();
    assert_eq!(&octets, b"trainbehindlast");
    assert_eq!(port.counters.sent_packets, 3);
}

#[test]
fn a_socket_that_keeps_nothing_has_nothing_to_resume() {
    let mut port = port();

    assert!(port.resume());

    assert_eq!(port.counters.send_blocked, 0);
}

#[test]
fn a_train_is_as_many_packets_as_it_has_segments() {
    let mut port = port();
    let far = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let destination = far.local_addr().unwrap();

    assert_eq!(port.send(destination, None, &[7; 2_500], 1_000, None), SendOutcome::Sent);

    let mut packet = [0; 3_000];
    let sizes = [(); 3].map(|()| far.recv(&mut packet).unwrap());
    assert_eq!(sizes, [1_000, 1_000, 500]);
    assert_eq!(port.counters.sent_packets, 3);
}

#[test]
fn a_refused_destination_is_counted_and_stops_no_other() {
    let mut port = port();
    let far = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    let broadcast = "255.255.255.255:9".parse().unwrap();
    let nowhere = "127.0.0.1:0".parse().unwrap();

    assert_eq!(port.send(broadcast, None, b"a", 1, None), SendOutcome::Sent);
    assert_eq!(port.send(nowhere, None, b"b", 1, None), SendOutcome::Sent);

    assert_eq!((port.counters.send_refused, port.counters.send_failed), (1, 1));
    assert!(!port.is_blocked());
    assert_eq!(port.send(far.local_addr().unwrap(), None, b"c", 1, None), SendOutcome::Sent);
    assert_eq!(port.counters.sent_packets, 1);
}

#[test]
fn each_kind_of_failure_has_its_counter_and_only_a_full_buffer_blocks() {
    let mut port = port();
    for (error, outcome) in [
        (libc::EAGAIN, SendOutcome::Blocked),
        (libc::EPERM, SendOutcome::Dropped),
        (libc::EACCES, SendOutcome::Dropped),
        (libc::ENOBUFS, SendOutcome::Dropped),
        (libc::ENOMEM, SendOutcome::Dropped),
        (libc::ENETUNREACH, SendOutcome::Dropped),
        (libc::EMSGSIZE, SendOutcome::Dropped),
        (libc::ECONNREFUSED, SendOutcome::Dropped),
    ] {
        assert_eq!(port.count_failure(&io::Error::from_raw_os_error(error)), outcome, "{error}");
    }

    let UdpCounters { send_blocked, send_refused, send_no_buffers, send_failed, .. } =
        port.counters;
    assert_eq!((send_blocked, send_refused, send_no_buffers, send_failed), (1, 2, 2, 3));
}

#[test]
fn a_packet_tells_where_it_came_to_at_a_socket_of_all_addresses_alone_and_never_when() {
    for (bound, near, to, told) in [
        ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.2", true),
        ("127.0.0.2:0", "127.0.0.1:0", "127.0.0.2", false),
        ("[::]:0", "[::1]:0", "::1", true),
        ("[::1]:0", "[::1]:0", "::1", false),
    ] {
        let mut port = UdpPort::bind(bound.parse().unwrap()).unwrap();
        let near = StdUdpSocket::bind(near).unwrap();
        near.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let to: IpAddr = to.parse().unwrap();
        near.send_to(b"request", (to, port.local.port())).unwrap();

        let mut buffers = RecvBuffers::new(usize::MAX);
        wait_for_packet(&port);
        assert_eq!(port.receive(&mut buffers), 1, "{bound}");
        let (_, meta) = buffers.train(0).unwrap();
        assert_eq!(meta.timestamp, None, "{bound}");
        assert_eq!(meta.dst_ip, told.then_some(to), "{bound}");
        assert_eq!(port.send(meta.addr, meta.dst_ip, b"answer", 6, None), SendOutcome::Sent);

        let (_, source) = near.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(source.ip(), to, "{bound}");
    }
}

#[test]
fn as_many_trains_fit_as_their_length_allows() {
    let fitting = |octets_a_call, lengths: &[usize]| {
        let mut buffers = RecvBuffers::new(octets_a_call);
        for (meta, length) in buffers.metas.iter_mut().zip(lengths) {
            meta.len = *length;
        }
        buffers.fitting(lengths.len())
    };

    assert_eq!(fitting(36_000, &[6_000; 10]), Some(6));
    assert_eq!(fitting(36_000, &[2_000, 4_000]), Some(12));
    assert_eq!(fitting(36_000, &[30_000]), Some(4), "not fewer than the least");
    assert_eq!(fitting(36_000, &[60; 32]), Some(32), "not more than the most");
    assert_eq!(fitting(usize::MAX, &[65_507; 32]), Some(32));
    assert_eq!(fitting(36_000, &[]), None);
    assert_eq!(fitting(36_000, &[0; 2]), None);
}

#[test]
fn a_small_batch_leaves_the_socket_readable_until_it_is_empty() {
    let mut port = port();
    let near = StdUdpSocket::bind("127.0.0.1:0").unwrap();
    let mut buffers = RecvBuffers::new(6_000);
    near.send_to(&[0; 6_000], port.local).unwrap();
    wait_for_packet(&port);
    assert_eq!(port.receive(&mut buffers), 1);
    assert!(!port.readable);

    for _ in 0..10 {
        near.send_to(&[0; 6_000], port.local).unwrap();
    }

    let mut rest = 10;
    while rest > 0 {
        wait_for_packet(&port);
        let count = port.receive(&mut buffers);
        assert!(count <= RECV_BATCH_MIN);
        assert_eq!(port.readable, count == RECV_BATCH_MIN);
        rest -= count;
    }
    assert_eq!(port.receive(&mut buffers), 0);
    assert!(!port.readable);
    assert_eq!(port.batch, RECV_BATCH_MIN, "an empty socket tells nothing of lengths");
    near.send_to(&[0; 60], port.local).unwrap();
    wait_for_packet(&port);
    assert_eq!(port.receive(&mut buffers), 1);
    assert_eq!(port.batch, RECV_BATCH_MAX, "short ones come in whole batches again");
}

fn send(port: &mut UdpPort, octets: &[u8]) -> SendOutcome {
    port.send("127.0.0.1:9".parse().unwrap(), None, octets, octets.len(), None)
}

fn wait_for_packet(port: &UdpPort) {
    for _ in 0..5_000 {
        if port.socket.peek(&mut [0]).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("nothing came");
}

fn port() -> UdpPort {
    UdpPort::bind("127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Returns a port over a full socket, the socket's other end, and how many octets lie between them.
fn full_port() -> (UdpPort, TcpStream, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    far.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    near.set_nonblocking(true).unwrap();
    let filled = fill(&mut near);

    // SAFETY: the descriptor is open and given away.
    let socket = unsafe { UdpSocket::from_raw_fd(near.into_raw_fd()) };
    (UdpPort { socket, ..port() }, far, filled)
}

/// Writes until nothing moves any more: the receiver's buffer takes its part a moment later.
fn fill(near: &mut TcpStream) -> usize {
    let mut filled = 0;
    let mut quiet = 0;
    while quiet < 20 {
        match near.write(&[0; 4_096]) {
            Ok(written) => (filled, quiet) = (filled + written, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                quiet += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    filled
}

//! One UDP flow's socket to its backend, connected so that nobody else can answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use mio::{Registry, Token};

use crate::flow::answer::{FlowAnswer, StreamError};
use crate::user_udp::{UdpBatch, UserUdp};

/// A connected socket, registered for reading. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct UdpEnd {
    socket: UserUdp,
    peer: SocketAddr,
}

/// What became of datagrams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct UdpSent {
    /// How many left; the others were dropped.
    pub sent: usize,
    /// What an ICMP message or the system said. The flow may live on: a backend that restarts
    /// refuses for a moment.
    pub error: Option<StreamError>,
}

impl UdpEnd {
    /// Opens a socket to the first of `addresses` that there is a route to.
    pub(crate) fn connect(
        addresses: &[SocketAddr],
        registry: &Registry,
        token: Token,
    ) -> Result<Self, FlowAnswer> {
        let mut answer = FlowAnswer::Unreachable;
        for peer in addresses {
            match open(*peer, registry, token) {
                Ok(socket) => return Ok(Self { socket, peer: *peer }),
                Err(error) => answer = FlowAnswer::from_connect_error(&error),
            }
            if answer == FlowAnswer::LimitExceeded {
                break;
            }
        }
        Err(answer)
    }

    /// Sends one datagram.
    pub(crate) fn send(&self, octets: &[u8]) -> UdpSent {
        let socket = self.socket.socket();
        // An ICMP error about an earlier datagram is told by the next call, which does nothing else.
        let mut outcome = socket.send(octets);
        let told = outcome.as_ref().err().and_then(stream_error);
        if told.is_some() {
            outcome = socket.send(octets);
        }
        UdpSent {
            sent: usize::from(outcome.is_ok()),
            error: outcome.as_ref().err().and_then(stream_error).or(told),
        }
    }

    /// Sends datagrams in as few system calls as their sizes allow. `scratch` is any buffer.
    pub(crate) fn send_all(&self, datagrams: &[&[u8]], scratch: &mut Vec<u8>) -> UdpSent {
        let (mut sent, outcome) = self.socket.send(datagrams, self.peer, None, scratch);
        let mut error = outcome.as_ref().err().and_then(stream_error);
        if error.is_some() {
            let rest = datagrams.get(sent..).unwrap_or_default();
            let (more, outcome) = self.socket.send(rest, self.peer, None, scratch);
            sent += more;
            error = outcome.as_ref().err().and_then(stream_error).or(error);
        }
        UdpSent { sent, error }
    }

    /// Fills `batch` with what arrived and returns whether anything did; call again until nothing
    /// does. An error is an ICMP message about an earlier datagram, told once.
    pub(crate) fn receive(&self, batch: &mut UdpBatch) -> Result<bool, StreamError> {
        self.socket.receive(batch).map_err(|error| StreamError::from_io_error(&error))
    }
}

/// Returns what an error says about the backend; `None` for a full buffer.
fn stream_error(error: &io::Error) -> Option<StreamError> {
    (error.kind() != io::ErrorKind::WouldBlock).then(|| StreamError::from_io_error(error))
}

fn open(peer: SocketAddr, registry: &Registry, token: Token) -> io::Result<UserUdp> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    UserUdp::open(socket, registry, token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mio::{Events, Poll};
    use std::time::Duration;

    const TOKEN: Token = Token(3);

    #[test]
    fn datagrams_of_every_size_pass_both_ways_as_they_are() {
        let (mut poll, end, backend) = pair("127.0.0.1:0");
        let mut buffer = vec![0; 65_536];
        for size in [0, 1, 64, 1_200, 1_473, 9_216, 65_000] {
            let octets = vec![0xab; size];

            assert_eq!(end.send(&octets), UdpSent { sent: 1, error: None }, "{size} octets");
            let (length, from) = backend.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..length], octets);

            backend.send_to(&octets, from).unwrap();
            assert_eq!(receive(&mut poll, &end, 1), [octets], "{size} octets");
        }
    }

    #[test]
    fn ipv6_backends_are_reached() {
        let (mut poll, end, backend) = pair("[::1]:0");
        end.send(b"ping");
        let (_, from) = backend.recv_from(&mut [0; 8]).unwrap();
        backend.send_to(b"pong", from).unwrap();

        assert_eq!(receive(&mut poll, &end, 1), [b"pong".to_vec()]);
    }

    #[test]
    fn a_batch_arrives_datagram_by_datagram_whatever_their_sizes() {
        let (_poll, end, backend) = pair("127.0.0.1:0");
        let sizes = [100, 100, 100, 40, 100, 0, 0, 7, 1_200, 1_200];
        let datagrams: Vec<Vec<u8>> = (1..).zip(sizes).map(|(tag, size)| vec![tag; size]).collect();
        let slices: Vec<&[u8]> = datagrams.iter().map(Vec::as_slice).collect();

        let outcome = end.send_all(&slices, &mut Vec::new());

        assert_eq!(outcome, UdpSent { sent: sizes.len(), error: None });
        let mut buffer = [0; 2_048];
        for expected in &datagrams {
            let length = backend.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], expected);
        }
    }

    #[test]
    fn many_answers_come_in_one_batch_and_in_order() {
        let (mut poll, end, backend) = pair("127.0.0.1:0");
        end.send(b"go");
        let (_, from) = backend.recv_from(&mut [0; 8]).unwrap();
        let answers: Vec<Vec<u8>> = (0..12).map(|tag| vec![tag; 200]).collect();
        for answer in &answers {
            backend.send_to(answer, from).unwrap();
        }

        assert_eq!(receive(&mut poll, &end, 12), answers);
    }

    #[test]
    fn only_the_backend_may_answer() {
        let (mut poll, end, backend) = pair("127.0.0.1:0");
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        end.send(b"go");
        let (_, from) = backend.recv_from(&mut [0; 8]).unwrap();

        stranger.send_to(b"forged", from).unwrap();
        backend.send_to(b"answer", from).unwrap();

        assert_eq!(receive(&mut poll, &end, 1), [b"answer".to_vec()]);
    }

    #[test]
    fn a_closed_port_is_told_once_and_costs_no_datagram() {
        let (mut poll, end, backend) = pair("127.0.0.1:0");
        let address = backend.local_addr().unwrap();
        drop(backend);

        assert_eq!(end.send(b"lost").sent, 1);
        wait(&mut poll);
        let backend = UdpSocket::bind(address).unwrap();

        let outcome = end.send(b"found");
        assert_eq!(outcome, UdpSent { sent: 1, error: Some(StreamError::Refused) });
        let mut buffer = [0; 8];
        assert_eq!(backend.recv(&mut buffer).unwrap(), 5);
        assert_eq!(end.send(b"again"), UdpSent { sent: 1, error: None });
    }

    #[test]
    fn a_refusal_is_also_told_by_receiving() {
        let (mut poll, end, backend) = pair("127.0.0.1:0");
        drop(backend);
        end.send(b"lost");
        wait(&mut poll);

        let mut batch = UdpBatch::new();
        assert_eq!(end.receive(&mut batch), Err(StreamError::Refused));
        assert_eq!(end.receive(&mut batch), Ok(false));
        assert_eq!(batch.datagrams().count(), 0);
    }

    #[test]
    fn a_backend_without_addresses_or_routes_is_unreachable() {
        let poll = Poll::new().unwrap();
        let connect = |addresses: &[SocketAddr]| {
            UdpEnd::connect(addresses, poll.registry(), TOKEN).map(|end| end.peer)
        };
        let broadcast = "255.255.255.255:9".parse().unwrap();
        let good = "127.0.0.1:9".parse().unwrap();

        assert_eq!(connect(&[]), Err(FlowAnswer::Unreachable));
        assert_eq!(connect(&[broadcast]), Err(FlowAnswer::Unreachable));
        assert_eq!(connect(&[broadcast, good]), Ok(good));
    }

    fn pair(bind: &str) -> (Poll, UdpEnd, UdpSocket) {
        let poll = Poll::new().unwrap();
        let backend = UdpSocket::bind(bind).unwrap();
        backend.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let addresses = [backend.local_addr().unwrap()];
        let end = UdpEnd::connect(&addresses, poll.registry(), TOKEN).unwrap();
        (poll, end, backend)
    }

    fn receive(poll: &mut Poll, end: &UdpEnd, count: usize) -> Vec<Vec<u8>> {
        let mut batch = UdpBatch::new();
        let mut received = Vec::new();
        while received.len() < count {
            if end.receive(&mut batch).unwrap() {
                received.extend(batch.datagrams().map(|datagram| datagram.octets.to_vec()));
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
}

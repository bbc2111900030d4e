//! One TCP connection to a backend, or from an application.
//!
//! - **Readiness is edge-triggered**, as mio's is: pass every event to [`TcpEnd::note_ready`], then read
//!   until [`TcpRead::WouldBlock`] and write until [`TcpWrite::WouldBlock`], or remember that there is
//!   more. A read that leaves room emptied the socket (epoll(7)): the next one asks the system only when
//!   there was another event, or the peer's FIN or urgent data, at which a read ends early.
//! - **A backend's addresses are tried in turn**, 5 s each and 10 s in all; what the last one said is the
//!   answer. Running out of descriptors is nobody's address and ends it at once.
//! - **FIN and RST stay what they are**: [`TcpEnd::shutdown_write`] sends a FIN and leaves the other
//!   direction open, [`TcpEnd::reset`] sends an RST, and a peer's come out as [`TcpRead::End`] and as
//!   `PeerReset`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::event::Event as Readiness;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};

use crate::flow::answer::{FlowAnswer, StreamError};

/// How long one address may take to answer.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long all addresses of a backend may take together.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A backend that vanished is noticed after this plus four probes of 15 s: before the two minutes
/// after which most stateful firewalls forget a connection.
const KEEPALIVE_TIME: Duration = Duration::from_secs(45);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// Where a connection attempt stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ConnectProgress {
    /// Nothing to do until the socket is writable or the deadline passes.
    Pending,
    /// Data may flow.
    Connected,
    /// No address answered; the connection is of no further use.
    Failed(FlowAnswer),
}

/// What a read gave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TcpRead {
    /// So many octets.
    Data(usize),
    /// Nothing until the next event.
    WouldBlock,
    /// The peer sent its FIN; writing may go on.
    End,
    /// The connection is gone.
    Failed(StreamError),
}

/// What a write took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TcpWrite {
    /// So many octets, perhaps fewer than given.
    Accepted(usize),
    /// Nothing until the next event.
    WouldBlock,
    /// The connection is gone.
    Failed(StreamError),
}

/// One end of a TCP connection. Dropping it closes the connection in order.
#[derive(Debug)]
pub(crate) struct TcpEnd {
    stream: Option<TcpStream>,
    token: Token,
    connect: Option<Connecting>,
    /// There may be something to read.
    readable: bool,
    /// A read that leaves room proves nothing: the end or more octets may lie behind it, and have no
    /// event of their own.
    reads_on: bool,
}

#[derive(Debug)]
struct Connecting {
    /// Not yet tried, in turn from the back.
    addresses: Vec<SocketAddr>,
    attempt_deadline: Instant,
    deadline: Instant,
    last_answer: FlowAnswer,
}

impl TcpEnd {
    /// Starts to connect to the first of `addresses` that takes it. Drive it with
    /// [`Self::handle_ready`] and [`Self::handle_timeout`] until it is no longer pending.
    pub(crate) fn connect(
        addresses: &[SocketAddr],
        registry: &Registry,
        token: Token,
        now: Instant,
    ) -> (Self, ConnectProgress) {
        let mut addresses = addresses.to_vec();
        addresses.reverse();
        let mut end = Self {
            stream: None,
            token,
            readable: true,
            reads_on: false,
            connect: Some(Connecting {
                addresses,
                attempt_deadline: now,
                deadline: now + CONNECT_TIMEOUT,
                last_answer: FlowAnswer::Unreachable,
            }),
        };
        let progress = end.try_next(registry, now);
        (end, progress)
    }

    /// Takes a connection that a listener accepted.
    pub(crate) fn from_accepted(
        mut stream: TcpStream,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        tune(&stream)?;
        registry.register(&mut stream, token, INTEREST)?;
        Ok(Self { stream: Some(stream), token, connect: None, readable: true, reads_on: false })
    }

    /// Takes what the poll says of this connection.
    pub(crate) fn note_ready(&mut self, event: &Readiness) {
        let reads_on = event.is_read_closed() || event.is_error() || is_urgent(event);
        self.readable |= event.is_readable() || reads_on;
        self.reads_on |= reads_on;
    }

    /// Looks after a connection that is being made when its socket became ready.
    pub(crate) fn handle_ready(&mut self, registry: &Registry, now: Instant) -> ConnectProgress {
        let (Some(stream), Some(_)) = (&self.stream, &self.connect) else {
            return self.settled();
        };
        let outcome = match stream.take_error() {
            Ok(None) => stream.peer_addr().map(|_| ()),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match outcome.and_then(|()| tune(stream)) {
            Ok(()) => {
                self.connect = None;
                ConnectProgress::Connected
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => ConnectProgress::Pending,
            Err(error) => {
                self.attempt_failed(FlowAnswer::from_connect_error(&error), registry, now)
            }
        }
    }

    /// Gives an address up whose time has passed.
    pub(crate) fn handle_timeout(&mut self, registry: &Registry, now: Instant) -> ConnectProgress {
        match &self.connect {
            None => self.settled(),
            Some(connecting) if now < connecting.attempt_deadline => ConnectProgress::Pending,
            Some(_) => self.attempt_failed(FlowAnswer::TimedOut, registry, now),
        }
    }

    /// Returns when [`Self::handle_timeout`] next has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        Some(self.connect.as_ref()?.attempt_deadline)
    }

    /// Reads into `buffer`, which must not be empty.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> TcpRead {
        let (is_readable, reads_on) = (self.readable, self.reads_on);
        let Some(stream) = self.established().filter(|_| is_readable) else {
            return TcpRead::WouldBlock;
        };
        let outcome = loop {
            match stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(0) => TcpRead::End,
            Ok(length) => {
                self.readable = length == buffer.len() || reads_on;
                TcpRead::Data(length)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                TcpRead::WouldBlock
            }
            Err(error) => TcpRead::Failed(StreamError::from_io_error(&error)),
        }
    }

    /// Writes from `octets`, which must not be empty.
    pub(crate) fn write(&mut self, octets: &[u8]) -> TcpWrite {
        let Some(stream) = self.established() else { return TcpWrite::WouldBlock };
        loop {
            return match stream.write(octets) {
                Ok(0) => TcpWrite::WouldBlock,
                Ok(length) => TcpWrite::Accepted(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => TcpWrite::WouldBlock,
                Err(error) => TcpWrite::Failed(StreamError::from_io_error(&error)),
            };
        }
    }

    /// Sends a FIN behind what was written; reading goes on. A connection that the peer reset in the
    /// meantime says so at the next read.
    pub(crate) fn shutdown_write(&mut self) {
        if let Some(stream) = self.established() {
            // Fails only when there is no connection to shut down.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Closes the connection with an RST, whatever is unsent.
    pub(crate) fn reset(self) {
        if let Some(stream) = &self.stream {
            // Without it the close is an orderly one: the second best.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// Returns the address of the other side of a connection that is made.
    pub(crate) fn peer_address(&self) -> Option<SocketAddr> {
        self.stream.as_ref()?.peer_addr().ok()
    }

    /// Returns the address of this side.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.stream.as_ref()?.local_addr().ok()
    }

    const fn established(&mut self) -> Option<&mut TcpStream> {
        if self.connect.is_some() { None } else { self.stream.as_mut() }
    }

    /// Returns how an attempt ended that is over.
    const fn settled(&self) -> ConnectProgress {
        match (&self.stream, &self.connect) {
            (Some(_), None) => ConnectProgress::Connected,
            (_, Some(connecting)) => ConnectProgress::Failed(connecting.last_answer),
            (None, None) => ConnectProgress::Failed(FlowAnswer::Unreachable),
        }
    }

    fn attempt_failed(
        &mut self,
        answer: FlowAnswer,
        registry: &Registry,
        now: Instant,
    ) -> ConnectProgress {
        self.stream = None;
        (self.readable, self.reads_on) = (true, false);
        if let Some(connecting) = &mut self.connect {
            connecting.last_answer = answer;
        }
        self.try_next(registry, now)
    }

    fn try_next(&mut self, registry: &Registry, now: Instant) -> ConnectProgress {
        let Some(connecting) = &mut self.connect else { return self.settled() };
        while now < connecting.deadline
            && let Some(address) = connecting.addresses.pop()
        {
            match open(address, registry, self.token) {
                Ok(stream) => {
                    self.stream = Some(stream);
                    connecting.attempt_deadline = (now + ATTEMPT_TIMEOUT).min(connecting.deadline);
                    return ConnectProgress::Pending;
                }
                Err(error) => {
                    connecting.last_answer = FlowAnswer::from_connect_error(&error);
                    if connecting.last_answer == FlowAnswer::LimitExceeded {
                        break;
                    }
                }
            }
        }
        ConnectProgress::Failed(connecting.last_answer)
    }
}

fn open(address: SocketAddr, registry: &Registry, token: Token) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    registry.register(&mut stream, token, INTEREST)?;
    Ok(stream)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// Where urgent data cannot be told, it is always suspected.
fn is_urgent(event: &Readiness) -> bool {
    event.is_priority() || cfg!(not(any(target_os = "linux", target_os = "android")))
}

/// The tunnel adds delay of its own: Nagle's algorithm would add another round trip to it.
fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_TIME)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES),
    )
}

#[cfg(test)]
mod tests;

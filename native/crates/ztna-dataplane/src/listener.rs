//! Local sockets that applications reach services by.
//!
//! - **The address is what was asked for**: nothing here widens a loopback address.
//! - **One turn is bounded by the caller**: each call gives one connection or one batch.
//! - **Out of descriptors, a listener refuses and goes on.** It keeps one descriptor in reserve to
//!   accept with and close at once: a connection left in the backlog would never be told of again by
//!   an edge-triggered poll, or spin a level-triggered one.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::EndpointError;
use crate::user_udp::{UdpBatch, UserUdp};

/// Connections that wait for us; the kernel caps it by `net.core.somaxconn`.
const BACKLOG: i32 = 1_024;

/// A TCP socket that applications connect to.
#[derive(Debug)]
pub(crate) struct TcpListening {
    socket: TcpListener,
    reserve: Option<File>,
    is_stalled: bool,
}

/// What accepting gave.
#[derive(Debug)]
pub(crate) enum Accept {
    /// A connection, for [`crate::backend::tcp::TcpEnd::from_accepted`].
    Connection(TcpStream),
    /// A connection that was closed for lack of descriptors, or that its client gave up. Count it and
    /// go on.
    Refused,
    /// Nothing until the next event.
    WouldBlock,
}

impl TcpListening {
    /// Binds and registers a socket.
    pub(crate) fn bind(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, EndpointError> {
        let open = || {
            let socket = new_socket(address, Type::STREAM, Protocol::TCP)?;
            // A restart must not wait for the connections of the process before it.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            let mut socket = TcpListener::from_std(socket.into());
            registry.register(&mut socket, token, Interest::READABLE)?;
            Ok(Self { socket, reserve: open_reserve(), is_stalled: false })
        };
        open().map_err(|error| bind_error(address, &error))
    }

    /// Takes one connection. Call until [`Accept::WouldBlock`], or again without a new event.
    pub(crate) fn accept(&mut self) -> Accept {
        self.is_stalled = false;
        loop {
            let error = match self.socket.accept() {
                Ok((stream, _)) => return Accept::Connection(stream),
                Err(error) => error,
            };
            return match error.raw_os_error() {
                Some(libc::EAGAIN) => Accept::WouldBlock,
                Some(libc::EINTR) => continue,
                Some(libc::EMFILE | libc::ENFILE) => self.refuse_one(),
                Some(libc::ENOBUFS | libc::ENOMEM) => {
                    self.is_stalled = true;
                    Accept::WouldBlock
                }
                // What went wrong with that connection on the network is told here (accept(2)).
                Some(_) | None => Accept::Refused,
            };
        }
    }

    /// Returns whether connections may wait although there will be no event for them: the system ran
    /// out of memory or descriptors altogether. Try again when something was closed, or after a while.
    pub(crate) const fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    /// Returns the address that it listens on.
    #[cfg(test)]
    fn local_address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }

    /// Accepts with the descriptor in reserve and closes at once.
    fn refuse_one(&mut self) -> Accept {
        if self.reserve.take().is_none() {
            self.reserve = open_reserve();
            self.is_stalled = true;
            return Accept::WouldBlock;
        }
        let outcome = self.socket.accept();
        let accept = match outcome {
            Ok(connection) => {
                drop(connection);
                Accept::Refused
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Accept::WouldBlock,
            Err(_) => {
                self.is_stalled = true;
                Accept::WouldBlock
            }
        };
        self.reserve = open_reserve();
        accept
    }
}

/// A UDP socket that applications send to. Who sent what is the caller's table.
#[derive(Debug)]
pub(crate) struct UdpListening {
    socket: UserUdp,
    local: SocketAddr,
}

impl UdpListening {
    /// Binds and registers a socket.
    pub(crate) fn bind(
        address: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> Result<Self, EndpointError> {
        let open = || {
            let socket = new_socket(address, Type::DGRAM, Protocol::UDP)?;
            socket.bind(&address.into())?;
            let socket = UserUdp::open(socket.into(), registry, token)?;
            let local = socket.socket().local_addr()?;
            Ok(Self { socket, local })
        };
        open().map_err(|error| bind_error(address, &error))
    }

    /// Fills `batch` with what arrived and returns whether anything did; call until nothing does, or
    /// again without a new event.
    pub(crate) fn receive(&self, batch: &mut UdpBatch) -> bool {
        // An unconnected socket is told no ICMP errors: what else fails is gone at the next call.
        self.socket.receive(batch).unwrap_or(false)
    }

    /// Sends datagrams to one application and returns how many left. `local` is the address that the
    /// application sent to: a socket bound to all of them must answer from that one. `scratch` is any
    /// buffer.
    pub(crate) fn send_all(
        &self,
        datagrams: &[&[u8]],
        application: SocketAddr,
        local: Option<IpAddr>,
        scratch: &mut Vec<u8>,
    ) -> usize {
        self.socket.send(datagrams, application, local, scratch).0
    }

    /// Returns the address that it is bound to.
    pub(crate) const fn local_address(&self) -> SocketAddr {
        self.local
    }
}

fn new_socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // "::" is IPv6 and not both: otherwise 0.0.0.0 beside it would be in use.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn open_reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

fn bind_error(address: SocketAddr, error: &io::Error) -> EndpointError {
    if error.kind() == io::ErrorKind::AddrInUse {
        return EndpointError::AddressInUse(address);
    }
    EndpointError::AddressUnavailable { address, detail: error.to_string() }
}

#[cfg(test)]
mod tests;

//! UDP sockets with batched receive, GRO and GSO.
//!
//! A send never fails loudly: nothing that the kernel says about one destination may end the process.
//! A full socket buffer keeps the train that did not fit and stops its producers until the socket is
//! writable; every other error drops the train, counted by kind.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::EndpointError;
use crate::socket_option;

#[cfg(test)]
mod tests;

/// Receive and send buffers that we ask for: 7 MiB holds 10 ms at 5 Gbit/s.
const SOCKET_BUFFER_BYTES: usize = 7 << 20;
/// Most trains a receive call.
pub(crate) const RECV_BATCH_MAX: usize = 32;
/// Least trains a receive call, however long they are.
const RECV_BATCH_MIN: usize = 4;
const TRAIN_BYTES_MAX: usize = 65_536;
/// Packets that one call sends: the kernel's limit of GSO.
pub(crate) const GSO_PACKETS_MAX: usize = 64;
/// Octets that one call sends: an IP packet's limit less headers.
pub(crate) const GSO_BYTES_MAX: usize = 65_000;
/// A train, and the one packet that its sender had built behind it.
const KEPT_MAX: usize = 2;

/// Buffers that one receive call fills.
pub(crate) struct RecvBuffers {
    storage: Box<[u8]>,
    metas: [RecvMeta; RECV_BATCH_MAX],
    octets_a_call: usize,
}

impl RecvBuffers {
    /// Creates buffers of which one call should fill `octets_a_call` octets at most: where long trains came,
    /// the next call asks for fewer. Who only passes them on sends them from where they lie, and what
    /// is little enough is still in the processor's cache then.
    pub(crate) fn new(octets_a_call: usize) -> Self {
        Self {
            storage: vec![0; RECV_BATCH_MAX * TRAIN_BYTES_MAX].into_boxed_slice(),
            metas: [RecvMeta::default(); RECV_BATCH_MAX],
            octets_a_call,
        }
    }

    /// Returns the `index`-th train of the last receive call with its description.
    pub(crate) fn train(&mut self, index: usize) -> Option<(&mut [u8], RecvMeta)> {
        let meta = *self.metas.get(index)?;
        let chunk = self.storage.chunks_mut(TRAIN_BYTES_MAX).nth(index)?;
        Some((chunk.get_mut(..meta.len)?, meta))
    }

    /// Returns how many trains fit that are as long as the `count` that came; `None` when none came.
    fn fitting(&self, count: usize) -> Option<usize> {
        let octets: usize = self.metas.iter().take(count).map(|meta| meta.len).sum();
        let fitting = self.octets_a_call.saturating_mul(count).checked_div(octets)?;
        Some(fitting.clamp(RECV_BATCH_MIN, RECV_BATCH_MAX))
    }
}

/// What became of a send.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SendOutcome {
    /// The kernel took it.
    Sent,
    /// The kernel's buffer is full: the train is kept and goes first when the socket is writable.
    Blocked,
    /// The kernel refused it.
    Dropped,
}

/// Counters of sends that the kernel refused.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UdpCounters {
    pub(crate) sent_packets: u64,
    pub(crate) received_packets: u64,
    pub(crate) send_blocked: u64,
    pub(crate) send_refused: u64,
    pub(crate) send_no_buffers: u64,
    pub(crate) send_failed: u64,
}

/// One primary socket.
pub(crate) struct UdpPort {
    pub(crate) socket: UdpSocket,
    pub(crate) local: SocketAddr,
    /// What the kernel granted of [`SOCKET_BUFFER_BYTES`].
    pub(crate) receive_buffer_bytes: usize,
    pub(crate) counters: UdpCounters,
    /// Readiness is told once: it holds until the socket was read empty.
    pub(crate) readable: bool,
    /// Trains that the next receive call asks for.
    batch: usize,
    state: UdpSocketState,
    watch: Option<Watch>,
    /// In the order in which they go when the socket is writable.
    kept: VecDeque<Kept>,
}

/// How the socket is polled. Room in its buffer is asked for only while a train waits: the kernel tells of
/// room for each packet that left, and would wake this thread for nothing.
struct Watch {
    registry: Registry,
    token: Token,
}

struct Kept {
    destination: SocketAddr,
    src_ip: Option<IpAddr>,
    segment: usize,
    ecn: Option<EcnCodepoint>,
    octets: Vec<u8>,
}

impl UdpPort {
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, EndpointError> {
        let failed = |error: io::Error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                EndpointError::AddressInUse(address)
            } else {
                EndpointError::AddressUnavailable { address, detail: error.to_string() }
            }
        };
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM.nonblocking(),
            Some(Protocol::UDP),
        )
        .map_err(failed)?;
        if address.is_ipv6() {
            socket.set_only_v6(true).map_err(failed)?;
        }
        socket.bind(&address.into()).map_err(failed)?;

        let state = UdpSocketState::new((&socket).into()).map_err(failed)?;
        leave_out_what_nobody_reads(&socket, address.ip());
        grow_buffers(&socket);
        let receive_buffer_bytes = socket.recv_buffer_size().unwrap_or(0);
        let socket = UdpSocket::from_std(socket.into());
        let local = socket.local_addr().map_err(failed)?;

        Ok(Self {
            socket,
            local,
            receive_buffer_bytes,
            counters: UdpCounters::default(),
            readable: true,
            batch: RECV_BATCH_MAX,
            state,
            watch: None,
            kept: VecDeque::new(),
        })
    }

    /// Has the socket's readiness told under `token`.
    pub(crate) fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)?;
        self.watch = Some(Watch { registry: registry.try_clone()?, token });
        Ok(())
    }

    /// Fills `buffers` and returns how many trains came, 0 when there are none. Clears `readable` when
    /// fewer came than were asked for: the socket is empty then, and what comes later is told.
    pub(crate) fn receive(&mut self, buffers: &mut RecvBuffers) -> usize {
        let mut chunks = buffers.storage.chunks_mut(TRAIN_BYTES_MAX);
        let mut slices: [IoSliceMut<'_>; RECV_BATCH_MAX] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let asked = slices.get_mut(..self.batch).unwrap_or_default();

        // An error here is nothing to read: this socket is not told of other hosts' errors.
        let count =
            self.state.recv((&self.socket).into(), asked, &mut buffers.metas).unwrap_or_default();
        self.readable = count == self.batch;
        self.batch = buffers.fitting(count).unwrap_or(self.batch);
        for meta in buffers.metas.iter().take(count) {
            self.counters.received_packets += meta.len.div_ceil(meta.stride.max(1)) as u64;
        }
        count
    }

    /// Returns whether a train waits for the socket to become writable.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Sends `octets` as packets of `segment` octets, the last one perhaps shorter.
    pub(crate) fn send(
        &mut self,
        destination: SocketAddr,
        src_ip: Option<IpAddr>,
        octets: &[u8],
        segment: usize,
        ecn: Option<EcnCodepoint>,
    ) -> SendOutcome {
        if octets.is_empty() {
            return SendOutcome::Sent;
        }
        if self.is_blocked() {
            self.counters.send_blocked += 1;
            return SendOutcome::Dropped;
        }

        let most = self.state.max_gso_segments().max(1) * segment.max(1);
        let mut rest = octets;
        while !rest.is_empty() {
            let (train, after) = rest.split_at(rest.len().min(most));
            match self.send_train(destination, src_ip, train, segment, ecn) {
                SendOutcome::Sent | SendOutcome::Dropped => rest = after,
                SendOutcome::Blocked => {
                    let octets = rest.to_vec();
                    return self.keep(Kept { destination, src_ip, segment, ecn, octets });
                }
            }
        }
        SendOutcome::Sent
    }

    /// Sends one packet that was built behind a train: it is kept where the train is.
    pub(crate) fn send_behind(
        &mut self,
        destination: SocketAddr,
        src_ip: Option<IpAddr>,
        packet: &[u8],
    ) -> SendOutcome {
        if !self.is_blocked() || self.kept.len() >= KEPT_MAX {
            return self.send(destination, src_ip, packet, packet.len(), None);
        }
        let (segment, octets) = (packet.len(), packet.to_vec());
        self.kept.push_back(Kept { destination, src_ip, segment, ecn: None, octets });
        SendOutcome::Blocked
    }

    /// Sends what was kept; returns whether the socket takes more.
    pub(crate) fn resume(&mut self) -> bool {
        while let Some(kept) = self.kept.pop_front() {
            let behind = std::mem::take(&mut self.kept);
            let Kept { destination, src_ip, segment, ecn, octets } = kept;
            let outcome = self.send(destination, src_ip, &octets, segment, ecn);
            self.kept.extend(behind);
            if outcome == SendOutcome::Blocked {
                return false;
            }
        }
        // It is told of room that nobody needs until this succeeds.
        let _ = self.set_interest(Interest::READABLE);
        true
    }

    /// Keeps a train until the socket has room.
    fn keep(&mut self, train: Kept) -> SendOutcome {
        if self.set_interest(Interest::READABLE | Interest::WRITABLE).is_err() {
            // Nobody would say when: what is kept would be kept for ever, and stop all others.
            self.counters.send_failed += 1;
            return SendOutcome::Dropped;
        }
        self.kept.push_back(train);
        SendOutcome::Blocked
    }

    fn set_interest(&mut self, interest: Interest) -> io::Result<()> {
        let Some(Watch { registry, token }) = &self.watch else { return Ok(()) };
        registry.reregister(&mut self.socket, *token, interest)
    }

    fn send_train(
        &mut self,
        destination: SocketAddr,
        src_ip: Option<IpAddr>,
        contents: &[u8],
        segment: usize,
        ecn: Option<EcnCodepoint>,
    ) -> SendOutcome {
        let segment_size = (segment < contents.len()).then_some(segment);
        let transmit = Transmit { destination, ecn, contents, segment_size, src_ip };
        let Err(error) = self.state.try_send((&self.socket).into(), &transmit) else {
            self.counters.sent_packets += contents.len().div_ceil(segment.max(1)) as u64;
            return SendOutcome::Sent;
        };
        self.count_failure(&error)
    }

    fn count_failure(&mut self, error: &io::Error) -> SendOutcome {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => {
                self.counters.send_blocked += 1;
                return SendOutcome::Blocked;
            }
            Some(libc::EPERM | libc::EACCES) => self.counters.send_refused += 1,
            Some(libc::ENOBUFS | libc::ENOMEM) => self.counters.send_no_buffers += 1,
            _ => self.counters.send_failed += 1,
        }
        SendOutcome::Dropped
    }
}

/// Has the kernel tell less of each train than `UdpSocketState` asks for: not when it came, and not the
/// address that it came to where the socket has one only. Each is a control message to write and read,
/// and the address one more to send. Best effort: what is told all the same is not looked at, or true.
fn leave_out_what_nobody_reads(socket: &Socket, bound: IpAddr) {
    let _ = socket_option::set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 0);
    if !bound.is_unspecified() {
        let (level, name) = match bound {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        let _ = socket_option::set(socket, level, name, 0);
    }
}

fn grow_buffers(socket: &Socket) {
    // Best effort: what was granted is read back and a small buffer is reported as a warning.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    // Exceeds `net.core.rmem_max` where the process may (CAP_NET_ADMIN).
    for name in [libc::SO_RCVBUFFORCE, libc::SO_SNDBUFFORCE] {
        let bytes = SOCKET_BUFFER_BYTES as libc::c_int;
        let _ = socket_option::set(socket, libc::SOL_SOCKET, name, bytes);
    }
}

//! One end of a TCP connection: a socket in a set of its own, and the memory of its two rings.
//!
//! - **The rings are one private mapping** that costs nothing until it is touched, and nothing again
//!   after [`Terminal::trim`].
//! - **A terminal is used again**, with a socket made from scratch on the same memory, so that no
//!   state of one connection reaches the next. Mapping and zeroing fresh memory costs several times
//!   what the rest of a connection does (45,000 against 16,500 connections a second).

use std::collections::VecDeque;
use std::io;
use std::ptr::NonNull;
use std::time::Instant;

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};
use smoltcp::time::Duration;

use super::TRIM_AFTER;

/// Octets of each ring. Larger ones bring nothing: the link is 50 us long, and the bandwidth-delay
/// product of the network belongs into the QUIC stream's window.
pub(super) const RING: usize = 256 << 10;
const MAPPING: usize = 2 * RING;

/// An answer that comes within it carries the acknowledgement of the question. Short, because a sender
/// with Nagle's algorithm may wait for it.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_millis(4);

/// The kernel at the other end always says goodbye, unless its interface or namespace went away.
/// Keep-alive finds those.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(180);

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Terminal {
    // Declared first, so that nothing refers to the mapping when it goes.
    pub(super) set: SocketSet<'static>,
    handle: SocketHandle,
    mapping: Mapping,
    /// Whether the rings may have been written since they were last trimmed.
    pub(super) touched: bool,
}

impl Terminal {
    /// Maps memory and makes a closed socket on it.
    pub(super) fn new() -> io::Result<Self> {
        let mapping = Mapping::new()?;
        let mut set = SocketSet::new(Vec::with_capacity(1));
        // SAFETY: the mapping is fresh, so no other socket has its rings, and it lives as long as `set`.
        let socket = unsafe { mapping.socket() };
        let handle = set.add(socket);
        Ok(Self { set, handle, mapping, touched: false })
    }

    /// Replaces the socket by one that remembers nothing.
    pub(super) fn renew(&mut self) {
        drop(self.set.remove(self.handle));
        // SAFETY: the socket that had the rings is gone, and the mapping lives as long as `set`.
        let socket = unsafe { self.mapping.socket() };
        self.handle = self.set.add(socket);
    }

    pub(super) fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    pub(super) fn socket_ref(&self) -> &Socket<'static> {
        self.set.get(self.handle)
    }

    /// Gives the memory of the rings back, whose contents become zeros.
    ///
    /// The caller makes sure that neither ring holds anything, segments received out of order
    /// included.
    pub(super) fn trim(&mut self) {
        self.touched = false;
        self.mapping.forget_contents();
    }
}

/// Terminals without a connection.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// In the order in which they were put here; used from the back.
    warm: VecDeque<(Instant, Terminal)>,
    /// Their memory was given back.
    cold: Vec<Terminal>,
}

impl Pool {
    /// Terminals that are kept; a connection rate of 45,000 a second was reached with as many.
    pub(super) const TERMINALS_MAX: usize = 256;

    /// Returns a terminal with a closed socket that remembers nothing.
    pub(super) fn take(&mut self) -> io::Result<Terminal> {
        let used = self.warm.pop_back().map(|(_, terminal)| terminal).or_else(|| self.cold.pop());
        match used {
            Some(mut terminal) => {
                terminal.renew();
                Ok(terminal)
            }
            None => Terminal::new(),
        }
    }

    pub(super) fn put(&mut self, terminal: Terminal, now: Instant) {
        if self.warm.len() + self.cold.len() < Self::TERMINALS_MAX {
            self.warm.push_back((now, terminal));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.warm.len() + self.cold.len()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.warm.front().map(|&(at, _)| at + TRIM_AFTER)
    }

    /// Gives back the memory of those that lay here for long.
    pub(super) fn trim(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|at| at <= now) {
            let Some((_, mut terminal)) = self.warm.pop_front() else { break };
            terminal.trim();
            self.cold.push(terminal);
        }
    }
}

#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
}

// SAFETY: the mapping is private memory without any tie to the thread that made it.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new() -> io::Result<Self> {
        // SAFETY: a new private anonymous mapping touches no memory that exists.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MAPPING,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(start.cast()).map(|start| Self { start }).ok_or_else(io::Error::last_os_error)
    }

    /// Makes a socket whose rings are the two halves.
    ///
    /// # Safety
    ///
    /// No other socket on this mapping may exist, and this one must not outlive it.
    unsafe fn socket(&self) -> Socket<'static> {
        // SAFETY: the first half is mapped, initialised to octets, and the caller keeps it unshared.
        let receive = unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), RING) };
        // SAFETY: the second half begins inside the mapping.
        let second = unsafe { self.start.add(RING) };
        // SAFETY: as for the first half, which it does not overlap.
        let send = unsafe { std::slice::from_raw_parts_mut(second.as_ptr(), RING) };
        let mut socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(send));
        // With segments of 64 KiB, Nagle's algorithm would hold back all that a flow has to say.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(Some(ACKNOWLEDGE_WAIT));
        socket.set_congestion_control(CongestionControl::None);
        socket.set_tsval_generator(None);
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(TIMEOUT));
        socket
    }

    fn forget_contents(&mut self) {
        // SAFETY: the range is exactly this mapping, and octets that become zero are valid octets. The
        // socket holds references to them but, by the contract of `Terminal::trim`, reads none before
        // it has written it.
        let result =
            unsafe { libc::madvise(self.start.as_ptr().cast(), MAPPING, libc::MADV_DONTNEED) };
        debug_assert_eq!(result, 0, "private anonymous memory can always be given back");
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly this mapping, and the socket on it is gone: see `Terminal`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), MAPPING) };
    }
}

//! IP packets over a Unix socket, for a program that owns a packet tunnel which this process cannot
//! open itself (`docs/packets.md`).
//!
//! ```text
//!  0              2
//!  +--------------+---------------------+
//!  | length (u16) | IP packet (length)  |      again and again, both ways, big-endian
//!  +--------------+---------------------+
//! ```
//!
//! - **Only this user and root may attach**: the socket has mode 0600 from its first instant, and the
//!   peer's user is asked of the kernel.
//! - **One program at a time.** Another one is turned away at once.
//! - **A frame that no packet can have ends the connection**: the stream cannot be understood after it.
//! - **Bounded**: a packet for a program that does not read is dropped beyond [`frames::QUEUE_MAX`] octets.

pub(crate) mod frames;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use mio::net::UnixListener;
use socket2::{Domain, SockAddr, Socket, Type};

use self::frames::{FrameReader, FrameWriter};
use crate::EndpointError;

/// Connections that may wait to be turned away.
const BACKLOG: i32 = 4;

/// Where a program attaches.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Of the socket's inode: another file in its place is not ours to remove.
    inode: u64,
    mtu: u16,
}

/// An attached program.
#[derive(Debug)]
pub(crate) struct PacketPeer {
    stream: UnixStream,
    reader: FrameReader,
    writer: FrameWriter,
}

/// Why somebody who connected was turned away.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum AttachRefusal {
    /// Another program is attached.
    #[error("another program is attached")]
    Occupied,
    /// The program runs as another user.
    #[error("user {0} may not attach")]
    ForeignUser(u32),
}

impl PacketSocket {
    /// Listens at `path`. A socket that nobody listens on any more is replaced.
    pub(crate) fn bind(path: &Path, mtu: u16) -> Result<Self, EndpointError> {
        let failed = |error: &io::Error| EndpointError::System {
            what: "listening for a packet tunnel",
            detail: format!("{}: {error}", path.display()),
        };
        let (listener, inode) = listen(path).map_err(|error| failed(&error))?;
        let listener = UnixListener::from_std(listener);
        Ok(Self { listener, path: path.to_owned(), inode, mtu })
    }

    /// Takes the next program that waits, or turns it away. `None` tells that none waits.
    pub(crate) fn accept(
        &self,
        occupied: bool,
    ) -> io::Result<Option<Result<PacketPeer, AttachRefusal>>> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if occupied {
            return Ok(Some(Err(AttachRefusal::Occupied)));
        }
        let user = peer_user(stream.as_fd())?;
        // SAFETY: the call has no preconditions and cannot fail.
        let own = unsafe { libc::geteuid() };
        if user != own && user != 0 {
            return Ok(Some(Err(AttachRefusal::ForeignUser(user))));
        }
        Ok(Some(Ok(PacketPeer::new(stream.into(), self.mtu))))
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }
}

impl Drop for PacketSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            // Who removed it first has done the work.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl PacketPeer {
    fn new(stream: UnixStream, mtu: u16) -> Self {
        Self { stream, reader: FrameReader::new(mtu), writer: FrameWriter::default() }
    }

    /// Hands every packet that has arrived to `packets`, a bounded number of octets at a time. Returns
    /// whether more may wait. The error is final: the program left, or sent what is no packet.
    pub(crate) fn read(&mut self, packets: &mut impl FnMut(&mut [u8])) -> io::Result<bool> {
        match self.stream.read(self.reader.room()) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.reader.filled(length);
                while let Some(packet) = self.reader.next_packet()? {
                    packets(packet);
                }
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Queues one packet and returns whether there was room for it.
    pub(crate) fn send(&mut self, packet: &[u8]) -> bool {
        self.writer.push(packet)
    }

    /// Writes what is queued and returns whether something is left, for when the socket is writable.
    /// The error is final.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        while !self.writer.pending().is_empty() {
            match self.stream.write(self.writer.pending()) {
                Ok(length) => self.writer.written(length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

impl AsRawFd for PacketPeer {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

fn listen(path: &Path) -> io::Result<(std::os::unix::net::UnixListener, u64)> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // On Linux the file gets the mode of the socket; elsewhere the second call gives it.
    set_mode(socket.as_fd())?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let inode = fs::symlink_metadata(path)?.ino();
    Ok((socket.into(), inode))
}

/// Removes a socket that nobody listens on, and nothing else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, "the path exists and is no socket"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another process listens there")),
    }
}

fn set_mode(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: changes the mode of an open descriptor.
    if unsafe { libc::fchmod(socket.as_raw_fd(), 0o600) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn peer_user(stream: BorrowedFd<'_>) -> io::Result<u32> {
    let mut credentials = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the option writes at most `length` octets of that structure, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(credentials.uid)
}

#[cfg(not(target_os = "linux"))]
fn peer_user(stream: BorrowedFd<'_>) -> io::Result<u32> {
    let (mut user, mut group) = (u32::MAX, u32::MAX);
    // SAFETY: the call writes the two numbers, which outlive it.
    if unsafe { libc::getpeereid(stream.as_raw_fd(), &raw mut user, &raw mut group) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(user)
}

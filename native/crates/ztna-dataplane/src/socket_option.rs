//! Options of sockets that no library of ours has a name for.

use std::ffi::c_int;
use std::io;
use std::os::fd::AsRawFd;

/// Sets an option whose value is an integer.
pub(crate) fn set(
    socket: &impl AsRawFd,
    level: c_int,
    name: c_int,
    value: c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the kernel reads one
    // `c_int` from a pointer to one.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Returns the value of an option whose value is an integer.
#[cfg(test)]
pub(crate) fn get(socket: &impl AsRawFd, level: c_int, name: c_int) -> c_int {
    let mut value = -1;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and both pointers are to variables of the type and size that
    // the kernel writes.
    let outcome = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut length)
    };
    assert_eq!(outcome, 0);
    value
}

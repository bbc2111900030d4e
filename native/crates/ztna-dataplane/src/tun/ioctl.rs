//! The requests of a TUN device and of an interface's addresses, one safe function each.
//!
//! Plain `ioctl`: the device is opened with offloads, which no library hands over, and configured
//! without an `ip` program on the machine.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

const TUNSETIFF: libc::Ioctl = 0x4004_54CA;
const TUNGETIFF: libc::Ioctl = 0x8004_54D2_u32 as libc::Ioctl;
const TUNSETOFFLOAD: libc::Ioctl = 0x4004_54D0;
const TUNSETVNETHDRSZ: libc::Ioctl = 0x4004_54D8;

/// `TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6`.
pub(super) const OFFLOAD_TCP: libc::c_ulong = 0x01 | 0x02 | 0x04;
/// `TUN_F_USO4 | TUN_F_USO6`, since Linux 6.2.
pub(super) const OFFLOAD_UDP: libc::c_ulong = 0x20 | 0x40;

/// Room for an interface's name and the zero behind it.
pub(super) const NAME_MAX: usize = libc::IFNAMSIZ - 1;

/// `struct ifreq`: a name and the largest member of its union.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: Value,
}

#[repr(C)]
#[derive(Clone, Copy)]
union Value {
    flags: libc::c_short,
    number: libc::c_int,
    address: libc::sockaddr_in,
    room: [u64; 3],
}

impl Request {
    /// Names an interface, or tells that the name is too long or empty.
    pub(super) fn new(name: &str) -> io::Result<Self> {
        let valid = !name.is_empty()
            && name.len() <= NAME_MAX
            && name.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'/');
        if !valid {
            let detail = format!("an interface's name has 1 to {NAME_MAX} printable characters");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, detail));
        }
        let mut request = Self { name: [0; libc::IFNAMSIZ], value: Value { room: [0; 3] } };
        for (target, octet) in request.name.iter_mut().zip(name.bytes()) {
            *target = octet;
        }
        Ok(request)
    }

    fn name(&self) -> String {
        let name = self.name.split(|&octet| octet == 0).next().unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    }

    fn with_number(mut self, number: libc::c_int) -> Self {
        self.value.number = number;
        self
    }

    fn with_flags(mut self, flags: libc::c_short) -> Self {
        self.value.flags = flags;
        self
    }

    fn with_address(mut self, address: Ipv4Addr) -> Self {
        self.value.address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
            sin_zero: [0; 8],
        };
        self
    }

    fn number(&self) -> libc::c_int {
        // SAFETY: every bit pattern is an integer, and the request was zeroed or answered.
        unsafe { self.value.number }
    }

    fn flags(&self) -> libc::c_short {
        // SAFETY: every bit pattern is an integer, and the request was zeroed or answered.
        unsafe { self.value.flags }
    }
}

/// Attaches `/dev/net/tun` to a device, made if need be, and returns its name.
pub(super) fn attach(tun: BorrowedFd<'_>, name: &str, flags: libc::c_int) -> io::Result<String> {
    let mut request = Request::new(name)?.with_flags(flags as libc::c_short);
    call(tun, TUNSETIFF, &mut request)?;
    Ok(request.name())
}

/// Returns the name and flags of the device that a descriptor is attached to.
pub(super) fn attached(tun: BorrowedFd<'_>) -> io::Result<(String, libc::c_int)> {
    let mut request = Request { name: [0; libc::IFNAMSIZ], value: Value { room: [0; 3] } };
    call(tun, TUNGETIFF, &mut request)?;
    Ok((request.name(), libc::c_int::from(request.flags() as u16)))
}

/// Sets which super-segments and partial checksums the kernel may hand over.
pub(super) fn set_offload(tun: BorrowedFd<'_>, offload: libc::c_ulong) -> io::Result<()> {
    // SAFETY: this request takes its argument by value.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETOFFLOAD, offload) })
}

/// Sets the octets of the header before each packet.
pub(super) fn set_vnet_header_length(tun: BorrowedFd<'_>, length: libc::c_int) -> io::Result<()> {
    let mut length = length;
    call(tun, TUNSETVNETHDRSZ, &mut length)
}

/// Returns an interface's MTU.
pub(super) fn mtu(socket: BorrowedFd<'_>, name: &str) -> io::Result<i32> {
    let mut request = Request::new(name)?;
    call(socket, libc::SIOCGIFMTU as libc::Ioctl, &mut request)?;
    Ok(request.number())
}

/// Sets an interface's MTU.
pub(super) fn set_mtu(socket: BorrowedFd<'_>, name: &str, mtu: u16) -> io::Result<()> {
    let mut request = Request::new(name)?.with_number(mtu.into());
    call(socket, libc::SIOCSIFMTU as libc::Ioctl, &mut request)
}

/// Sets how many packets may wait for a reader.
pub(super) fn set_queue_length(socket: BorrowedFd<'_>, name: &str, packets: i32) -> io::Result<()> {
    let mut request = Request::new(name)?.with_number(packets);
    call(socket, libc::SIOCSIFTXQLEN as libc::Ioctl, &mut request)
}

/// Returns whether an interface is up.
pub(super) fn is_up(socket: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    let mut request = Request::new(name)?;
    call(socket, libc::SIOCGIFFLAGS as libc::Ioctl, &mut request)?;
    Ok(libc::c_int::from(request.flags()) & libc::IFF_UP != 0)
}

/// Brings an interface up.
pub(super) fn set_up(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut request = Request::new(name)?;
    call(socket, libc::SIOCGIFFLAGS as libc::Ioctl, &mut request)?;
    let flags = libc::c_int::from(request.flags()) | libc::IFF_UP | libc::IFF_RUNNING;
    let mut request = request.with_flags(flags as libc::c_short);
    call(socket, libc::SIOCSIFFLAGS as libc::Ioctl, &mut request)
}

/// Gives an interface, or an alias of it, an IPv4 address and the route to what shares its prefix.
pub(super) fn set_ipv4(
    socket: BorrowedFd<'_>,
    label: &str,
    address: Ipv4Addr,
    prefix: u8,
) -> io::Result<()> {
    let mut request = Request::new(label)?.with_address(address);
    call(socket, libc::SIOCSIFADDR as libc::Ioctl, &mut request)?;
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    let mut request = Request::new(label)?.with_address(Ipv4Addr::from(mask));
    call(socket, libc::SIOCSIFNETMASK as libc::Ioctl, &mut request)
}

/// Returns the number by which netlink knows an interface.
pub(super) fn index(socket: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let mut request = Request::new(name)?;
    call(socket, libc::SIOCGIFINDEX as libc::Ioctl, &mut request)?;
    Ok(request.number().unsigned_abs())
}

fn call<T>(descriptor: BorrowedFd<'_>, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: each caller pairs a request with the structure that it reads and writes, which lives
    // until the call returns.
    check(unsafe { libc::ioctl(descriptor.as_raw_fd(), request, std::ptr::from_mut(argument)) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_size_that_the_kernel_reads() {
        assert_eq!(size_of::<Request>(), size_of::<libc::ifreq>());
    }

    #[test]
    fn a_name_has_at_most_fifteen_characters() {
        assert_eq!(Request::new("abcdefghijklmno").unwrap().name(), "abcdefghijklmno");
        for name in ["abcdefghijklmnop", "", "a b", "a/b"] {
            assert!(Request::new(name).is_err(), "{name:?}");
        }
    }
}

//! Adds an IPv6 address that can be used when the call returns.
//!
//! The kernel finishes adding one behind the caller's back: until a worker of its own has been there,
//! a `connect` fails (which netlink can avoid, and `ioctl` cannot) and packets to the address are
//! taken for somebody else's. The route by which they are ours is the sign that it was there.

use std::io::{self, ErrorKind};
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// For a kernel that does not tell of its routes; the worker takes microseconds if it is not starved.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Octets of `struct nlmsghdr` and of `struct ifaddrmsg`.
const HEADER: usize = 16;
const BODY: usize = 8;

/// Gives the interface, which is up, an address and the route to what shares its prefix.
pub(super) fn add_ipv6(index: u32, address: Ipv6Addr, prefix: u8) -> io::Result<()> {
    let socket = socket2::Socket::new(
        socket2::Domain::from(libc::AF_NETLINK),
        socket2::Type::RAW,
        Some(socket2::Protocol::from(libc::NETLINK_ROUTE)),
    )?;
    socket.set_read_timeout(Some(WAIT_MAX))?;
    let socket = OwnedFd::from(socket);
    hear_of_routes(&socket)?;
    let message = new_address(index, address, prefix);
    // SAFETY: the message outlives the call, which reads as many octets as it has.
    let sent = unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }

    let mut acknowledged = false;
    let mut ours = false;
    while !acknowledged || !ours {
        let mut answer = [0_u8; 1_024];
        // SAFETY: the buffer outlives the call, which writes at most as many octets as it has.
        let length =
            unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return if acknowledged { Ok(()) } else { Err(error) };
        };
        match read_answer(answer.get(..length).unwrap_or_default(), address) {
            Answer::Result(result) => {
                result?;
                acknowledged = true;
            }
            Answer::AddressIsOurs => ours = true,
            Answer::Other => {}
        }
    }
    Ok(())
}

#[derive(Debug)]
enum Answer {
    Result(io::Result<()>),
    AddressIsOurs,
    Other,
}

fn hear_of_routes(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: all zeros are a valid address of this family.
    let mut local: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    local.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    local.nl_groups = libc::RTMGRP_IPV6_ROUTE as u32;
    let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: the address outlives the call, which reads `length` octets of it.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const local).cast(), length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Returns an `RTM_NEWADDR` request, acknowledged, for a permanent address without duplicate detection.
fn new_address(index: u32, address: Ipv6Addr, prefix: u8) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(libc::RTM_NEWADDR.to_ne_bytes());
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    let address_flags = libc::IFA_F_NODAD | libc::IFA_F_PERMANENT;
    message.extend([libc::AF_INET6 as u8, prefix, address_flags as u8, 0]);
    message.extend(index.to_ne_bytes());
    debug_assert_eq!(message.len(), HEADER + BODY);
    // RFC 3549 §2.2: length with header, type, value; 16 octets need no padding.
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        message.extend(20_u16.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(address.octets());
    }
    let length = (message.len() as u32).to_ne_bytes();
    for (target, octet) in message.iter_mut().zip(length) {
        *target = octet;
    }
    message
}

/// Reads the `NLMSG_ERROR` that answers the request, zero or a negative error number, or the news of
/// a route.
fn read_answer(answer: &[u8], address: Ipv6Addr) -> Answer {
    let kind = answer.get(4..).and_then(<[u8]>::first_chunk).map(|kind| u16::from_ne_bytes(*kind));
    let body = answer.get(HEADER..).unwrap_or_default();
    match kind {
        Some(kind) if i32::from(kind) == libc::NLMSG_ERROR => {
            Answer::Result(match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
                Some(0) => Ok(()),
                Some(error) => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
                None => Err(io::Error::new(ErrorKind::InvalidData, "the kernel's answer is cut")),
            })
        }
        // `struct rtmsg` has the length of the destination second and the type of the route eighth.
        Some(libc::RTM_NEWROUTE)
            if body.get(1) == Some(&128)
                && body.get(7) == Some(&libc::RTN_LOCAL)
                && body.windows(16).any(|octets| octets == address.octets()) =>
        {
            Answer::AddressIsOurs
        }
        _ => Answer::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_does_not_exist_is_reported_with_the_kernels_own_error() {
        let error = add_ipv6(u32::MAX >> 1, Ipv6Addr::LOCALHOST, 128).unwrap_err();

        let expected = [libc::ENODEV, libc::EPERM];
        assert!(error.raw_os_error().is_some_and(|code| expected.contains(&code)), "{error}");
    }

    #[test]
    fn an_answer_that_is_cut_is_no_success() {
        let mut cut = [0; HEADER];
        cut[4..6].copy_from_slice(&(libc::NLMSG_ERROR as u16).to_ne_bytes());

        let read = |answer| read_answer(answer, Ipv6Addr::LOCALHOST);
        assert!(matches!(read(&cut), Answer::Result(Err(_))));
        assert!(matches!(read(&[]), Answer::Other));
    }
}

//! UDP and ICMP echo: finds the datagrams in packets and builds packets around answers.
//!
//! - **A checksum that nobody vouches for is verified.** On a device with offload the kernel's own
//!   packets carry partial sums and are taken as they are.
//! - **A UDP super-packet is split here**, by slicing: each datagram is handed on without a copy.
//! - What is built carries whole checksums, so that it suits every device.

use std::net::{IpAddr, SocketAddr};

use super::counters::TerminationCounters;
use super::ip::{ICMPV4, ICMPV6, IPV4_HEADER, UDP};
use super::octets::{fold, pseudo_header, put, sum, u8_at, u16_at};
use crate::tun::vnet::VnetHeader;

/// What kind of datagram it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum DatagramKind {
    /// RFC 768.
    Udp,
    /// An ICMP or ICMPv6 echo request; both ports of its addresses are 0.
    Echo {
        /// Names the series.
        identifier: u16,
        /// Counts within the series.
        sequence: u16,
    },
}

/// A datagram that an application sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Datagram<'a> {
    /// UDP or echo.
    pub kind: DatagramKind,
    /// The application.
    pub source: SocketAddr,
    /// The virtual address.
    pub destination: SocketAddr,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Why a destination cannot be reached, as ICMP tells it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unreachable {
    /// Nobody listens on the port.
    Port,
    /// Nobody answers at the address.
    Host,
}

/// Octets of a UDP and of an echo header.
const TRANSPORT_HEADER: usize = 8;

const HOP_LIMIT: u8 = 64;
/// Packets up to this size are never fragmented on the way (RFC 8200 §5) and need no identification.
const ATOMIC_MAX: usize = 1_280;

/// Hands the datagrams in `transport` to `datagrams`.
pub(super) fn classify(
    protocol: u8,
    (source, destination): (IpAddr, IpAddr),
    transport: &[u8],
    header: VnetHeader,
    counters: &mut TerminationCounters,
    datagrams: &mut impl FnMut(Datagram<'_>),
) {
    let ends = (source, destination);
    let taken = match protocol {
        UDP => udp(ends, transport, header, counters, datagrams),
        ICMPV4 | ICMPV6 => echo(protocol, ends, transport, header, counters, datagrams),
        _ => {
            counters.unsupported += 1;
            Some(())
        }
    };
    if taken.is_none() {
        counters.malformed += 1;
    }
}

fn udp(
    (source, destination): (IpAddr, IpAddr),
    transport: &[u8],
    header: VnetHeader,
    counters: &mut TerminationCounters,
    datagrams: &mut impl FnMut(Datagram<'_>),
) -> Option<()> {
    let length = usize::from(u16_at(transport, 4)?);
    let transport = transport.get(..length)?;
    let payload = transport.get(TRANSPORT_HEADER..)?;
    let source = SocketAddr::new(source, u16_at(transport, 0)?);
    let destination = SocketAddr::new(destination, u16_at(transport, 2)?);
    if destination.port() == 0 {
        return None;
    }
    if !header.checksum_is_good() {
        // RFC 768: 0 is no checksum; RFC 8200 §8.1 forbids that in IPv6.
        let absent = u16_at(transport, 6)? == 0;
        let wrong = || {
            fold(sum(transport, pseudo_header(source.ip(), destination.ip(), UDP, length)))
                != 0xFFFF
        };
        if if absent { source.is_ipv6() } else { wrong() } {
            counters.bad_checksum += 1;
            return Some(());
        }
    }

    let size = header.udp_segment().map_or(payload.len(), usize::from).max(1);
    let mut rest = payload;
    loop {
        let (payload, behind) = rest.split_at_checked(size).unwrap_or((rest, &[]));
        counters.datagrams_in += 1;
        datagrams(Datagram { kind: DatagramKind::Udp, source, destination, payload });
        rest = behind;
        if rest.is_empty() {
            return Some(());
        }
    }
}

fn echo(
    protocol: u8,
    (source, destination): (IpAddr, IpAddr),
    transport: &[u8],
    header: VnetHeader,
    counters: &mut TerminationCounters,
    datagrams: &mut impl FnMut(Datagram<'_>),
) -> Option<()> {
    let payload = transport.get(TRANSPORT_HEADER..)?;
    let request = match (protocol, source.is_ipv4()) {
        (ICMPV4, true) => 8,
        (ICMPV6, false) => 128,
        _ => return None,
    };
    if u8_at(transport, 0)? != request || u8_at(transport, 1)? != 0 {
        counters.unsupported += 1;
        return Some(());
    }
    if !header.checksum_is_good() {
        let pseudo = if protocol == ICMPV6 {
            pseudo_header(source, destination, ICMPV6, transport.len())
        } else {
            0
        };
        if fold(sum(transport, pseudo)) != 0xFFFF {
            counters.bad_checksum += 1;
            return Some(());
        }
    }

    let kind =
        DatagramKind::Echo { identifier: u16_at(transport, 4)?, sequence: u16_at(transport, 6)? };
    let source = SocketAddr::new(source, 0);
    let destination = SocketAddr::new(destination, 0);
    counters.datagrams_in += 1;
    datagrams(Datagram { kind, source, destination, payload });
    Some(())
}

/// Builds a UDP packet into `out`, or returns `None` when the families differ or it exceeds an IP packet.
pub(super) fn build_udp(
    source: SocketAddr,
    destination: SocketAddr,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Option<VnetHeader> {
    let length = u16::try_from(TRANSPORT_HEADER + payload.len()).ok()?;
    let transport = ip_header(source.ip(), destination.ip(), UDP, usize::from(length), out)?;
    out.extend(source.port().to_be_bytes());
    out.extend(destination.port().to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend([0, 0]);
    out.extend_from_slice(payload);
    let pseudo = pseudo_header(source.ip(), destination.ip(), UDP, usize::from(length));
    // RFC 768: a sum of zero goes out as all ones.
    finish_checksum(out, transport, 6, pseudo, 0xFFFF);
    Some(VnetHeader::PLAIN)
}

/// Builds an echo reply into `out`; see [`build_udp`].
pub(super) fn build_echo_reply(
    source: IpAddr,
    destination: IpAddr,
    (identifier, sequence): (u16, u16),
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Option<VnetHeader> {
    let reply = if source.is_ipv4() { 0 } else { 129 };
    let [i0, i1] = identifier.to_be_bytes();
    let [s0, s1] = sequence.to_be_bytes();
    build_icmp(source, destination, [reply, 0, 0, 0, i0, i1, s0, s1], payload, out)
}

/// Builds the ICMP error that answers the packet that begins with `quoted`.
pub(super) fn build_unreachable(
    unreachable: Unreachable,
    source: IpAddr,
    destination: IpAddr,
    quoted: &[u8],
    out: &mut Vec<u8>,
) -> Option<VnetHeader> {
    let (kind, code) = match (source.is_ipv4(), unreachable) {
        // RFC 792.
        (true, Unreachable::Port) => (3, 3),
        (true, Unreachable::Host) => (3, 1),
        // RFC 4443 §3.1.
        (false, Unreachable::Port) => (1, 4),
        (false, Unreachable::Host) => (1, 3),
    };
    // The answer comes from the address that was asked for.
    build_icmp(destination, source, [kind, code, 0, 0, 0, 0, 0, 0], quoted, out)
}

/// Builds the headers of the datagram that an ICMP error quotes.
pub(super) fn quote(
    kind: DatagramKind,
    source: SocketAddr,
    destination: SocketAddr,
    out: &mut Vec<u8>,
) -> Option<()> {
    match kind {
        DatagramKind::Udp => build_udp(source, destination, &[], out).map(drop),
        DatagramKind::Echo { identifier, sequence } => {
            let request = if source.is_ipv4() { 8 } else { 128 };
            let [i0, i1] = identifier.to_be_bytes();
            let [s0, s1] = sequence.to_be_bytes();
            let header = [request, 0, 0, 0, i0, i1, s0, s1];
            build_icmp(source.ip(), destination.ip(), header, &[], out).map(drop)
        }
    }
}

fn build_icmp(
    source: IpAddr,
    destination: IpAddr,
    header: [u8; TRANSPORT_HEADER],
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Option<VnetHeader> {
    let length = header.len() + payload.len();
    let protocol = if source.is_ipv4() { ICMPV4 } else { ICMPV6 };
    let transport = ip_header(source, destination, protocol, length, out)?;
    out.extend(header);
    out.extend_from_slice(payload);
    let pseudo = match source {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => pseudo_header(source, destination, protocol, length),
    };
    finish_checksum(out, transport, 2, pseudo, 0);
    Some(VnetHeader::PLAIN)
}

/// Writes an IP header into the emptied `out` and returns its length.
fn ip_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
    out: &mut Vec<u8>,
) -> Option<usize> {
    out.clear();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = u16::try_from(IPV4_HEADER + length).ok()?;
            let atomic = usize::from(total) <= ATOMIC_MAX;
            out.extend([0x45, 0]);
            out.extend(total.to_be_bytes());
            // The identification of what may be fragmented is written with its checksum.
            out.extend([0, 0, if atomic { 0x40 } else { 0 }, 0, HOP_LIMIT, protocol, 0, 0]);
            out.extend(source.octets());
            out.extend(destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            out.extend([0x60, 0, 0, 0]);
            out.extend(u16::try_from(length).ok()?.to_be_bytes());
            out.extend([protocol, HOP_LIMIT]);
            out.extend(source.octets());
            out.extend(destination.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    }
    Some(out.len())
}

/// Writes the transport checksum, and what depends on it in an IPv4 header.
fn finish_checksum(packet: &mut [u8], transport: usize, field: usize, pseudo: u64, if_zero: u16) {
    let folded = !fold(sum(packet.get(transport..).unwrap_or_default(), pseudo));
    let checksum = if folded == 0 { if_zero } else { folded };
    put(packet, transport + field, &checksum.to_be_bytes());
    if transport != IPV4_HEADER {
        return;
    }
    if packet.len() > ATOMIC_MAX {
        // Differs between datagrams with different contents, which is all that keeps fragments of one
        // from being joined with those of another (RFC 6864 §4).
        put(packet, 4, &checksum.to_be_bytes());
    }
    let header = !fold(sum(packet.get(..IPV4_HEADER).unwrap_or_default(), 0));
    put(packet, 10, &header.to_be_bytes());
}

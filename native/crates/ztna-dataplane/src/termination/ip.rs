//! What the headers of an IP packet say: who talks to whom, and where the transport begins.
//!
//! - **Only unicast is served.** Unspecified, loopback, multicast and broadcast addresses are
//!   martians on a point-to-point device.
//! - **IPv6 extension headers are walked**, at most [`EXTENSION_HEADERS_MAX`] of them; a routing
//!   header that still has segments left is refused (RFC 8200 §4.4: we are not a router).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::octets::{fold, put, sum, u8_at, u16_at, u32_at};

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMPV4: u8 = 1;
pub(super) const ICMPV6: u8 = 58;

pub(super) const IPV4_HEADER: usize = 20;
pub(super) const IPV6_HEADER: usize = 40;

/// More than any sender chains: RFC 8200 §4.1 lists six kinds, each once, destination options twice.
const EXTENSION_HEADERS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// A parsed packet. `transport..total` lies inside the packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct IpPacket {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// Of the transport; of a fragment, of the whole.
    pub(super) protocol: u8,
    /// Where the transport header begins.
    pub(super) transport: usize,
    /// Octets of the packet; what follows them is padding.
    pub(super) total: usize,
    pub(super) fragment: Option<Fragment>,
}

/// One piece of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fragment {
    pub(super) identification: u32,
    pub(super) offset: usize,
    pub(super) more: bool,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum IpError {
    Malformed,
    Martian,
}

/// Parses the headers.
pub(super) fn parse(packet: &[u8]) -> Result<IpPacket, IpError> {
    let parsed = match u8_at(packet, 0).map(|octet| octet >> 4) {
        Some(4) => parse_v4(packet),
        Some(6) => parse_v6(packet),
        _ => None,
    }
    .ok_or(IpError::Malformed)?;
    if !is_host(parsed.source) || !is_host(parsed.destination) {
        return Err(IpError::Martian);
    }

    Ok(parsed)
}

/// Makes an IPv6 packet with extension headers one without, in place, and returns where it begins.
/// An IPv4 packet, and one without extension headers, begins at 0.
pub(super) fn strip_extension_headers(packet: &mut [u8], parsed: &IpPacket) -> usize {
    let start = parsed.transport.saturating_sub(IPV6_HEADER);
    if parsed.source.is_ipv4() || start == 0 || packet.len() < parsed.transport {
        return 0;
    }
    let length = u16::try_from(parsed.total - parsed.transport).unwrap_or(u16::MAX);
    packet.copy_within(..IPV6_HEADER, start);
    put(packet, start + 4, &length.to_be_bytes());
    put(packet, start + 6, &[parsed.protocol]);
    start
}

fn parse_v4(packet: &[u8]) -> Option<IpPacket> {
    let transport = usize::from(u8_at(packet, 0)? & 0x0F) * 4;
    let total = usize::from(u16_at(packet, 2)?);
    if transport < IPV4_HEADER || total < transport || total > packet.len() {
        return None;
    }
    if fold(sum(packet.get(..transport)?, 0)) != 0xFFFF {
        return None;
    }
    let fragmentation = u16_at(packet, 6)?;
    let offset = usize::from(fragmentation & 0x1FFF) * 8;
    let more = fragmentation & 0x2000 != 0;
    Some(IpPacket {
        source: IpAddr::V4(Ipv4Addr::from(u32_at(packet, 12)?)),
        destination: IpAddr::V4(Ipv4Addr::from(u32_at(packet, 16)?)),
        protocol: u8_at(packet, 9)?,
        transport,
        total,
        fragment: (more || offset > 0).then_some(Fragment {
            identification: u32::from(u16_at(packet, 4)?),
            offset,
            more,
        }),
    })
}

fn parse_v6(packet: &[u8]) -> Option<IpPacket> {
    let total = IPV6_HEADER + usize::from(u16_at(packet, 4)?);
    if total > packet.len() {
        return None;
    }
    let packet = packet.get(..total)?;
    let source = Ipv6Addr::from(*packet.get(8..)?.first_chunk::<16>()?);
    let destination = Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?);
    let mut protocol = u8_at(packet, 6)?;
    let mut transport = IPV6_HEADER;
    let mut fragment = None;
    for _ in 0..EXTENSION_HEADERS_MAX {
        let length = match protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS => {
                (usize::from(u8_at(packet, transport + 1)?) + 1) * 8
            }
            ROUTING if u8_at(packet, transport + 3)? == 0 => {
                (usize::from(u8_at(packet, transport + 1)?) + 1) * 8
            }
            FRAGMENT if fragment.is_none() => {
                let fragmentation = u16_at(packet, transport + 2)?;
                let piece = Fragment {
                    identification: u32_at(packet, transport + 4)?,
                    offset: usize::from(fragmentation & 0xFFF8),
                    more: fragmentation & 1 != 0,
                };
                // An atomic fragment is a whole packet (RFC 6946).
                fragment = Some(piece).filter(|piece| piece.more || piece.offset > 0);
                8
            }
            ROUTING | FRAGMENT => return None,
            _ => break,
        };
        protocol = u8_at(packet, transport)?;
        transport += length;
        if transport > total {
            return None;
        }
        // What follows a fragment header is a piece of data, and headers only in the first piece.
        if fragment.is_some() {
            break;
        }
    }
    if fragment.is_none() && is_extension(protocol) {
        return None;
    }
    Some(IpPacket {
        source: source.into(),
        destination: destination.into(),
        protocol,
        transport,
        total,
        fragment,
    })
}

const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

fn is_host(address: IpAddr) -> bool {
    let special = address.is_unspecified() || address.is_loopback() || address.is_multicast();
    !special && !matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_packet_is_found_behind_its_extension_headers_and_freed_of_them() {
        let mut packet = v6(HOP_BY_HOP, &[TCP, 0, 1, 4, 0, 0, 0, 0, 0xAA, 0xBB]);

        let parsed = parse(&packet).unwrap();
        assert_eq!((parsed.protocol, parsed.transport, parsed.total), (TCP, 48, 50));

        let start = strip_extension_headers(&mut packet, &parsed);
        let stripped = parse(&packet[start..]).unwrap();
        assert_eq!((stripped.protocol, stripped.transport, stripped.total), (TCP, 40, 42));
        assert_eq!(&packet[start + 40..], [0xAA, 0xBB]);
    }

    #[test]
    fn a_routing_header_with_segments_left_is_refused() {
        assert_eq!(parse(&v6(ROUTING, &[TCP, 0, 0, 1, 0, 0, 0, 0])), Err(IpError::Malformed));
        assert!(parse(&v6(ROUTING, &[TCP, 0, 0, 0, 0, 0, 0, 0])).is_ok());
    }

    #[test]
    fn a_chain_of_extension_headers_has_an_end() {
        let chain = |headers: usize| {
            let mut chain = [HOP_BY_HOP, 0, 1, 4, 0, 0, 0, 0].repeat(headers);
            chain[(headers - 1) * 8] = TCP;
            v6(HOP_BY_HOP, &chain)
        };

        assert_eq!(parse(&chain(EXTENSION_HEADERS_MAX)).map(|it| it.protocol), Ok(TCP));
        assert_eq!(parse(&chain(EXTENSION_HEADERS_MAX + 1)), Err(IpError::Malformed));
    }

    #[test]
    fn extension_headers_behind_an_atomic_fragment_are_walked() {
        let headers = [DESTINATION_OPTIONS, 0, 0, 0, 0, 0, 0, 7, UDP, 0, 1, 4, 0, 0, 0, 0];
        let cut = [HOP_BY_HOP, 0, 0, 0, 0, 0, 0, 7, UDP, 1, 1, 4, 0, 0, 0, 0];

        let parsed = parse(&v6(FRAGMENT, &headers)).unwrap();

        assert_eq!((parsed.fragment, parsed.protocol, parsed.transport), (None, UDP, 56));
        assert_eq!(parse(&v6(FRAGMENT, &cut)), Err(IpError::Malformed));
    }

    #[test]
    fn a_fragment_header_tells_the_piece_and_an_atomic_fragment_is_whole() {
        let piece = parse(&v6(FRAGMENT, &[UDP, 0, 0, 9, 0, 0, 0, 7])).unwrap();
        let atomic = parse(&v6(FRAGMENT, &[UDP, 0, 0, 0, 0, 0, 0, 7])).unwrap();

        let fragment = Fragment { identification: 7, offset: 8, more: true };
        assert_eq!(piece.fragment, Some(fragment));
        assert_eq!((atomic.fragment, atomic.protocol), (None, UDP));
    }

    #[test]
    fn martians_are_told_from_malformed_packets() {
        let mut packet = v6(TCP, &[]);
        packet[24] = 0xFF;
        assert_eq!(parse(&packet), Err(IpError::Martian));
        assert_eq!(parse(&packet[..39]), Err(IpError::Malformed));
        assert_eq!(parse(&[]), Err(IpError::Malformed));
        assert_eq!(parse(&[0x50; 60]), Err(IpError::Malformed));
    }

    fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next_header, 64];
        packet[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        packet.extend("fd00::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("fd00::2".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(payload);
        packet
    }
}

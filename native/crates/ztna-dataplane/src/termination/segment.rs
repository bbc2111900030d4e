//! TCP headers: what a segment says, the SYN that is kept while its fate is open, and the checksum
//! and segmentation state of what goes out.
//!
//! - **Super-segments need no support from the TCP stack**: the maximum segment size in the SYN that
//!   the stack sees is raised to what an IP packet holds, and each packet that exceeds what the peer
//!   really asked for is marked so that the kernel cuts it.
//! - **A kept SYN is small**: its headers only; data in it is acknowledged by nobody and comes again.

use std::net::{IpAddr, SocketAddr};

use super::ip::{IPV4_HEADER, IPV6_HEADER, IpPacket, TCP};
use super::octets::{fold, pseudo_header, put, sum, u8_at, u16_at, u32_at};
use crate::tun::vnet::VnetHeader;

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// Octets of a TCP header without options.
pub(super) const TCP_HEADER: usize = 20;
/// An IPv4 header and a TCP header, both with all the options that fit.
const SYN_MAX: usize = 120;
/// What a SYN without the option asks for (RFC 9293 §3.7.1).
const MSS_DEFAULT_V4: u16 = 536;
const MSS_DEFAULT_V6: u16 = 1_220;
const OPTION_END: u8 = 0;
const OPTION_PADDING: u8 = 1;
const OPTION_MSS: u8 = 2;

/// Both ends of a TCP connection: the application's, and the virtual one it asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct FlowKey {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// A parsed segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Segment {
    pub(super) key: FlowKey,
    pub(super) sequence: u32,
    pub(super) flags: u8,
    /// Octets of the TCP header.
    pub(super) header: usize,
    /// Sequence number behind the last octet of data.
    pub(super) data_end: u32,
}

/// A SYN without its data, that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldSyn {
    octets: [u8; SYN_MAX],
    length: usize,
    /// The largest segment that the application's side takes.
    pub(super) mss: u16,
    pub(super) sequence: u32,
}

impl Segment {
    /// Reads the header behind `packet.transport`.
    pub(super) fn parse(octets: &[u8], packet: &IpPacket) -> Option<Self> {
        let tcp = octets.get(packet.transport..packet.total)?;
        let header = usize::from(u8_at(tcp, 12)? >> 4) * 4;
        let source = SocketAddr::new(packet.source, u16_at(tcp, 0)?);
        let destination = SocketAddr::new(packet.destination, u16_at(tcp, 2)?);
        if header < TCP_HEADER
            || header > tcp.len()
            || source.port() == 0
            || destination.port() == 0
        {
            return None;
        }

        let sequence = u32_at(tcp, 4)?;
        let data = u32::try_from(tcp.len() - header).ok()?;
        Some(Self {
            key: FlowKey { source, destination },
            sequence,
            flags: u8_at(tcp, 13)?,
            header,
            data_end: sequence.wrapping_add(data),
        })
    }

    /// Returns whether this opens a connection.
    pub(super) const fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }
}

/// Returns whether the TCP checksum is right.
pub(super) fn checksum_holds(octets: &[u8], packet: &IpPacket) -> bool {
    let tcp = octets.get(packet.transport..packet.total).unwrap_or_default();
    fold(sum(tcp, pseudo_header(packet.source, packet.destination, TCP, tcp.len()))) == 0xFFFF
}

impl HeldSyn {
    /// Keeps the headers of a SYN and writes `mss_raised`, if any, into its MSS option. The packet has
    /// no IPv6 extension headers.
    pub(super) fn new(
        octets: &[u8],
        packet: &IpPacket,
        segment: &Segment,
        mss_raised: Option<u16>,
    ) -> Option<Self> {
        let length = packet.transport + segment.header;
        let mut syn = Self {
            octets: [0; SYN_MAX],
            length,
            mss: if packet.source.is_ipv4() { MSS_DEFAULT_V4 } else { MSS_DEFAULT_V6 },
            sequence: segment.sequence,
        };
        let kept = syn.octets.get_mut(..length)?;
        kept.copy_from_slice(octets.get(..length)?);
        if let Some(option) = find_mss(kept.get(packet.transport..)?) {
            let field = packet.transport + option;
            // Like Linux, which treats 0 as absent and takes nothing below 48 (`TCP_MIN_SND_MSS`).
            let asked = u16_at(kept, field)?;
            if asked > 0 {
                syn.mss = asked.max(48);
                put(kept, field, &mss_raised.unwrap_or(asked).to_be_bytes());
            }
        }

        let ip_length = match packet.source {
            IpAddr::V4(_) => {
                put(kept, 2, &u16::try_from(length).ok()?.to_be_bytes());
                put(kept, 10, &[0, 0]);
                let header = !fold(sum(kept.get(..packet.transport)?, 0));
                put(kept, 10, &header.to_be_bytes());
                packet.transport
            }
            IpAddr::V6(_) => {
                put(kept, 4, &u16::try_from(length - IPV6_HEADER).ok()?.to_be_bytes());
                IPV6_HEADER
            }
        };
        let checksum = ip_length + 16;
        put(kept, checksum, &[0, 0]);
        let pseudo = pseudo_header(packet.source, packet.destination, TCP, segment.header);
        let folded = !fold(sum(kept.get(ip_length..)?, pseudo));
        put(kept, checksum, &folded.to_be_bytes());
        Some(syn)
    }

    pub(super) fn packet(&self) -> &[u8] {
        self.octets.get(..self.length).unwrap_or_default()
    }
}

/// What a packet that goes out says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finished {
    pub(super) header: VnetHeader,
    pub(super) acknowledged: u32,
    pub(super) is_syn: bool,
}

/// Completes a TCP packet that the stack built, and says how the kernel is to send it. With offload
/// the checksum is left to it, and so is cutting data longer than `mss`.
pub(super) fn finish(packet: &mut [u8], offload: bool, mss: u16) -> Finished {
    let ip = if u8_at(packet, 0).is_some_and(|octet| octet >> 4 == 4) {
        IPV4_HEADER
    } else {
        IPV6_HEADER
    };
    let mut finished = Finished {
        header: VnetHeader::PLAIN,
        acknowledged: u32_at(packet, ip + 8).unwrap_or(0),
        is_syn: u8_at(packet, ip + 13).is_some_and(|flags| flags & SYN != 0),
    };
    if !offload {
        return finished;
    }
    let header = ip + usize::from(u8_at(packet, ip + 12).unwrap_or(0) >> 4) * 4;
    let length = packet.len().saturating_sub(ip);
    // Source and destination lie side by side before the IP header's end in both families.
    let addresses = if ip == IPV4_HEADER { packet.get(12..20) } else { packet.get(8..40) };
    let pseudo = sum(addresses.unwrap_or_default(), u64::from(TCP) + length as u64);
    put(packet, ip + 16, &fold(pseudo).to_be_bytes());
    finished.header = VnetHeader {
        flags: VnetHeader::FLAG_NEEDS_CSUM,
        hdr_len: header as u16,
        csum_start: ip as u16,
        csum_offset: 16,
        ..VnetHeader::PLAIN
    };
    if packet.len() > header + usize::from(mss) {
        finished.header.gso_type =
            if ip == IPV4_HEADER { VnetHeader::GSO_TCPV4 } else { VnetHeader::GSO_TCPV6 };
        finished.header.gso_size = mss;
    }
    finished
}

/// Returns where the value of the MSS option lies in a TCP header.
fn find_mss(header: &[u8]) -> Option<usize> {
    let mut at = TCP_HEADER;
    loop {
        match u8_at(header, at)? {
            OPTION_END => return None,
            OPTION_PADDING => at += 1,
            OPTION_MSS => {
                let whole = u8_at(header, at + 1)? == 4 && header.len() >= at + 4;
                return whole.then_some(at + 2);
            }
            // At least two octets each, so the walk ends.
            _ => at += usize::from(u8_at(header, at + 1)?).max(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::termination::ip;

    #[test]
    fn a_kept_syn_has_no_data_the_raised_mss_and_right_checksums() {
        for v6 in [false, true] {
            let packet = syn(v6, &[2, 4, 0x04, 0xD8, 1, 3, 3, 7], b"early");
            let parsed = ip::parse(&packet).unwrap();
            let segment = Segment::parse(&packet, &parsed).unwrap();
            assert!(segment.opens());

            let held = HeldSyn::new(&packet, &parsed, &segment, Some(65_475)).unwrap();

            let kept = ip::parse(held.packet()).unwrap();
            assert_eq!(held.mss, 1_240);
            assert_eq!(kept.total, held.packet().len());
            assert_eq!(kept.total, kept.transport + 28);
            assert!(checksum_holds(held.packet(), &kept));
            assert_eq!(u16_at(held.packet(), kept.transport + 22), Some(65_475));
        }
    }

    #[test]
    fn a_syn_without_or_with_a_useless_mss_option_asks_for_the_default() {
        for options in [&[][..], &[0, 0, 0, 0], &[1, 1, 2, 4], &[2, 4, 0, 0], &[3, 0, 0, 0]] {
            let packet = syn(false, options, b"");
            let parsed = ip::parse(&packet).unwrap();
            let segment = Segment::parse(&packet, &parsed).unwrap();

            let held = HeldSyn::new(&packet, &parsed, &segment, Some(65_495)).unwrap();

            assert_eq!(held.mss, MSS_DEFAULT_V4, "{options:?}");
        }
    }

    #[test]
    fn only_data_beyond_the_peers_segment_size_is_left_to_the_kernel_to_cut() {
        for (data, gso) in [(1_240, VnetHeader::PLAIN.gso_type), (1_241, VnetHeader::GSO_TCPV4)] {
            let mut packet = syn(false, &[], &vec![0; data]);

            let vnet = finish(&mut packet, true, 1_240).header;

            assert_eq!(vnet.gso_type, gso);
            assert_eq!((vnet.csum_start, vnet.csum_offset, vnet.hdr_len), (20, 16, 40));
        }
    }

    fn syn(v6: bool, options: &[u8], data: &[u8]) -> Vec<u8> {
        let length = (20 + options.len() + data.len()) as u16;
        let mut packet = if v6 {
            let [l0, l1] = length.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, l0, l1, 6, 64];
            header.extend("fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
            header.extend("fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
            header
        } else {
            let [l0, l1] = (length + 20).to_be_bytes();
            let mut header = vec![0x45, 0, l0, l1, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1];
            header.extend([10, 100, 0, 1]);
            let checksum = !fold(sum(&header, 0));
            put(&mut header, 10, &checksum.to_be_bytes());
            header
        };
        packet.extend([0x9C, 0x40, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0]);
        packet.extend([((20 + options.len()) as u8 / 4) << 4, SYN, 0xFF, 0xFF, 0, 0, 0, 0]);
        packet.extend(options);
        packet.extend(data);
        packet
    }
}

//! `virtio_net_hdr`: what travels before each packet of a TUN device that was opened with
//! `IFF_VNET_HDR`. It lets one read or write carry a super-segment and leave its checksum partial.
//!
//! ```text
//!  0       1          2          4          6            8             10
//!  +-------+----------+----------+----------+------------+-------------+
//!  | flags | gso type | hdr len  | gso size | csum start | csum offset |   native byte order
//!  +-------+----------+----------+----------+------------+-------------+
//! ```

/// Segmentation and checksum state of one packet.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct VnetHeader {
    /// `FLAG_*` bits.
    pub flags: u8,
    /// One of `GSO_*`, perhaps with [`VnetHeader::GSO_ECN`].
    pub gso_type: u8,
    /// Octets of all headers of a super-segment; a hint.
    pub hdr_len: u16,
    /// Payload octets of each segment of a super-segment.
    pub gso_size: u16,
    /// Where the checksum's coverage begins, if it is partial.
    pub csum_start: u16,
    /// Where the checksum lies, from `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Octets on the wire.
    pub(crate) const LENGTH: usize = 10;
    /// A whole packet with all checksums in place.
    pub(crate) const PLAIN: Self =
        Self { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };
    /// The transport checksum holds the pseudo-header's sum only.
    pub(crate) const FLAG_NEEDS_CSUM: u8 = 1;
    /// The transport checksum was verified by whoever received the packet.
    pub(crate) const FLAG_DATA_VALID: u8 = 2;
    /// TCP over IPv4.
    pub(crate) const GSO_TCPV4: u8 = 1;
    /// TCP over IPv6.
    pub(crate) const GSO_TCPV6: u8 = 4;
    /// UDP datagrams of equal size (USO).
    pub(crate) const GSO_UDP_L4: u8 = 5;
    /// Set beside `GSO_TCP*` when the segments carry ECN.
    pub(crate) const GSO_ECN: u8 = 0x80;

    /// Reads a header.
    pub(crate) const fn from_octets(octets: &[u8; Self::LENGTH]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *octets;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    /// Writes a header.
    pub(crate) const fn to_octets(self) -> [u8; Self::LENGTH] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// Returns whether the transport checksum need not be verified: it is partial (and the packet
    /// never left this machine), or somebody verified it.
    pub(crate) const fn checksum_is_good(self) -> bool {
        self.flags & (Self::FLAG_NEEDS_CSUM | Self::FLAG_DATA_VALID) != 0
    }

    /// Returns the size of each datagram of a UDP super-packet.
    pub(crate) const fn udp_segment(self) -> Option<u16> {
        if self.gso_type & !Self::GSO_ECN == Self::GSO_UDP_L4 && self.gso_size > 0 {
            Some(self.gso_size)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_the_wire() {
        let header = VnetHeader {
            flags: 1,
            gso_type: 4,
            hdr_len: 60,
            gso_size: 1220,
            csum_start: 40,
            csum_offset: 16,
        };

        assert_eq!(VnetHeader::from_octets(&header.to_octets()), header);
    }

    #[test]
    fn only_udp_super_packets_have_a_datagram_size() {
        let header =
            VnetHeader { gso_type: VnetHeader::GSO_UDP_L4, gso_size: 100, ..VnetHeader::PLAIN };

        assert_eq!(header.udp_segment(), Some(100));
        assert_eq!(VnetHeader { gso_size: 0, ..header }.udp_segment(), None);
        assert_eq!(VnetHeader { gso_type: 1, ..header }.udp_segment(), None);
    }
}

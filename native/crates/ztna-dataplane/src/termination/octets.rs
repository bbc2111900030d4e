//! Reads and writes fields of packets at fixed places, and the Internet checksum (RFC 1071).
//!
//! Nothing here panics: a place outside the packet reads as `None` and is not written.

use std::net::IpAddr;

pub(super) fn u8_at(octets: &[u8], offset: usize) -> Option<u8> {
    octets.get(offset).copied()
}

pub(super) fn u16_at(octets: &[u8], offset: usize) -> Option<u16> {
    octets.get(offset..)?.first_chunk().map(|field| u16::from_be_bytes(*field))
}

pub(super) fn u32_at(octets: &[u8], offset: usize) -> Option<u32> {
    octets.get(offset..)?.first_chunk().map(|field| u32::from_be_bytes(*field))
}

/// Writes `field` at `offset` if it fits.
pub(super) fn put(octets: &mut [u8], offset: usize, field: &[u8]) {
    let target = offset.checked_add(field.len()).and_then(|end| octets.get_mut(offset..end));
    if let Some(target) = target {
        target.copy_from_slice(field);
    }
}

/// Returns `sum` plus the 16-bit words of `octets`, not folded. Only the last part of what is summed
/// may have an odd length.
pub(super) fn sum(octets: &[u8], sum: u64) -> u64 {
    // Words of 32 bits add up to the same folded sum and take half the steps.
    let (words, rest) = octets.as_chunks::<4>();
    let mut total = sum;
    for word in words {
        total += u64::from(u32::from_be_bytes(*word));
    }
    let mut last = [0; 4];
    put(&mut last, 0, rest);
    total + u64::from(u32::from_be_bytes(last))
}

/// Folds a sum into 16 bits without inverting it.
pub(super) const fn fold(sum: u64) -> u16 {
    let mut sum = (sum & 0xFFFF_FFFF) + (sum >> 32);
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

/// Returns the sum of the pseudo-header of TCP, UDP and ICMPv6 (RFC 9293 §3.1, RFC 8200 §8.1).
pub(super) fn pseudo_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
) -> u64 {
    let addresses = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            sum(&destination.octets(), sum(&source.octets(), 0))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            sum(&destination.octets(), sum(&source.octets(), 0))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    };
    addresses + u64::from(protocol) + length as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_the_example_in_rfc_1071_is_reproduced() {
        let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];

        assert_eq!(fold(sum(&octets, 0)), 0xddf2);
    }

    #[test]
    fn an_odd_octet_counts_as_the_high_half_of_a_word() {
        assert_eq!(fold(sum(&[0x12], 0)), 0x1200);
        assert_eq!(fold(sum(&[0x12, 0x34, 0x56], 0)), 0x1234 + 0x5600);
    }

    #[test]
    fn a_place_outside_the_packet_is_neither_read_nor_written() {
        let mut octets = [1, 2, 3];

        put(&mut octets, 2, &[9, 9]);

        assert_eq!(octets, [1, 2, 3]);
        assert_eq!(u16_at(&octets, 2), None);
        assert_eq!(u32_at(&octets, usize::MAX), None);
    }
}

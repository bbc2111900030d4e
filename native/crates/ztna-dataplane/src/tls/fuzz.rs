//! What holds for any octets that are read as a certificate.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is the finding")]

use super::{leaf, leaf_info};

/// Returns whether the certificate could be read.
pub(crate) fn check_one_certificate(data: &[u8]) -> bool {
    let Ok(info) = leaf_info(data) else { return false };

    let again = leaf::parse(data).unwrap().to_der().unwrap();
    assert_eq!(again, data);
    assert_eq!(info.spki_sha256.len(), 64);
    let names = info.uris.iter().chain(&info.dns_names);
    assert!(names.map(String::len).sum::<usize>() <= data.len());
    assert!(info.ip_addresses.len() * 6 <= data.len());
    assert!(info.issuer.len() + info.serial.len() <= 2 * data.len());
    true
}

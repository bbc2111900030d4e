//! Reads a certificate, which may be hostile, into plain data.
//!
//! **A certificate that could be read in two ways is refused whole.** Its key must be encoded as
//! BoringSSL itself encodes it, so that one key has one SPKI hash and revoking it cannot be dodged by
//! another encoding. A URI or DNS name must be visible ASCII, so that "exactly one URI" counts every
//! URI there is. Nothing may follow the certificate.

use std::net::{Ipv4Addr, Ipv6Addr};

use boring::asn1::{Asn1Time, Asn1TimeRef};
use boring::error::ErrorStack;
use boring::pkey::{Id, PKeyRef, Public};
use boring::sha::sha256;
use boring::x509::{X509, X509Ref};

use super::x509;
use crate::event::LeafInfo;

/// SubjectAltNames of every kind that are read from one certificate. A handshake message, which quiche
/// holds to 64 KiB, has no room for more of any use.
pub(super) const NAMES_MAX: usize = 8_192;

/// Smallest RSA modulus that is taken: cert-manager's default.
pub(super) const RSA_BITS_MIN: u32 = 2_048;

/// Why a certificate cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct MalformedCertificate(&'static str);

/// Reads a certificate without judging it.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn leaf_info(der: &[u8]) -> Result<LeafInfo, MalformedCertificate> {
    let certificate = parse(der)?;
    read(&certificate)
}

pub(super) fn parse(der: &[u8]) -> Result<X509, MalformedCertificate> {
    if element_length(der) != Some(der.len()) {
        return Err(MalformedCertificate("not exactly one DER element"));
    }
    X509::from_der(der).map_err(|_| forget_errors("not an X.509 certificate"))
}

pub(super) fn read(certificate: &X509Ref) -> Result<LeafInfo, MalformedCertificate> {
    if !x509::extensions_are_valid(certificate) {
        return Err(forget_errors("an extension cannot be read or occurs twice"));
    }

    let usage = x509::extended_key_usage(certificate);
    let mut info = LeafInfo {
        spki_sha256: hex(&spki_hash(certificate)?),
        issuer: hex(&issuer_der(certificate)?),
        serial: hex(&serial(certificate)?),
        client_auth: usage.is_some_and(x509::has_client_auth),
        server_auth: usage.is_some_and(x509::has_server_auth),
        not_after: unix_time(certificate.not_after())?,
        ..LeafInfo::default()
    };
    read_names(certificate, &mut info)?;
    Ok(info)
}

/// Returns the SHA-256 of the key, whose encoding must be canonical.
pub(super) fn spki_hash(certificate: &X509Ref) -> Result<[u8; 32], MalformedCertificate> {
    let der = x509::spki_der(certificate).ok_or(MalformedCertificate("no public key"))?;
    let canonical = certificate
        .public_key()
        .and_then(|key| key.public_key_to_der())
        .map_err(|_| forget_errors("unreadable public key"))?;
    if der != canonical {
        return Err(MalformedCertificate("public key not in canonical encoding"));
    }
    Ok(sha256(&der))
}

pub(super) fn issuer_der(certificate: &X509Ref) -> Result<Vec<u8>, MalformedCertificate> {
    certificate.issuer_name().to_der().map_err(|_| forget_errors("unreadable issuer"))
}

/// Returns the serial number without leading zero octets; zero itself is one zero octet.
pub(super) fn serial(certificate: &X509Ref) -> Result<Vec<u8>, MalformedCertificate> {
    let number = certificate
        .serial_number()
        .to_bn()
        .map_err(|_| forget_errors("unreadable serial number"))?;
    if number.is_negative() {
        return Err(MalformedCertificate("negative serial number"));
    }
    let octets = number.to_vec();
    Ok(if octets.is_empty() { vec![0] } else { octets })
}

/// Returns seconds since 1970.
pub(super) fn unix_time(time: &Asn1TimeRef) -> Result<i64, MalformedCertificate> {
    let difference = Asn1Time::from_unix(0)
        .and_then(|epoch| epoch.diff(time))
        .map_err(|_| forget_errors("unreadable time"))?;
    Ok(i64::from(difference.days) * 86_400 + i64::from(difference.secs))
}

/// Says what is wrong with the kind or size of a leaf's key, if anything is.
pub(super) fn key_fault(key: &PKeyRef<Public>) -> Option<String> {
    match key.id() {
        Id::RSA | Id::RSAPSS if key.bits() < RSA_BITS_MIN => {
            Some(format!("RSA with {} bits, at least {RSA_BITS_MIN} are needed", key.bits()))
        }
        Id::RSA | Id::ED25519 => None,
        Id::EC if matches!(key.bits(), 256 | 384) => None,
        other => Some(format!("key type {} with {} bits", other.as_raw(), key.bits())),
    }
}

/// Lower-case hex.
pub(super) fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS.get(usize::from(value)).copied().unwrap_or(b'?'));
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 0xf)]).collect()
}

fn read_names(certificate: &X509Ref, info: &mut LeafInfo) -> Result<(), MalformedCertificate> {
    let Some(names) = certificate.subject_alt_names() else { return Ok(()) };
    if names.len() > NAMES_MAX {
        return Err(MalformedCertificate("too many subject alternative names"));
    }

    for name in &names {
        match x509::general_name_kind(name) {
            boring_sys::GEN_URI => info.uris.push(visible_ascii(name.uri())?),
            boring_sys::GEN_DNS => info.dns_names.push(visible_ascii(name.dnsname())?),
            boring_sys::GEN_IPADD => info.ip_addresses.push(ip_address(name.ipaddress())?),
            _ => {}
        }
    }
    Ok(())
}

fn visible_ascii(text: Option<&str>) -> Result<String, MalformedCertificate> {
    match text {
        Some(text) if text.bytes().all(|octet| octet.is_ascii_graphic()) => Ok(text.to_owned()),
        _ => Err(MalformedCertificate("a name has characters that are not visible ASCII")),
    }
}

fn ip_address(octets: Option<&[u8]>) -> Result<String, MalformedCertificate> {
    let octets = octets.unwrap_or_default();
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Ok(Ipv4Addr::from(v4).to_string());
    }
    if let Ok(v6) = <[u8; 16]>::try_from(octets) {
        return Ok(Ipv6Addr::from(v6).to_string());
    }
    Err(MalformedCertificate("an IP address has neither 4 nor 16 octets"))
}

/// Returns how long the SEQUENCE at the start of `der` is, header included.
fn element_length(der: &[u8]) -> Option<usize> {
    let (&[0x30, first], rest) = der.split_first_chunk::<2>()? else { return None };
    if first < 0x80 {
        return Some(2 + usize::from(first));
    }
    let count = usize::from(first & 0x7f);
    // 2^24 octets are more than any handshake message has.
    let octets = rest.get(..count).filter(|octets| (1..=3).contains(&octets.len()))?;
    let length = octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    Some(2 + count + length)
}

/// BoringSSL queues errors per thread, and quiche would find these later and blame another connection.
pub(super) fn forget_errors(what: &'static str) -> MalformedCertificate {
    drop(ErrorStack::get());
    MalformedCertificate(what)
}

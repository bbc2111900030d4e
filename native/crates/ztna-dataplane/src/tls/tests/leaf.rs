use super::*;
use crate::testing::pki::KeyKind;
use crate::tls::fuzz::check_one_certificate;
use crate::tls::leaf::{NAMES_MAX, leaf_info};

#[test]
fn a_leaf_says_what_was_put_into_it() {
    let ca = Authority::new("ca");
    let mut spec = LeafSpec::relay("r").dns("relay.example");
    spec.ip_addresses.push("2001:db8::1".to_owned());
    spec.uris.push("https://second.example/".to_owned());
    let identity = ca.issue(&spec);

    let info = leaf_info(&identity.chain_der()[0]).unwrap();

    let spki = identity.key().public_key_to_der().unwrap();
    assert_eq!(info.spki_sha256, crate::tls::leaf::hex(&boring::sha::sha256(&spki)));
    assert_eq!(info.issuer, "300d310b300906035504030c026361");
    assert_eq!(info.serial, "c0ffee");
    assert_eq!(info.uris, ["ztna://test/relay/r", "https://second.example/"]);
    assert_eq!(info.dns_names, ["localhost", "relay.example"]);
    assert_eq!(info.ip_addresses, ["127.0.0.1", "2001:db8::1"]);
    assert!(info.server_auth && !info.client_auth);
    assert_eq!(info.not_after, spec.not_after);
}

#[test]
fn an_absent_usage_is_no_usage_and_zero_is_a_serial() {
    let ca = Authority::new("ca");
    let spec = LeafSpec { client_auth: false, serial: 0, ..LeafSpec::agent("alice") };

    let info = leaf_info(&ca.issue(&spec).chain_der()[0]).unwrap();

    assert!(!info.client_auth && !info.server_auth);
    assert_eq!(info.serial, "00");
}

#[test]
fn names_that_are_not_visible_ascii_make_the_certificate_malformed() {
    let ca = Authority::new("ca");
    for name in ["ztna://t\u{e9}st", "a b", "a\nb", "\u{7f}"] {
        let mut uri = LeafSpec::agent("alice");
        uri.uris.push(name.to_owned());
        let dns = LeafSpec::agent("alice").dns(name);

        for spec in [uri, dns] {
            let error = leaf_info(&ca.issue(&spec).chain_der()[0]).unwrap_err();
            assert!(error.to_string().contains("visible ASCII"), "{name:?}: {error}");
        }
    }
}

#[test]
fn a_certificate_has_at_most_so_many_names() {
    let ca = Authority::new("ca");
    let read = |names: usize| {
        let dns_names = vec!["a".to_owned(); names];
        let spec = LeafSpec { uris: Vec::new(), dns_names, ..LeafSpec::agent("alice") };
        leaf_info(&ca.issue(&spec).chain_der()[0]).map(|info| info.dns_names.len())
    };

    assert_eq!(read(NAMES_MAX), Ok(NAMES_MAX));
    assert!(read(NAMES_MAX + 1).is_err());
}

#[test]
fn a_key_in_another_encoding_is_not_another_key() {
    let ca = Authority::new("ca");
    // The long name keeps every length in two octets.
    let identity = ca.issue(&LeafSpec::agent("alice").dns(&"a".repeat(255)));
    let mut der = identity.chain_der()[0].clone();
    let spki = identity.key().public_key_to_der().unwrap();
    let at = der.windows(spki.len()).position(|window| window == spki).unwrap();

    // SEQUENCE, algorithm, BIT STRING of 66 octets: the point becomes 02|03 and its x.
    let mut compressed = spki[..spki.len() - 65].to_vec();
    let point = &spki[spki.len() - 65..];
    compressed.push(2 | (point[64] & 1));
    compressed.extend(&point[1..33]);
    compressed[1] -= 32;
    let bit_string = compressed.len() - 35;
    compressed[bit_string] -= 32;
    der.splice(at..at + spki.len(), compressed);
    shorten(&mut der, 0, 32);
    shorten(&mut der, 4, 32);

    let error = leaf_info(&der).unwrap_err();

    assert_eq!(error.to_string(), "public key not in canonical encoding");
}

#[test]
fn hostile_certificates_neither_panic_nor_grow_and_those_read_have_one_encoding() {
    let seed = std::env::var("SEED").map_or(0x5eed, |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let ca = Authority::new("ca");
    let corpus: Vec<Vec<u8>> = [KeyKind::P256, KeyKind::Ed25519, KeyKind::Rsa(2_048)]
        .map(|kind| ca.issue(&LeafSpec::relay("r").with_key(kind)).chain_der().remove(0))
        .into_iter()
        .chain([ca.der()])
        .collect();
    let mut read = 0;

    for round in 0..200_000_u32 {
        let mut data = if round % 4 == 0 {
            let mut noise = vec![0; random.usize(..128)];
            random.fill(&mut noise);
            noise
        } else {
            random.choice(&corpus).unwrap().clone()
        };
        for _ in 0..random.usize(..4) {
            mutate(&mut data, &mut random);
        }
        let seen = std::panic::catch_unwind(|| check_one_certificate(&data));
        read += u32::from(seen.unwrap_or_else(|_| panic!("seed={seed} round={round}")));
    }

    assert!(read > 10_000, "only {read} of the mutants could be read: they test too little");
}

fn mutate(data: &mut Vec<u8>, random: &mut fastrand::Rng) {
    if data.is_empty() {
        return;
    }
    let at = random.usize(..data.len());
    match random.u8(..5) {
        0 => data[at] ^= 1 << random.u8(..8),
        1 => data[at] = random.u8(..),
        2 => data.truncate(at),
        3 => data.insert(at, random.u8(..)),
        _ => {
            let end = (at + random.usize(..16)).min(data.len());
            let piece = data[at..end].to_vec();
            data.splice(at..at, piece);
        }
    }
}

/// Takes `by` from the two-octet length of the SEQUENCE at `at`.
fn shorten(der: &mut [u8], at: usize, by: u16) {
    assert_eq!(der[at..at + 2], [0x30, 0x82]);
    let length = u16::from_be_bytes([der[at + 2], der[at + 3]]) - by;
    der[at + 2..at + 4].copy_from_slice(&length.to_be_bytes());
}

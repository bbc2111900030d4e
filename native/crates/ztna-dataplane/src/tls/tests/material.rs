use super::*;
use crate::EndpointError;
use crate::command::{Revocation, TlsMaterial};
use crate::testing::pki::KeyKind;

#[test]
fn material_that_cannot_work_is_named() {
    let ca = Authority::new("ca");
    let good = || ca.issue(&LeafSpec::agent("alice")).material(&[&ca], &[]);
    let leaf = ca.issue(&LeafSpec::agent("bob"));
    let weak = Authority::with_key("weak", KeyKind::Rsa(1_024));

    assert!(TlsContext::new(&good(), NOW).is_ok());
    for (material, what) in [
        (TlsMaterial { chain_pem: Vec::new(), ..good() }, "certificate chain"),
        (TlsMaterial { chain_pem: b"no PEM".to_vec(), ..good() }, "certificate chain"),
        (TlsMaterial { chain_pem: broken_pem(), ..good() }, "certificate chain"),
        (TlsMaterial { key_pem: Vec::new(), ..good() }, "private key"),
        (TlsMaterial { key_pem: good().chain_pem, ..good() }, "private key"),
        (TlsMaterial { roots_pem: Vec::new(), ..good() }, "CA"),
        (TlsMaterial { roots_pem: broken_pem(), ..good() }, "CA"),
        (TlsMaterial { roots_pem: leaf.chain_pem(), ..good() }, "CA"),
        (TlsMaterial { roots_pem: weak.pem(), ..good() }, "CA"),
        (with_revoked(good(), Revocation::Spki("ab".into())), "revocation list"),
        (with_revoked(good(), Revocation::Spki("g".repeat(64))), "revocation list"),
        (with_revoked(good(), certificate("zz", "01")), "revocation list"),
        (with_revoked(good(), certificate("30", "")), "revocation list"),
        (with_revoked(good(), certificate("30", "1")), "revocation list"),
    ] {
        assert_eq!(fault(&material, NOW), what);
    }
}

#[test]
fn a_certificate_that_every_peer_would_refuse_does_not_load() {
    let ca = Authority::new("ca");
    let agent = LeafSpec::agent("alice");
    let material = |spec: &LeafSpec| ca.issue(spec).material(&[&ca], &[]);

    let day = material(&agent);
    assert!(TlsContext::new(&day, agent.not_after - 1).is_ok());
    assert_eq!(fault(&day, agent.not_after), "certificate chain");
    assert!(TlsContext::new(&day, agent.not_before - 1).is_ok(), "clocks differ a little");
    for spec in [
        LeafSpec { client_auth: false, ..agent.clone() },
        agent.clone().with_key(KeyKind::Rsa(1_024)),
        agent.with_key(KeyKind::P521),
    ] {
        assert_eq!(fault(&material(&spec), NOW), "certificate chain");
    }
}

#[test]
fn a_key_of_another_certificate_is_told_with_the_certificates_hash() {
    let ca = Authority::new("ca");
    let alice = ca.issue(&LeafSpec::agent("alice"));
    let bob = ca.issue(&LeafSpec::agent("bob"));
    let material = TlsMaterial { key_pem: bob.key_pem(), ..alice.material(&[&ca], &[]) };

    let error = TlsContext::new(&material, NOW).err().unwrap();

    assert_eq!(error, EndpointError::KeyMismatch { spki_sha256: alice.spki_sha256() });
}

#[test]
fn keys_are_read_as_pkcs8_and_as_sec1() {
    let ca = Authority::new("ca");
    let alice = ca.issue(&LeafSpec::agent("alice"));
    let sec1 = alice.key().ec_key().unwrap().private_key_to_pem().unwrap();
    assert!(sec1.starts_with(b"-----BEGIN EC PRIVATE KEY-----"));
    let material = TlsMaterial { key_pem: sec1, ..alice.material(&[&ca], &[]) };

    assert!(TlsContext::new(&material, NOW).is_ok());
}

fn fault(material: &TlsMaterial, now_unix: i64) -> &'static str {
    match TlsContext::new(material, now_unix).err() {
        Some(EndpointError::TlsMaterialInvalid { what, .. }) => what,
        other => panic!("no fault of the material: {other:?}"),
    }
}

fn with_revoked(material: TlsMaterial, revocation: Revocation) -> TlsMaterial {
    TlsMaterial { revoked: vec![revocation], ..material }
}

fn certificate(issuer: &str, serial: &str) -> Revocation {
    Revocation::Certificate { issuer: issuer.to_owned(), serial: serial.to_owned() }
}

fn broken_pem() -> Vec<u8> {
    b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_vec()
}

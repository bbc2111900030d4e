//! Judges a certificate chain.
//!
//! - **BoringSSL builds and checks the chain**: signatures, validity, constraints, purpose.
//! - **The leaf must say what it is for.** BoringSSL takes a missing extended key usage for every
//!   usage; here it is nobody.
//! - **Revocation holds for every certificate of the chain**, by key or by issuer and serial.
//! - **Names are not judged here.** The owner does that, from [`LeafInfo`].
//!
//! The verdict on a live connection is kept as a [`Standing`], so that judging ten thousand of them
//! again costs no signature check unless the roots changed.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};

use boring::error::ErrorStack;
use boring::nid::Nid;
use boring::sha::sha256;
use boring::ssl::{SslAlert, SslRef, SslVerifyError};
use boring::stack::{Stack, StackRef};
use boring::x509::store::{X509Store, X509StoreBuilder};
use boring::x509::verify::X509VerifyFlags;
use boring::x509::{X509, X509Ref, X509StoreContext, X509VerifyError};

use super::leaf::{self, MalformedCertificate};
use super::refusal::{self, Refusal};
use super::x509;
use crate::command::Revocation;
use crate::event::LeafInfo;

/// Certificates that a peer may send: a leaf and seven intermediates.
pub(super) const CHAIN_LENGTH_MAX: usize = 8;

/// What a verdict rests on, kept beside a live connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    roots: [u8; 32],
    valid_from: i64,
    valid_until: i64,
    certificates: Vec<CertificateId>,
}

/// Two names of one certificate that revocations can hit.
#[derive(Clone, Debug, Eq, PartialEq)]
struct CertificateId {
    spki: [u8; 32],
    issuer_and_serial: [u8; 32],
}

/// Roots, revocations and the time, shared by the TLS contexts of one set of material.
pub(super) struct Judge {
    of_clients: X509Store,
    of_servers: X509Store,
    roots: [u8; 32],
    revoked_keys: HashSet<[u8; 32]>,
    revoked_certificates: HashSet<[u8; 32]>,
    /// What handshakes are judged by: BoringSSL's callback cannot be handed a time.
    now_unix: AtomicI64,
}

impl Judge {
    /// Returns `None` if a revocation is not hex of the right length.
    pub(super) fn new(
        roots: &[X509],
        revoked: &[Revocation],
        now_unix: i64,
    ) -> Result<Option<Self>, ErrorStack> {
        let mut roots_der = Vec::new();
        for root in roots {
            roots_der.extend(sha256(&root.to_der()?));
        }
        let mut judge = Self {
            of_clients: store(roots, boring_sys::X509_PURPOSE_SSL_CLIENT)?,
            of_servers: store(roots, boring_sys::X509_PURPOSE_SSL_SERVER)?,
            roots: sha256(&roots_der),
            revoked_keys: HashSet::new(),
            revoked_certificates: HashSet::new(),
            now_unix: AtomicI64::new(now_unix),
        };
        let all_read = revoked.iter().all(|revocation| judge.revoke(revocation).is_some());
        Ok(all_read.then_some(judge))
    }

    pub(super) fn set_now(&self, now_unix: i64) {
        self.now_unix.store(now_unix, Ordering::Relaxed);
    }

    /// BoringSSL's custom verification: judges the chain of the handshake under way.
    pub(super) fn judge_handshake(
        &self,
        ssl: &mut SslRef,
        peer_dialled: bool,
    ) -> Result<(), SslVerifyError> {
        let Some(leaf) = ssl.peer_certificate() else {
            return Err(SslVerifyError::Invalid(SslAlert::CERTIFICATE_REQUIRED));
        };
        let now_unix = self.now_unix.load(Ordering::Relaxed);
        // The chain that BoringSSL gives has the leaf at a client but not at a server.
        let leaf_in_chain = usize::from(!peer_dialled);
        let verdict = ssl
            .peer_cert_chain()
            .map_or_else(Stack::new, |chain| intermediates(chain, leaf_in_chain))
            .map_err(internal)
            .and_then(|rest| self.judge(&leaf, &rest, peer_dialled, now_unix));

        verdict.map(drop).map_err(|refusal| {
            let alert = refusal.alert();
            refusal.attach(ssl);
            SslVerifyError::Invalid(alert)
        })
    }

    /// Judges a chain in DER, leaf first.
    pub(super) fn judge_der<C: AsRef<[u8]>>(
        &self,
        chain: &[C],
        peer_dialled: bool,
        now_unix: i64,
    ) -> Result<(LeafInfo, Standing), Refusal> {
        let Some((leaf, rest)) = chain.split_first() else {
            return Err(Refusal::new(refusal::NO_CERTIFICATE, "empty chain"));
        };
        check_length(rest.len())?;
        let leaf = leaf::parse(leaf.as_ref()).map_err(malformed)?;
        let mut intermediates = Stack::new().map_err(internal)?;
        for certificate in rest {
            let certificate = leaf::parse(certificate.as_ref()).map_err(malformed)?;
            intermediates.push(certificate).map_err(internal)?;
        }
        self.judge(&leaf, &intermediates, peer_dialled, now_unix)
    }

    /// Judges by `standing` alone, or returns `None` if that is not enough.
    pub(super) fn judge_standing(
        &self,
        standing: &Standing,
        now_unix: i64,
    ) -> Option<Result<(), Refusal>> {
        let in_time = (standing.valid_from..standing.valid_until).contains(&now_unix);
        (in_time && standing.roots == self.roots).then(|| self.check_revocation(standing))
    }

    fn judge(
        &self,
        leaf: &X509Ref,
        intermediates: &StackRef<X509>,
        peer_dialled: bool,
        now_unix: i64,
    ) -> Result<(LeafInfo, Standing), Refusal> {
        check_length(intermediates.len())?;
        let standing = self.check_chain(leaf, intermediates, peer_dialled, now_unix)?;
        let info = leaf::read(leaf).map_err(malformed)?;

        let Some(usage) = x509::extended_key_usage(leaf) else {
            return Err(about(&info, refusal::NO_EKU, "has no extended key usage"));
        };
        let fits = if peer_dialled { x509::has_client_auth } else { x509::has_server_auth };
        if !fits(usage) {
            return Err(about(&info, refusal::WRONG_EKU, wanted_usage(peer_dialled)));
        }
        let key = leaf.public_key().map_err(internal)?;
        if let Some(fault) = leaf::key_fault(&key) {
            return Err(about(&info, refusal::WEAK_KEY, &format!("has a key of {fault}")));
        }
        self.check_revocation(&standing)?;
        Ok((info, standing))
    }

    fn check_chain(
        &self,
        leaf: &X509Ref,
        intermediates: &StackRef<X509>,
        peer_dialled: bool,
        now_unix: i64,
    ) -> Result<Standing, Refusal> {
        let store = if peer_dialled { &self.of_clients } else { &self.of_servers };
        let mut context = X509StoreContext::new().map_err(internal)?;
        let verdict = context.init(store, leaf, intermediates, |context| {
            context.verify_param_mut().set_time(now_unix);
            if context.verify_cert()? {
                return Ok(context.chain().ok_or_else(ErrorStack::get).map(|c| self.stand(c)));
            }
            let error = context.verify_result().err().unwrap_or(X509VerifyError::UNSPECIFIED);
            let at = context.current_cert().unwrap_or(leaf);
            Ok(Ok(Err(chain_refusal(error, context.error_depth(), at, peer_dialled))))
        });
        // A failed verification leaves errors in the thread's queue.
        drop(ErrorStack::get());
        verdict.and_then(|verdict| verdict).map_err(internal)?
    }

    fn stand(&self, chain: &StackRef<X509>) -> Result<Standing, Refusal> {
        let mut standing = Standing {
            roots: self.roots,
            valid_from: i64::MIN,
            valid_until: i64::MAX,
            certificates: Vec::with_capacity(chain.len()),
        };
        for certificate in chain {
            let (from, until) = (certificate.not_before(), certificate.not_after());
            let from = leaf::unix_time(from).map_err(malformed)?;
            let until = leaf::unix_time(until).map_err(malformed)?;
            standing.valid_from = standing.valid_from.max(from);
            standing.valid_until = standing.valid_until.min(until);
            standing.certificates.push(certificate_id(certificate).map_err(malformed)?);
            check_signing_key(certificate)?;
        }
        Ok(standing)
    }

    fn check_revocation(&self, standing: &Standing) -> Result<(), Refusal> {
        for certificate in &standing.certificates {
            let spki = leaf::hex(&certificate.spki);
            if self.revoked_keys.contains(&certificate.spki) {
                let detail = format!("the key with SPKI sha256 {spki} is revoked");
                return Err(Refusal::new(refusal::REVOKED, detail));
            }
            if self.revoked_certificates.contains(&certificate.issuer_and_serial) {
                let detail = format!(
                    "the certificate with SPKI sha256 {spki} is revoked by issuer and serial"
                );
                return Err(Refusal::new(refusal::REVOKED, detail));
            }
        }
        Ok(())
    }

    fn revoke(&mut self, revocation: &Revocation) -> Option<()> {
        match revocation {
            Revocation::Spki(spki) => {
                self.revoked_keys.insert(unhex(spki)?.try_into().ok()?);
            }
            Revocation::Certificate { issuer, serial } => {
                let serial = unhex(serial).filter(|octets| !octets.is_empty())?;
                let zeros = serial.iter().take_while(|octet| **octet == 0).count();
                let significant = serial.get(zeros.min(serial.len() - 1)..)?;
                self.revoked_certificates.insert(issuer_and_serial(&unhex(issuer)?, significant));
            }
        }
        Some(())
    }
}

/// Says what would make every chain to this root be refused.
pub(super) fn check_root(root: &X509Ref) -> Result<(), Refusal> {
    certificate_id(root).map_err(malformed)?;
    check_signing_key(root)
}

fn store(roots: &[X509], purpose: i32) -> Result<X509Store, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for root in roots {
        store.add_cert(root)?;
    }
    // A configured CA is trusted as it is, self-signed or not: cert-manager hands out issuing CAs.
    store.try_set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    x509::set_purpose(&mut store, purpose)?;
    Ok(store.build())
}

fn intermediates(chain: &StackRef<X509>, skip: usize) -> Result<Stack<X509>, ErrorStack> {
    let mut rest = Stack::new()?;
    for certificate in chain.iter().skip(skip) {
        rest.push(certificate.to_owned())?;
    }
    Ok(rest)
}

fn check_length(intermediates: usize) -> Result<(), Refusal> {
    if intermediates < CHAIN_LENGTH_MAX {
        return Ok(());
    }
    let detail = format!("{} certificates, at most {CHAIN_LENGTH_MAX}", intermediates + 1);
    Err(Refusal::new(refusal::INVALID_CHAIN, detail))
}

/// What an RSA key under 2,048 bits or a SHA-1 or MD5 signature vouches for, anybody can forge.
fn check_signing_key(certificate: &X509Ref) -> Result<(), Refusal> {
    let key = certificate.public_key().map_err(internal)?;
    if key.rsa().is_ok() && key.bits() < leaf::RSA_BITS_MIN {
        let detail = format!("RSA with {} bits in the chain", key.bits());
        return Err(Refusal::new(refusal::WEAK_KEY, detail));
    }
    drop(ErrorStack::get());

    let algorithm = certificate.signature_algorithm().object().nid();
    let broken = [
        Nid::SHA1WITHRSAENCRYPTION,
        Nid::SHA1WITHRSA,
        Nid::ECDSA_WITH_SHA1,
        Nid::MD5WITHRSAENCRYPTION,
        Nid::MD5WITHRSA,
    ];
    // Nobody verifies the signature of a root.
    let is_root = certificate.issued(certificate).is_ok();
    if !is_root && broken.contains(&algorithm) {
        let name = algorithm.long_name().unwrap_or("unknown");
        return Err(Refusal::new(refusal::WEAK_KEY, format!("signed with {name}")));
    }
    Ok(())
}

fn certificate_id(certificate: &X509Ref) -> Result<CertificateId, MalformedCertificate> {
    Ok(CertificateId {
        spki: leaf::spki_hash(certificate)?,
        issuer_and_serial: issuer_and_serial(
            &leaf::issuer_der(certificate)?,
            &leaf::serial(certificate)?,
        ),
    })
}

/// DER says how long the issuer is, so the two cannot run into each other.
fn issuer_and_serial(issuer: &[u8], serial: &[u8]) -> [u8; 32] {
    sha256(&[issuer, serial].concat())
}

fn chain_refusal(error: X509VerifyError, depth: u32, at: &X509Ref, peer_dialled: bool) -> Refusal {
    let reason = match error {
        X509VerifyError::UNABLE_TO_GET_ISSUER_CERT
        | X509VerifyError::UNABLE_TO_GET_ISSUER_CERT_LOCALLY
        | X509VerifyError::UNABLE_TO_VERIFY_LEAF_SIGNATURE
        | X509VerifyError::DEPTH_ZERO_SELF_SIGNED_CERT
        | X509VerifyError::SELF_SIGNED_CERT_IN_CHAIN
        | X509VerifyError::CERT_UNTRUSTED => refusal::UNKNOWN_CA,
        X509VerifyError::CERT_SIGNATURE_FAILURE => refusal::BAD_SIGNATURE,
        X509VerifyError::CERT_HAS_EXPIRED => refusal::EXPIRED,
        X509VerifyError::CERT_NOT_YET_VALID => refusal::NOT_YET_VALID,
        X509VerifyError::INVALID_PURPOSE if depth == 0 => purpose_reason(at, peer_dialled),
        X509VerifyError::INVALID_EXTENSION => refusal::MALFORMED,
        _ => refusal::INVALID_CHAIN,
    };
    let spki = leaf::spki_hash(at).map_or_else(|e| e.to_string(), |hash| leaf::hex(&hash));
    let text = error.error_string();
    Refusal::new(reason, format!("{text} at depth {depth}, certificate with SPKI sha256 {spki}"))
}

fn purpose_reason(leaf: &X509Ref, peer_dialled: bool) -> &'static str {
    let fits = if peer_dialled { x509::has_client_auth } else { x509::has_server_auth };
    match x509::extended_key_usage(leaf) {
        Some(usage) if !fits(usage) => refusal::WRONG_EKU,
        _ => refusal::WRONG_KEY_USAGE,
    }
}

const fn wanted_usage(peer_dialled: bool) -> &'static str {
    if peer_dialled { "has no clientAuth but dialled" } else { "has no serverAuth but accepted" }
}

fn about(leaf: &LeafInfo, reason: &'static str, what: &str) -> Refusal {
    Refusal::new(reason, format!("the certificate with SPKI sha256 {} {what}", leaf.spki_sha256))
}

fn malformed(error: MalformedCertificate) -> Refusal {
    Refusal::new(refusal::MALFORMED, error.to_string())
}

fn internal(error: ErrorStack) -> Refusal {
    Refusal::new(refusal::MALFORMED, format!("BoringSSL could not judge it: {error}"))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

//! A throw-away certificate authority that can also issue what no sane one would.

use boring::asn1::{Asn1Integer, Asn1Time};
use boring::bn::BigNum;
use boring::ec::{EcGroup, EcKey};
use boring::hash::MessageDigest;
use boring::nid::Nid;
use boring::pkey::{Id, PKey, Private};
use boring::rsa::Rsa;
use boring::x509::extension::{
    BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
};
use boring::x509::{X509, X509Builder, X509Name};

use crate::command::{Revocation, TlsMaterial};
use crate::tls::leaf_info;

/// When tests take place, in seconds since 1970.
pub const NOW: i64 = 1_800_000_000;

const DAY: i64 = 86_400;

/// Kind of a key pair.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// ECDSA on NIST P-256.
    P256,
    /// ECDSA on NIST P-384.
    P384,
    /// ECDSA on NIST P-521, which the protocol does not take for leaves.
    P521,
    /// RFC 8032.
    Ed25519,
    /// RSA with so many bits.
    Rsa(u32),
}

impl KeyKind {
    /// Makes a key pair.
    pub fn generate(self) -> PKey<Private> {
        let ec = |nid| {
            let group = EcGroup::from_curve_name(nid).expect("BoringSSL has the NIST curves");
            let key = EcKey::generate(&group).expect("a key is random");
            PKey::from_ec_key(key).expect("a key is a key")
        };
        match self {
            Self::P256 => ec(Nid::X9_62_PRIME256V1),
            Self::P384 => ec(Nid::SECP384R1),
            Self::P521 => ec(Nid::SECP521R1),
            Self::Ed25519 => PKey::generate(Id::ED25519).expect("a key is random"),
            Self::Rsa(bits) => {
                let key = Rsa::generate(bits).expect("the size is sane");
                PKey::from_rsa(key).expect("a key is a key")
            }
        }
    }
}

/// Everything that a leaf may say.
#[derive(Clone, Debug)]
pub struct LeafSpec {
    /// Kind of its key.
    pub key: KeyKind,
    /// URI SANs.
    pub uris: Vec<String>,
    /// DNS SANs.
    pub dns_names: Vec<String>,
    /// IP SANs.
    pub ip_addresses: Vec<String>,
    /// Puts clientAuth into the extended key usage.
    pub client_auth: bool,
    /// Puts serverAuth into the extended key usage.
    pub server_auth: bool,
    /// Puts codeSigning into the extended key usage.
    pub code_signing: bool,
    /// Whether key usage has digitalSignature; else it has keyEncipherment only.
    pub digital_signature: bool,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// Serial number.
    pub serial: u32,
    /// Whether the issuer signs with SHA-1.
    pub sha1: bool,
}

impl LeafSpec {
    /// Says what an agent's certificate says.
    pub fn agent(name: &str) -> Self {
        Self::named("agent", name, true, false)
    }

    /// Says what a connector's certificate says.
    pub fn connector(name: &str) -> Self {
        Self::named("connector", name, true, true)
    }

    /// Says what a relay's certificate says.
    pub fn relay(name: &str) -> Self {
        let mut spec = Self::named("relay", name, false, true);
        spec.dns_names.push("localhost".to_owned());
        spec.ip_addresses.push("127.0.0.1".to_owned());
        spec
    }

    /// Grants or offers a service.
    #[must_use]
    pub fn dns(mut self, name: &str) -> Self {
        self.dns_names.push(name.to_owned());
        self
    }

    /// Has a key of another kind.
    #[must_use]
    pub const fn with_key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    fn named(role: &str, name: &str, client_auth: bool, server_auth: bool) -> Self {
        Self {
            key: KeyKind::P256,
            uris: vec![format!("ztna://test/{role}/{name}")],
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            client_auth,
            server_auth,
            code_signing: false,
            digital_signature: true,
            not_before: NOW - DAY,
            not_after: NOW + DAY,
            serial: 0x00c0_ffee,
            sha1: false,
        }
    }
}

/// A certificate authority: a root or an intermediate.
pub struct Authority {
    certificate: X509,
    key: PKey<Private>,
    /// Certificates between this authority and the root, nearest first, itself included.
    intermediates: Vec<X509>,
}

impl Authority {
    /// Makes a root on P-256.
    pub fn new(name: &str) -> Self {
        Self::with_key(name, KeyKind::P256)
    }

    /// Makes a root.
    pub fn with_key(name: &str, kind: KeyKind) -> Self {
        let key = kind.generate();
        let certificate = authority_certificate(name, &key, None);
        Self { certificate, key, intermediates: Vec::new() }
    }

    /// Issues another authority.
    pub fn intermediate(&self, name: &str, kind: KeyKind) -> Self {
        let key = kind.generate();
        let certificate = authority_certificate(name, &key, Some(self));
        let mut intermediates = vec![certificate.clone()];
        intermediates.extend(self.intermediates.iter().cloned());
        Self { certificate, key, intermediates }
    }

    /// Issues a leaf.
    pub fn issue(&self, spec: &LeafSpec) -> Identity {
        let key = spec.key.generate();
        self.issue_for(spec, key)
    }

    /// Issues a leaf for a key that exists.
    pub fn issue_for(&self, spec: &LeafSpec, key: PKey<Private>) -> Identity {
        let mut builder = builder("leaf", &key, spec.serial, spec.not_before, spec.not_after);
        builder.set_issuer_name(self.certificate.subject_name()).expect("memory");
        append_leaf_extensions(&mut builder, spec);
        builder.sign(&self.key, digest(&self.key, spec.sha1)).expect("an authority can sign");

        let mut chain = vec![builder.build()];
        chain.extend(self.intermediates.iter().cloned());
        Identity { chain, key }
    }

    /// Returns the certificate in PEM.
    pub fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().expect("memory")
    }

    /// Returns the certificate in DER.
    pub fn der(&self) -> Vec<u8> {
        self.certificate.to_der().expect("memory")
    }
}

/// A leaf with its chain and private key.
pub struct Identity {
    chain: Vec<X509>,
    key: PKey<Private>,
}

impl Identity {
    /// Returns leaf and intermediates in PEM.
    pub fn chain_pem(&self) -> Vec<u8> {
        self.chain.iter().flat_map(|certificate| certificate.to_pem().expect("memory")).collect()
    }

    /// Returns leaf and intermediates in DER.
    pub fn chain_der(&self) -> Vec<Vec<u8>> {
        self.chain.iter().map(|certificate| certificate.to_der().expect("memory")).collect()
    }

    /// Returns the key as PKCS #8.
    pub fn key_pem(&self) -> Vec<u8> {
        self.key.private_key_to_pem_pkcs8().expect("memory")
    }

    /// Returns the private key.
    pub fn key(&self) -> PKey<Private> {
        self.key.clone()
    }

    /// Returns SHA-256 of the leaf's key, as revocations name it.
    pub fn spki_sha256(&self) -> String {
        self.info().spki_sha256
    }

    /// Revokes the key.
    pub fn revoked_key(&self) -> Revocation {
        Revocation::Spki(self.spki_sha256())
    }

    /// Revokes the leaf.
    pub fn revoked_certificate(&self) -> Revocation {
        let info = self.info();
        Revocation::Certificate { issuer: info.issuer, serial: info.serial }
    }

    /// Returns what an endpoint with this identity is given.
    pub fn material(&self, roots: &[&Authority], revoked: &[Revocation]) -> TlsMaterial {
        TlsMaterial {
            chain_pem: self.chain_pem(),
            key_pem: self.key_pem(),
            roots_pem: roots.iter().flat_map(|root| root.pem()).collect(),
            revoked: revoked.to_vec(),
        }
    }

    fn info(&self) -> crate::event::LeafInfo {
        let leaf = self.chain.first().expect("an identity has a leaf");
        leaf_info(&leaf.to_der().expect("memory")).expect("own certificates can be read")
    }
}

fn authority_certificate(name: &str, key: &PKey<Private>, issuer: Option<&Authority>) -> X509 {
    let mut builder = builder(name, key, 1, NOW - 1_000 * DAY, NOW + 1_000 * DAY);
    let own_name = subject(name);
    let issuer_name = issuer.map_or(&*own_name, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).expect("memory");
    let constraints = BasicConstraints::new().critical().ca().build().expect("memory");
    builder.append_extension(&constraints).expect("memory");
    let usage = KeyUsage::new().critical().key_cert_sign().crl_sign().build().expect("memory");
    builder.append_extension(&usage).expect("memory");

    let signer = issuer.map_or(key, |issuer| &issuer.key);
    builder.sign(signer, digest(signer, false)).expect("an authority can sign");
    builder.build()
}

fn builder(name: &str, key: &PKey<Private>, serial: u32, from: i64, until: i64) -> X509Builder {
    let time = |unix| Asn1Time::from_unix(unix).expect("the time is between 1950 and 9999");
    let serial = BigNum::from_u32(serial).expect("memory");
    let mut builder = X509::builder().expect("memory");
    builder.set_version(2).expect("version 3 exists");
    builder.set_subject_name(&subject(name)).expect("memory");
    builder.set_serial_number(&Asn1Integer::from_bn(&serial).expect("memory")).expect("memory");
    builder.set_pubkey(key).expect("a key is a key");
    builder.set_not_before(&time(from)).expect("memory");
    builder.set_not_after(&time(until)).expect("memory");
    builder
}

fn append_leaf_extensions(builder: &mut X509Builder, spec: &LeafSpec) {
    let mut usage = KeyUsage::new();
    usage.critical().key_encipherment();
    if spec.digital_signature {
        usage.digital_signature();
    }
    builder.append_extension(&usage.build().expect("memory")).expect("memory");

    if spec.client_auth || spec.server_auth || spec.code_signing {
        let mut usage = ExtendedKeyUsage::new();
        if spec.client_auth {
            usage.client_auth();
        }
        if spec.server_auth {
            usage.server_auth();
        }
        if spec.code_signing {
            usage.code_signing();
        }
        builder.append_extension(&usage.build().expect("memory")).expect("memory");
    }

    let mut names = SubjectAlternativeName::new();
    for uri in &spec.uris {
        names.uri(uri);
    }
    for name in &spec.dns_names {
        names.dns(name);
    }
    for address in &spec.ip_addresses {
        names.ip(address);
    }
    if !(spec.uris.is_empty() && spec.dns_names.is_empty() && spec.ip_addresses.is_empty()) {
        let names = names.build(&builder.x509v3_context(None, None)).expect("the names are sane");
        builder.append_extension(&names).expect("memory");
    }
}

fn subject(name: &str) -> X509Name {
    let mut builder = X509Name::builder().expect("memory");
    builder.append_entry_by_text("CN", name).expect("the name is short");
    builder.build()
}

/// Ed25519 hashes by itself and takes no digest.
fn digest(key: &PKey<Private>, sha1: bool) -> MessageDigest {
    if key.id() == Id::ED25519 {
        // SAFETY: signing with a null digest is how BoringSSL is told to use none.
        return unsafe { MessageDigest::from_ptr(std::ptr::null()) };
    }
    if sha1 { MessageDigest::sha1() } else { MessageDigest::sha256() }
}

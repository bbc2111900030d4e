//! Why a peer's certificate was not accepted, in a closed set of words.
//!
//! A refusal stays on the TLS state of the connection that it ended, so that the endpoint can ask for
//! it after `recv` failed, whatever else happened in between.

use std::fmt;
use std::sync::LazyLock;

use boring::ex_data::Index;
use boring::ssl::{Ssl, SslAlert, SslRef};
use quiche::BufFactory;

/// QUIC carries TLS alerts as CRYPTO_ERROR codes from here on (RFC 9001 §4.8).
const CRYPTO_ERROR: u64 = 0x100;

/// Why a peer was refused: a word for a counter and a sentence for the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Refusal {
    /// One of [`Refusal::REASONS`].
    pub reason: &'static str,
    /// What was found, in hex and numbers only: a peer cannot write into the log with it.
    pub detail: String,
}

impl Refusal {
    /// Every reason there is.
    #[cfg(test)]
    pub(crate) const REASONS: [&str; 14] = [
        NO_CERTIFICATE,
        MALFORMED,
        UNKNOWN_CA,
        BAD_SIGNATURE,
        INVALID_CHAIN,
        EXPIRED,
        NOT_YET_VALID,
        WRONG_KEY_USAGE,
        WRONG_EKU,
        NO_EKU,
        WEAK_KEY,
        REVOKED,
        NO_COMMON_ALPN,
        HANDSHAKE_FAILED,
    ];

    pub(crate) fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// Returns the alert that tells the peer (RFC 8446 §6.2).
    pub(crate) fn alert(&self) -> SslAlert {
        match self.reason {
            NO_CERTIFICATE => SslAlert::CERTIFICATE_REQUIRED,
            UNKNOWN_CA => SslAlert::UNKNOWN_CA,
            EXPIRED | NOT_YET_VALID => SslAlert::CERTIFICATE_EXPIRED,
            REVOKED => SslAlert::CERTIFICATE_REVOKED,
            WRONG_EKU | NO_EKU | WRONG_KEY_USAGE | WEAK_KEY => SslAlert::UNSUPPORTED_CERTIFICATE,
            _ => SslAlert::BAD_CERTIFICATE,
        }
    }

    pub(crate) fn attach(self, ssl: &mut SslRef) {
        ssl.set_ex_data(*REFUSAL, self);
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

/// Returns why this side refused the peer in the handshake, or `None` when it did not.
///
/// For use after `recv` failed or the connection closed. It may be asked again.
pub(crate) fn refusal_of<F: BufFactory>(connection: &mut quiche::Connection<F>) -> Option<Refusal> {
    let ssl: &mut SslRef = connection.as_mut();
    if let Some(refusal) = ssl.ex_data(*REFUSAL) {
        return Some(refusal.clone());
    }

    let error = connection.local_error()?;
    if error.is_app {
        return None;
    }
    let alert = alert_name(error.error_code)?;
    let reason = match alert {
        "certificate_required" => NO_CERTIFICATE,
        "no_application_protocol" => NO_COMMON_ALPN,
        _ => HANDSHAKE_FAILED,
    };
    Some(Refusal::new(reason, format!("TLS alert {alert}")))
}

/// Returns the name of the TLS alert in a QUIC error code, or `None` when the code is no alert.
///
/// With the code of `peer_error` it says in one word why the peer refused this side.
pub(super) fn alert_name(quic_error_code: u64) -> Option<&'static str> {
    let alert = quic_error_code.checked_sub(CRYPTO_ERROR).and_then(|a| u8::try_from(a).ok())?;
    Some(match alert {
        10 => "unexpected_message",
        40 => "handshake_failure",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        90 => "user_canceled",
        109 => "missing_extension",
        110 => "unsupported_extension",
        112 => "unrecognized_name",
        116 => "certificate_required",
        120 => "no_application_protocol",
        _ => "unknown_alert",
    })
}

/// The client sent an empty certificate list.
pub(super) const NO_CERTIFICATE: &str = "no-certificate";
/// A certificate cannot be read, or says one thing in two ways.
pub(super) const MALFORMED: &str = "malformed-certificate";
/// No chain leads to a configured root.
pub(super) const UNKNOWN_CA: &str = "unknown-ca";
/// A signature in the chain is wrong.
pub(super) const BAD_SIGNATURE: &str = "bad-signature";
/// The chain breaks a constraint of one of its certificates.
pub(super) const INVALID_CHAIN: &str = "invalid-chain";
/// A certificate of the chain has expired.
pub(super) const EXPIRED: &str = "expired";
/// A certificate of the chain is not valid yet.
pub(super) const NOT_YET_VALID: &str = "not-yet-valid";
/// Key usage forbids signing.
pub(super) const WRONG_KEY_USAGE: &str = "wrong-key-usage";
/// Extended key usage does not fit the end of the connection that the peer plays.
pub(super) const WRONG_EKU: &str = "wrong-eku";
/// There is no extended key usage.
pub(super) const NO_EKU: &str = "no-eku";
/// A key is of a kind or size that the protocol does not take.
pub(super) const WEAK_KEY: &str = "weak-key";
/// The key or the certificate is revoked.
pub(super) const REVOKED: &str = "revoked";
/// The client speaks another version.
pub(super) const NO_COMMON_ALPN: &str = "no-common-alpn";
/// TLS failed for another reason.
pub(super) const HANDSHAKE_FAILED: &str = "handshake-failed";

static REFUSAL: LazyLock<Index<Ssl, Refusal>> =
    LazyLock::new(|| Ssl::new_ex_index().expect("an index is a counter and one allocation"));

//! TLS and transport configurations of legs and tunnels, made from one set of certificates.
//!
//! - **Both ends show a certificate.** A client without one fails the handshake. Nothing here may call
//!   `quiche::Config::verify_peer`: it replaces the mode that demands the certificate by one that only
//!   asks for it, and the handshake then succeeds without.
//! - **No tickets, no resumption, no early data.** BoringSSL does not judge certificates again on
//!   resumption; every connection here is a full handshake.
//! - **Reloading makes another [`TlsContext`].** Connections of the old one live on and are judged by
//!   the other from then on.
//!
//! A handshake is judged by the time last given to [`TlsContext::set_now`]. Whoever owns connections
//! judges a finished handshake once more by the context in force, before its first frame is read:
//! that catches a reload during the handshake, and yields what the certificate says.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod leaf;
mod refusal;
#[cfg(test)]
mod tests;
mod verify;
mod x509;

use std::sync::Arc;

use boring::error::ErrorStack;
use boring::pkey::{PKey, Private};
use boring::ssl::{
    SslContextBuilder, SslMethod, SslMode, SslOptions, SslSessionCacheMode, SslVerifyMode,
    SslVersion,
};
use boring::x509::X509;
use quiche::Config;

#[cfg(any(test, feature = "testing"))]
pub(crate) use leaf::leaf_info;
pub(crate) use refusal::{Refusal, refusal_of};
pub(crate) use verify::Standing;

use crate::EndpointError;
use crate::command::TlsMaterial;
use crate::event::LeafInfo;
use crate::profile::{self, End};
use verify::Judge;

/// Post-quantum first; a client that has not got it falls back.
const GROUPS: &str = "X25519MLKEM768:X25519";

/// Ed25519 is not among BoringSSL's defaults and would be refused with alert 40.
const SIGNATURES: &str = "ed25519:ECDSA+SHA256:ECDSA+SHA384:RSA-PSS+SHA256:RSA-PSS+SHA384:\
                          RSA-PSS+SHA512";

/// One set of certificates, ready for connections.
pub(crate) struct TlsContext {
    judge: Arc<Judge>,
    leg_client: Config,
    leg_server: Config,
    tunnel_client: Config,
    tunnel_server: Config,
}

impl TlsContext {
    /// Reads certificates, key, roots and revocations.
    ///
    /// Own certificates that every peer would refuse are an error here already: a leaf that has
    /// expired, has no extended key usage or a key of the wrong kind.
    pub(crate) fn new(material: &TlsMaterial, now_unix: i64) -> Result<Self, EndpointError> {
        let own = OwnIdentity::read(material, now_unix)?;
        let roots = read_roots(&material.roots_pem)?;
        let judge = Judge::new(&roots, &material.revoked, now_unix)
            .map_err(|error| invalid("CA", error.to_string()))?
            .ok_or_else(|| invalid("revocation list", "an entry is not lower-case hex"))?;
        let judge = Arc::new(judge);

        let config = |end, apply: fn(&mut Config, End) -> quiche::Result<()>| {
            let builder = own
                .ssl_context(&judge, end)
                .map_err(|error| invalid("certificate chain", error.to_string()))?;
            let mut config = Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, builder)
                .map_err(|error| invalid("certificate chain", error.to_string()))?;
            apply(&mut config, end)
                .map_err(|error| invalid("transport profile", error.to_string()))?;
            Ok::<_, EndpointError>(config)
        };
        Ok(Self {
            leg_client: config(End::Client, profile::apply_leg)?,
            leg_server: config(End::Server, profile::apply_leg)?,
            tunnel_client: config(End::Client, profile::apply_tunnel)?,
            tunnel_server: config(End::Server, profile::apply_tunnel)?,
            judge,
        })
    }

    /// Sets the time, in seconds since 1970, that handshakes are judged by from here on.
    pub(crate) fn set_now(&self, now_unix: i64) {
        self.judge.set_now(now_unix);
    }

    /// Returns the configuration for dialling a relay.
    pub(crate) const fn leg_client(&mut self) -> &mut Config {
        &mut self.leg_client
    }

    /// Returns the configuration for accepting one leg, whose first id has this stateless reset token.
    pub(crate) fn leg_server(&mut self, reset_token: u128) -> &mut Config {
        self.leg_server.set_stateless_reset_token(Some(reset_token));
        &mut self.leg_server
    }

    /// Returns the configuration for dialling a connector, which may be near.
    pub(crate) fn tunnel_client(&mut self, near: bool) -> &mut Config {
        profile::set_tunnel_window(&mut self.tunnel_client, near);
        &mut self.tunnel_client
    }

    /// Returns the configuration for accepting a tunnel from an agent, which may be near.
    pub(crate) fn tunnel_server(&mut self, near: bool) -> &mut Config {
        profile::set_tunnel_window(&mut self.tunnel_server, near);
        &mut self.tunnel_server
    }

    /// Judges a chain in DER, leaf first, as a handshake at `now_unix` would.
    #[cfg(test)]
    pub(crate) fn judge<C: AsRef<[u8]>>(
        &self,
        chain: &[C],
        peer_dialled: bool,
        now_unix: i64,
    ) -> Result<LeafInfo, Refusal> {
        self.judge_for_life(chain, peer_dialled, now_unix).map(|(leaf, _)| leaf)
    }

    /// Judges like [`Self::judge`] and returns what [`Self::judge_again`] needs.
    pub(crate) fn judge_for_life<C: AsRef<[u8]>>(
        &self,
        chain: &[C],
        peer_dialled: bool,
        now_unix: i64,
    ) -> Result<(LeafInfo, Standing), Refusal> {
        self.judge.judge_der(chain, peer_dialled, now_unix)
    }

    /// Judges a live connection again: the same verdict as [`Self::judge`], but no signature is checked
    /// while the roots are the same and no certificate of the chain ran out.
    ///
    /// `chain` is only called when it has to be judged anew; `standing` is then replaced.
    pub(crate) fn judge_again<C: AsRef<[u8]>>(
        &self,
        standing: &mut Standing,
        chain: impl FnOnce() -> Vec<C>,
        peer_dialled: bool,
        now_unix: i64,
    ) -> Result<(), Refusal> {
        if let Some(verdict) = self.judge.judge_standing(standing, now_unix) {
            return verdict;
        }
        let (_, renewed) = self.judge_for_life(&chain(), peer_dialled, now_unix)?;
        *standing = renewed;
        Ok(())
    }
}

/// What this side shows to its peers.
struct OwnIdentity {
    chain: Vec<X509>,
    key: PKey<Private>,
}

impl OwnIdentity {
    fn read(material: &TlsMaterial, now_unix: i64) -> Result<Self, EndpointError> {
        const WHAT: &str = "certificate chain";
        let chain = X509::stack_from_pem(&material.chain_pem)
            .map_err(|error| invalid(WHAT, error.to_string()))?;
        let Some(leaf) = chain.first() else {
            return Err(invalid(WHAT, "there is no certificate in it"));
        };
        let info = leaf::read(leaf).map_err(|error| invalid(WHAT, error.to_string()))?;
        // BoringSSL's words about a key file hold positions and types, never its content.
        let key = PKey::private_key_from_pem(&material.key_pem)
            .map_err(|error| invalid("private key", error.to_string()))?;
        let public = leaf.public_key().map_err(|error| invalid(WHAT, error.to_string()))?;

        if !public.public_eq(&key) {
            drop(ErrorStack::get());
            return Err(EndpointError::KeyMismatch { spki_sha256: info.spki_sha256 });
        }
        if let Some(fault) = leaf::key_fault(&public) {
            return Err(invalid(WHAT, format!("the key is {fault}")));
        }
        if !info.client_auth && !info.server_auth {
            return Err(invalid(WHAT, "extended key usage has neither clientAuth nor serverAuth"));
        }
        if info.not_after <= now_unix {
            return Err(invalid(WHAT, format!("it expired {} s ago", now_unix - info.not_after)));
        }
        Ok(Self { chain, key })
    }

    fn ssl_context(&self, judge: &Arc<Judge>, end: End) -> Result<SslContextBuilder, ErrorStack> {
        let mut builder = SslContextBuilder::new(SslMethod::tls())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_3))?;
        builder.set_max_proto_version(Some(SslVersion::TLS1_3))?;
        builder.set_curves_list(GROUPS)?;
        builder.set_sigalgs_list(SIGNATURES)?;
        builder.set_options(SslOptions::NO_TICKET);
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_mode(SslMode::RELEASE_BUFFERS);

        if let Some((leaf, rest)) = self.chain.split_first() {
            builder.set_certificate(leaf)?;
            for certificate in rest {
                builder.add_extra_chain_cert(certificate.clone())?;
            }
        }
        builder.set_private_key(&self.key)?;

        let judge = Arc::clone(judge);
        let peer_dialled = end == End::Server;
        builder.set_custom_verify_callback(
            SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
            move |ssl| judge.judge_handshake(ssl, peer_dialled),
        );
        Ok(builder)
    }
}

fn read_roots(pem: &[u8]) -> Result<Vec<X509>, EndpointError> {
    let roots = X509::stack_from_pem(pem).map_err(|error| invalid("CA", error.to_string()))?;
    if roots.is_empty() {
        return Err(invalid("CA", "there is no certificate in it"));
    }
    // A leaf among the roots would be trusted whatever its issuer says.
    if let Some(index) = roots.iter().position(|root| !x509::is_authority(root)) {
        return Err(invalid("CA", format!("certificate {} is not one of a CA", index + 1)));
    }
    for root in &roots {
        verify::check_root(root).map_err(|refusal| invalid("CA", refusal.detail))?;
    }
    Ok(roots)
}

fn invalid(what: &'static str, detail: impl Into<String>) -> EndpointError {
    EndpointError::TlsMaterialInvalid { what, detail: detail.into() }
}

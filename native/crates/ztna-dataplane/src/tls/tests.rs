//! Handshakes in memory, verdicts on chains, reading of certificates.

mod handshake;
mod judge;
mod leaf;
mod material;
mod resumption;

use std::sync::Arc;

use quiche::Config;

use super::verify::Judge;
use super::{OwnIdentity, TlsContext, read_roots};
use crate::event::LeafInfo;
use crate::profile::{self, End};
use crate::testing::pki::{Authority, Identity, LeafSpec, NOW};

/// A context that trusts `ca`, with a certificate from it.
fn context(ca: &Authority, spec: &LeafSpec) -> TlsContext {
    TlsContext::new(&ca.issue(spec).material(&[ca], &[]), NOW).unwrap()
}

/// A leg's configuration with a certificate that `TlsContext` itself would not take.
fn careless_leg(ca: &Authority, identity: &Identity, end: End) -> Config {
    let material = identity.material(&[ca], &[]);
    let own = OwnIdentity {
        chain: boring::x509::X509::stack_from_pem(&material.chain_pem).unwrap(),
        key: identity.key(),
    };
    let roots = read_roots(&material.roots_pem).unwrap();
    let judge = Arc::new(Judge::new(&roots, &[], NOW).unwrap().unwrap());
    leg(own.ssl_context(&judge, end).unwrap(), end)
}

fn leg(builder: boring::ssl::SslContextBuilder, end: End) -> Config {
    let mut config =
        Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, builder).unwrap();
    profile::apply_leg(&mut config, end).unwrap();
    config
}

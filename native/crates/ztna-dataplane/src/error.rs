use std::net::SocketAddr;

/// Why the endpoint could not do what its owner asked.
///
/// A peer's mistakes are not here: they close that peer's connection and surface as an event.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Another process owns the socket address.
    #[error("{0} is in use")]
    AddressInUse(SocketAddr),
    /// The socket address cannot be bound here.
    #[error("cannot bind {address}: {detail}")]
    AddressUnavailable {
        /// What was to be bound.
        address: SocketAddr,
        /// What the system said.
        detail: String,
    },
    /// A certificate, key or CA file holds no usable material.
    #[error("{what} is unusable: {detail}")]
    TlsMaterialInvalid {
        /// Which of the files.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The private key does not belong to the certificate.
    #[error("the private key does not belong to the certificate with SPKI sha256 {spki_sha256}")]
    KeyMismatch {
        /// Of the certificate.
        spki_sha256: String,
    },
    /// The TUN device cannot be opened or configured.
    #[error("cannot open TUN device {name}: {detail}")]
    TunUnavailable {
        /// Name or descriptor that was asked for.
        name: String,
        /// What the system said.
        detail: String,
    },
    /// The operating system refused something else.
    #[error("{what}: {detail}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        detail: String,
    },
    /// The endpoint was closed before the call.
    #[error("the endpoint is closed")]
    Closed,
}

impl EndpointError {
    /// Returns the stable name that TypeScript matches on, see `docs/errors.md`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::AddressInUse(_) => "ADDRESS_IN_USE",
            Self::AddressUnavailable { .. } => "ADDRESS_UNAVAILABLE",
            Self::TlsMaterialInvalid { .. } => "TLS_MATERIAL_INVALID",
            Self::KeyMismatch { .. } => "KEY_MISMATCH",
            Self::TunUnavailable { .. } => "TUN_UNAVAILABLE",
            Self::System { .. } => "SYSTEM",
            Self::Closed => "ENDPOINT_CLOSED",
        }
    }
}

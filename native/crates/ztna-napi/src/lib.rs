//! N-API binding of the data plane: conversions and lifetime, no decisions.
//!
//! Commands are copied and queued; events are drained in batches after one wake-up. Every export
//! catches panics: an unwinding panic would abort the process without a word.

mod commands;
mod convert;
mod endpoint;
mod events;
mod values;

/// Grows with every change of the boundary; compared when the addon is loaded.
const ABI_VERSION: u32 = 3;

/// Returns the version of the boundary that this addon speaks.
#[napi_derive::napi(catch_unwind)]
pub fn abi_version() -> u32 {
    ABI_VERSION
}

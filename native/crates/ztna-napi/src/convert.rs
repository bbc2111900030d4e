//! Text and numbers of JavaScript to the types of the data plane, with errors that name the value.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use napi::{Error, Status};
use ztna_dataplane::EndpointError;
use ztna_dataplane::id::WireId;

/// Makes an error whose message begins with a code that `native-error.ts` reads.
pub(crate) fn refuse(code: &str, message: impl Display) -> Error {
    Error::new(Status::GenericFailure, format!("{code}: {message}"))
}

pub(crate) fn from_endpoint(error: &EndpointError) -> Error {
    refuse(error.code(), error)
}

/// A value that TypeScript must never send.
pub(crate) fn invalid(what: &str, value: impl Display) -> Error {
    refuse("BINDING_INVALID", format!("{what} {value:.80} is invalid"))
}

pub(crate) fn parse<T: FromStr>(what: &str, text: &str) -> napi::Result<T> {
    text.parse().map_err(|_| invalid(what, text))
}

pub(crate) fn address(text: &str) -> napi::Result<SocketAddr> {
    parse("address", text)
}

pub(crate) fn addresses(texts: &[String]) -> napi::Result<Vec<SocketAddr>> {
    texts.iter().map(|text| address(text)).collect()
}

pub(crate) fn prefix(text: &str) -> napi::Result<(IpAddr, u8)> {
    let (ip, length) = text.split_once('/').ok_or_else(|| invalid("prefix", text))?;
    Ok((parse("prefix", ip)?, parse("prefix", length)?))
}

pub(crate) fn wire_id(text: &str) -> napi::Result<WireId> {
    if text.len() != 2 * WireId::LENGTH {
        return Err(invalid("id", text));
    }
    let value = u64::from_str_radix(text, 16).map_err(|_| invalid("id", text))?;
    Ok(WireId(value.to_be_bytes()))
}

pub(crate) fn wire_id_text(id: WireId) -> String {
    format!("{id:?}")
}

/// Whole numbers that JavaScript holds exactly.
pub(crate) fn whole(what: &str, value: f64) -> napi::Result<u64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
    if value.fract() != 0.0 || !(0.0..=EXACT_MAX).contains(&value) {
        return Err(invalid(what, value));
    }
    // In range and whole by the check above.
    Ok(value as u64)
}

pub(crate) fn port(value: u32) -> napi::Result<u16> {
    u16::try_from(value).map_err(|_| invalid("port", value))
}

/// Counters beyond 2^53 lose their last digits, which no reader of a metric can tell.
pub(crate) fn number(value: u64) -> f64 {
    value as f64
}

pub(crate) fn millis(value: u32) -> Duration {
    Duration::from_millis(value.into())
}

pub(crate) fn convert_all<A: TryInto<B, Error = Error>, B>(items: Vec<A>) -> napi::Result<Vec<B>> {
    items.into_iter().map(TryInto::try_into).collect()
}

//! A SOCKS5 server (RFC 1928) without its sockets: CONNECT and UDP ASSOCIATE, no authentication.
//!
//! ```text
//!  05 | n | methods (n)                         greeting       -> 05 00, or 05 FF and the end
//!  05 | command | 00 | address | port (u16)     request        -> 05 | reply | 00 | address | port
//!  00 00 | fragment | address | port | octets   each datagram of an association, both ways
//!
//!  address: 01 IPv4 (4)  |  03 length name (1..255)  |  04 IPv6 (16)
//! ```
//!
//! - **Names stay names.** A client that resolves nothing reaches a service by name; what the name
//!   means is the caller's to say.
//! - **What is not taken stays with the caller**: octets behind the request are the application's.
//! - **An error is final.** Its reply, if there is one, is in the output already: send it and close.
//! - Fragments are dropped, as RFC 1928 §7 allows.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::flow::answer::FlowAnswer;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0x00;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;

const COMMAND_CONNECT: u8 = 1;
const COMMAND_UDP_ASSOCIATE: u8 = 3;

const ADDRESS_IPV4: u8 = 1;
const ADDRESS_NAME: u8 = 3;
const ADDRESS_IPV6: u8 = 4;

/// Octets of the largest request: a name of 255 octets.
const REQUEST_BYTES_MAX: usize = 3 + 1 + 1 + 255 + 2;

/// What a client wants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SocksRequest {
    /// A TCP connection to the target.
    Connect(SocksTarget<'static>),
    /// A UDP association, which lives as long as this TCP connection. The target is where the client
    /// says that its datagrams will come from; most say 0.0.0.0:0.
    UdpAssociate(SocksTarget<'static>),
}

/// Where a client wants to go.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct SocksTarget<'a> {
    /// Name or address.
    pub host: SocksHost<'a>,
    /// 0 only in a UDP association's own.
    pub port: u16,
}

/// Name or address.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum SocksHost<'a> {
    /// 1..255 printable ASCII octets, as the client spelt them.
    Name(Cow<'a, str>),
    /// As it stands.
    Address(IpAddr),
}

/// How a request ended, with its code on the wire (RFC 1928 §6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum SocksReply {
    /// Data follows.
    Succeeded = 0,
    /// Anything without a code of its own.
    GeneralFailure = 1,
    /// There is no such service, or not for this user.
    NotAllowed = 2,
    /// The service's backend cannot be reached.
    HostUnreachable = 4,
    /// The service's backend refused.
    ConnectionRefused = 5,
    /// The service's backend did not answer in time.
    TtlExpired = 6,
    /// Neither CONNECT nor UDP ASSOCIATE.
    CommandNotSupported = 7,
    /// Neither IPv4, nor IPv6, nor a name.
    AddressTypeNotSupported = 8,
}

impl From<FlowAnswer> for SocksReply {
    fn from(answer: FlowAnswer) -> Self {
        match answer {
            FlowAnswer::Connected => Self::Succeeded,
            FlowAnswer::NotAvailable => Self::NotAllowed,
            FlowAnswer::Refused => Self::ConnectionRefused,
            FlowAnswer::Unreachable => Self::HostUnreachable,
            FlowAnswer::TimedOut => Self::TtlExpired,
            FlowAnswer::LimitExceeded => Self::GeneralFailure,
            FlowAnswer::KindNotSupported => Self::CommandNotSupported,
        }
    }
}

/// Why a client is sent away.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum SocksError {
    /// Another version, or no SOCKS at all.
    #[error("not SOCKS version 5")]
    WrongVersion,
    /// The client insists on authentication.
    #[error("no acceptable authentication method")]
    NoAcceptableMethod,
    /// BIND, or a command that nobody knows.
    #[error("command not supported")]
    CommandNotSupported,
    /// A type of address that nobody knows.
    #[error("address type not supported")]
    AddressTypeNotSupported,
    /// A name that is empty or not printable ASCII, or port 0.
    #[error("invalid target")]
    InvalidTarget,
    /// A datagram in pieces.
    #[error("fragmented datagram")]
    Fragmented,
    /// A datagram that ends inside its header.
    #[error("truncated datagram")]
    Truncated,
}

/// The handshake with one client.
#[derive(Debug, Default)]
pub(crate) struct SocksHandshake {
    greeted: bool,
    /// Of the message under way; never longer than the longest one.
    held: Vec<u8>,
}

impl SocksHandshake {
    /// Creates one for a client that was accepted.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes octets off the front of `octets` until the request is complete, and returns it; `None`
    /// when they ran out first. Appends to `out` what must be sent to the client at once.
    ///
    /// A request is answered by [`write_reply`] when its outcome is known.
    pub(crate) fn read(
        &mut self,
        octets: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<SocksRequest>, SocksError> {
        while let Some((octet, rest)) = octets.split_first() {
            *octets = rest;
            self.held.push(*octet);
            debug_assert!(self.held.len() <= REQUEST_BYTES_MAX, "a message has an end");

            if !self.greeted {
                self.greeted = self.judge_greeting(out)?;
                if self.greeted {
                    self.held.clear();
                }
            } else if let Some(request) = self.judge_request(out)? {
                return Ok(Some(request));
            }
        }
        Ok(None)
    }

    /// Returns whether the greeting is complete.
    fn judge_greeting(&self, out: &mut Vec<u8>) -> Result<bool, SocksError> {
        match *self.held.as_slice() {
            [VERSION] => Ok(false),
            [VERSION, count, ref methods @ ..] if methods.len() == usize::from(count) => {
                if !methods.contains(&NO_AUTHENTICATION) {
                    out.extend_from_slice(&[VERSION, NO_ACCEPTABLE_METHOD]);
                    return Err(SocksError::NoAcceptableMethod);
                }
                out.extend_from_slice(&[VERSION, NO_AUTHENTICATION]);
                Ok(true)
            }
            [VERSION, ..] => Ok(false),
            _ => Err(SocksError::WrongVersion),
        }
    }

    fn judge_request(&self, out: &mut Vec<u8>) -> Result<Option<SocksRequest>, SocksError> {
        let (command, address) = match self.held.as_slice() {
            [VERSION] | [VERSION, _] | [VERSION, _, _] => return Ok(None),
            [VERSION, command, _, address @ ..] => (*command, address),
            _ => return Err(SocksError::WrongVersion),
        };
        let outcome = read_target(address).and_then(|target| {
            let Some((target, _)) = target else { return Ok(None) };
            match command {
                COMMAND_CONNECT if target.port == 0 => Err(SocksError::InvalidTarget),
                COMMAND_CONNECT => Ok(Some(SocksRequest::Connect(target.into_owned()))),
                COMMAND_UDP_ASSOCIATE => Ok(Some(SocksRequest::UdpAssociate(target.into_owned()))),
                _ => Err(SocksError::CommandNotSupported),
            }
        });

        if let Err(error) = outcome {
            let reply = match error {
                SocksError::CommandNotSupported => SocksReply::CommandNotSupported,
                SocksError::AddressTypeNotSupported => SocksReply::AddressTypeNotSupported,
                SocksError::WrongVersion
                | SocksError::NoAcceptableMethod
                | SocksError::InvalidTarget
                | SocksError::Fragmented
                | SocksError::Truncated => SocksReply::GeneralFailure,
            };
            write_reply(reply, UNSPECIFIED, out);
        }
        outcome
    }
}

/// What a reply says when there is no address to tell.
pub(crate) const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Appends the reply to a request. `bound` is the address of a UDP association; clients ignore that of
/// a connection, so [`UNSPECIFIED`] serves.
pub(crate) fn write_reply(reply: SocksReply, bound: SocketAddr, out: &mut Vec<u8>) {
    out.extend_from_slice(&[VERSION, reply as u8, 0]);
    write_address(bound, out);
}

/// Reads the header of a datagram that a client sent into its association.
pub(crate) fn read_datagram(datagram: &[u8]) -> Result<(SocksTarget<'_>, &[u8]), SocksError> {
    match datagram {
        [_, _, 0, address @ ..] => {
            let (target, octets) = read_target(address)?.ok_or(SocksError::Truncated)?;
            if target.port == 0 {
                return Err(SocksError::InvalidTarget);
            }
            Ok((target, octets))
        }
        [_, _, _, ..] => Err(SocksError::Fragmented),
        _ => Err(SocksError::Truncated),
    }
}

/// Appends a datagram for the client, from the address or the name that it knows the service by.
pub(crate) fn write_datagram(from: &SocksTarget<'_>, octets: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 0]);
    match &from.host {
        SocksHost::Address(address) => write_address(SocketAddr::new(*address, from.port), out),
        SocksHost::Name(name) => {
            let name = name.as_bytes().get(..255).unwrap_or(name.as_bytes());
            out.push(ADDRESS_NAME);
            out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
            out.extend_from_slice(name);
            out.extend_from_slice(&from.port.to_be_bytes());
        }
    }
    out.extend_from_slice(octets);
}

impl SocksTarget<'_> {
    /// Returns a target that owns its name.
    pub(crate) fn into_owned(self) -> SocksTarget<'static> {
        let host = match self.host {
            SocksHost::Name(name) => SocksHost::Name(Cow::Owned(name.into_owned())),
            SocksHost::Address(address) => SocksHost::Address(address),
        };
        SocksTarget { host, port: self.port }
    }
}

/// Reads an address and port, and returns what follows them; `None` when more octets are needed.
fn read_target(octets: &[u8]) -> Result<Option<(SocksTarget<'_>, &[u8])>, SocksError> {
    let (host, rest) = match octets {
        [] | [ADDRESS_IPV4 | ADDRESS_NAME | ADDRESS_IPV6] => return Ok(None),
        [ADDRESS_IPV4, rest @ ..] => {
            let Some((address, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            (SocksHost::Address(Ipv4Addr::from(*address).into()), rest)
        }
        [ADDRESS_IPV6, rest @ ..] => {
            let Some((address, rest)) = rest.split_first_chunk::<16>() else { return Ok(None) };
            (SocksHost::Address(Ipv6Addr::from(*address).into()), rest)
        }
        [ADDRESS_NAME, 0, ..] => return Err(SocksError::InvalidTarget),
        [ADDRESS_NAME, length, rest @ ..] => {
            let Some((name, rest)) = rest.split_at_checked((*length).into()) else {
                return Ok(None);
            };
            if !name.iter().all(u8::is_ascii_graphic) {
                return Err(SocksError::InvalidTarget);
            }
            let name = std::str::from_utf8(name).map_err(|_| SocksError::InvalidTarget)?;
            (SocksHost::Name(Cow::Borrowed(name)), rest)
        }
        [_, ..] => return Err(SocksError::AddressTypeNotSupported),
    };
    let Some((port, rest)) = rest.split_first_chunk() else { return Ok(None) };
    Ok(Some((SocksTarget { host, port: u16::from_be_bytes(*port) }, rest)))
}

fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(ADDRESS_IPV4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(ADDRESS_IPV6);
            out.extend_from_slice(&ip.octets());
        }
    }
    out.extend_from_slice(&address.port().to_be_bytes());
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

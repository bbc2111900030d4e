//! STUN (RFC 8489), as much as a check is made of: Binding requests and responses with short-term
//! credentials and SHA-256 integrity.
//!
//! ```text
//!  0        2        4                8                       20
//!  +--------+--------+----------------+-----------------------+------------------
//!  | type   | length | 0x2112A442     | transaction id (12)   | attributes …
//!  +--------+--------+----------------+-----------------------+------------------
//!
//!  request   USERNAME [USE-CANDIDATE] [SELECTION] [PADDING] MESSAGE-INTEGRITY-SHA256
//!  response  XOR-MAPPED-ADDRESS MESSAGE-INTEGRITY-SHA256
//! ```
//!
//! - **Integrity is last and whole.** 32 octets of HMAC over all that precedes it; nothing may follow,
//!   also no FINGERPRINT (the first octet and the cookie tell STUN from QUIC).
//! - **Known attributes appear once and only where they belong**; unknown ones are skipped when RFC
//!   8489 §14 lets them be (0x8000 and above), else they refuse the message, and nobody is told.
//! - **Parsing proves nothing.** A [`Received`] is to be believed after [`Received::verify`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use boring::hash::hmac_sha256;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

/// RFC 8489 §5.
const MAGIC_COOKIE: u32 = 0x2112_A442;
const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_RESPONSE: u16 = 0x0101;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const USE_CANDIDATE: u16 = 0x0025;
const PADDING: u16 = 0x0026;
/// Ours, of the range that a stranger may ignore.
const SELECTION: u16 = 0xC5A7;
/// The start of that range (RFC 8489 §14).
const COMPREHENSION_OPTIONAL: u16 = 0x8000;

const TAG_BYTES: usize = 32;
/// Attribute header and tag.
const INTEGRITY_BYTES: usize = 4 + TAG_BYTES;

/// Longest USERNAME that is taken: checks have 16 octets, a relay's address discovery may have more.
pub(crate) const USERNAME_BYTES_MAX: usize = 64;
/// Longest message: the longest payload of a channel frame.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1_500;
/// Longest response: header, an IPv6 address, integrity.
pub(crate) const RESPONSE_BYTES_MAX: usize = HEADER_BYTES + 24 + INTEGRITY_BYTES;

/// 96 random bits that tie a response to its request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TransactionId(pub [u8; 12]);

/// A check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Request<'a> {
    /// Comes back in the response.
    pub transaction: TransactionId,
    /// Names the receiver: 1..=64 visible ASCII characters.
    pub username: &'a str,
    /// The sender chose this path.
    pub use_candidate: bool,
    /// Orders choices; grows with each.
    pub selection: Option<u32>,
    /// Octets of PADDING, a multiple of 4, where a size is tested.
    pub padding: Option<u16>,
}

/// The answer to a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Response {
    /// Of the request.
    pub transaction: TransactionId,
    /// Where the request came from; `0.0.0.0:0` on a relayed path.
    pub mapped: SocketAddr,
}

/// Either half of the exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Message<'a> {
    /// A check.
    Request(Request<'a>),
    /// Its answer.
    Response(Response),
}

/// A well-formed message whose integrity is yet to be verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    /// What it says.
    pub message: Message<'a>,
    signed: &'a [u8],
    tag: &'a [u8; TAG_BYTES],
}

/// Why octets are no message of this profile.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The header or an attribute is cut off.
    #[error("truncated")]
    Truncated,
    /// More octets than any check has.
    #[error("too long")]
    TooLong,
    /// No magic cookie.
    #[error("not STUN")]
    NotStun,
    /// The length field contradicts the size.
    #[error("length mismatch")]
    LengthMismatch,
    /// Neither a Binding request nor a success response.
    #[error("unknown type")]
    UnknownType,
    /// An attribute that must be understood and is not.
    #[error("unknown attribute")]
    UnknownAttribute,
    /// A known attribute twice, in the wrong kind of message, or after the integrity.
    #[error("misplaced attribute")]
    MisplacedAttribute,
    /// A known attribute that says nothing sensible.
    #[error("invalid value")]
    InvalidValue,
    /// No USERNAME, XOR-MAPPED-ADDRESS or integrity where there must be one.
    #[error("missing attribute")]
    MissingAttribute,
}

/// Parses one message; the caller verifies it.
pub(crate) fn decode(packet: &[u8]) -> Result<Received<'_>, DecodeError> {
    if packet.len() > MESSAGE_BYTES_MAX {
        return Err(DecodeError::TooLong);
    }
    let (header, mut rest) =
        packet.split_first_chunk::<HEADER_BYTES>().ok_or(DecodeError::Truncated)?;
    let [t0, t1, l0, l1, c0, c1, c2, c3, transaction @ ..] = *header;
    if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE || t0 & 0xC0 != 0 {
        return Err(DecodeError::NotStun);
    }
    if usize::from(u16::from_be_bytes([l0, l1])) != rest.len() || !rest.len().is_multiple_of(4) {
        return Err(DecodeError::LengthMismatch);
    }
    let kind = u16::from_be_bytes([t0, t1]);
    if kind != BINDING_REQUEST && kind != BINDING_RESPONSE {
        return Err(DecodeError::UnknownType);
    }

    let transaction = TransactionId(transaction);
    let mut found = Attributes::default();
    loop {
        if rest.is_empty() {
            return Err(DecodeError::MissingAttribute);
        }
        let signed_bytes = packet.len() - rest.len();
        let (attribute, value, after) = split_attribute(rest)?;
        if attribute == MESSAGE_INTEGRITY_SHA256 {
            let tag = value.try_into().map_err(|_| DecodeError::InvalidValue)?;
            if !after.is_empty() {
                return Err(DecodeError::MisplacedAttribute);
            }
            let (signed, _) = packet.split_at(signed_bytes);
            return Ok(Received { message: found.into_message(kind, transaction)?, signed, tag });
        }
        found.take(attribute, value, transaction)?;
        rest = after;
    }
}

impl Received<'_> {
    /// Returns whether whoever sent this knows the password. Takes the same time for any wrong tag.
    #[must_use]
    pub(crate) fn verify(&self, password: &str) -> bool {
        boring::memcmp::eq(&integrity(password, self.signed), self.tag)
    }
}

impl Request<'_> {
    /// Writes the request and returns its size; `None`: `out` is too small, or the username is none.
    #[must_use]
    pub(crate) fn encode(&self, password: &str, out: &mut [u8]) -> Option<usize> {
        if !is_username(self.username.as_bytes()) {
            return None;
        }
        let mut writer = Writer { out, at: 0 };
        writer.header(BINDING_REQUEST, self.transaction)?;
        writer.attribute(USERNAME, self.username.as_bytes())?;
        if self.use_candidate {
            writer.attribute(USE_CANDIDATE, &[])?;
        }
        if let Some(selection) = self.selection {
            writer.attribute(SELECTION, &selection.to_be_bytes())?;
        }
        if let Some(padding) = self.padding {
            writer.zeros(PADDING, padding)?;
        }
        writer.finish(password)
    }

    /// Returns the padding that makes this request `size` octets long; `None` when it cannot be.
    pub(crate) fn padding_to(&self, size: u16) -> Option<u16> {
        let username = self.username.len().next_multiple_of(4);
        let choice =
            4 * usize::from(self.use_candidate) + 8 * usize::from(self.selection.is_some());
        let bare = HEADER_BYTES + 4 + username + choice + INTEGRITY_BYTES;
        let padding = size.checked_sub(u16::try_from(bare + 4).ok()?)?;
        padding.is_multiple_of(4).then_some(padding)
    }
}

impl Response {
    /// Writes the response and returns its size, or `None` when `out` is too small.
    #[must_use]
    pub(crate) fn encode(&self, password: &str, out: &mut [u8]) -> Option<usize> {
        let mut value = [0; 20];
        let length = write_address(self.mapped, self.transaction, &mut value);
        let mut writer = Writer { out, at: 0 };
        writer.header(BINDING_RESPONSE, self.transaction)?;
        writer.attribute(XOR_MAPPED_ADDRESS, value.get(..length)?)?;
        writer.finish(password)
    }
}

#[derive(Default)]
struct Attributes<'a> {
    username: Option<&'a str>,
    mapped: Option<SocketAddr>,
    use_candidate: bool,
    selection: Option<u32>,
    padding: Option<u16>,
}

impl<'a> Attributes<'a> {
    fn take(
        &mut self,
        attribute: u16,
        value: &'a [u8],
        transaction: TransactionId,
    ) -> Result<(), DecodeError> {
        let invalid = DecodeError::InvalidValue;
        let repeated = match attribute {
            USERNAME => {
                let text = Some(value).filter(|value| is_username(value));
                let text = text.and_then(|value| str::from_utf8(value).ok()).ok_or(invalid)?;
                self.username.replace(text).is_some()
            }
            XOR_MAPPED_ADDRESS => {
                let address = read_address(value, transaction).ok_or(invalid)?;
                self.mapped.replace(address).is_some()
            }
            USE_CANDIDATE if value.is_empty() => std::mem::replace(&mut self.use_candidate, true),
            USE_CANDIDATE => return Err(invalid),
            SELECTION => {
                let number = value.try_into().map_err(|_| invalid)?;
                self.selection.replace(u32::from_be_bytes(number)).is_some()
            }
            PADDING => {
                let length = u16::try_from(value.len()).ok();
                let length = length.filter(|length| length.is_multiple_of(4)).ok_or(invalid)?;
                self.padding.replace(length).is_some()
            }
            COMPREHENSION_OPTIONAL.. => false,
            _ => return Err(DecodeError::UnknownAttribute),
        };
        if repeated { Err(DecodeError::MisplacedAttribute) } else { Ok(()) }
    }

    fn into_message(
        self,
        kind: u16,
        transaction: TransactionId,
    ) -> Result<Message<'a>, DecodeError> {
        let Self { username, mapped, use_candidate, selection, padding } = self;
        let missing = DecodeError::MissingAttribute;
        if kind == BINDING_REQUEST && mapped.is_none() {
            let username = username.ok_or(missing)?;
            let request = Request { transaction, username, use_candidate, selection, padding };
            return Ok(Message::Request(request));
        }
        let only_in_requests =
            username.is_some() || padding.is_some() || use_candidate || selection.is_some();
        if kind == BINDING_REQUEST || only_in_requests {
            return Err(DecodeError::MisplacedAttribute);
        }
        Ok(Message::Response(Response { transaction, mapped: mapped.ok_or(missing)? }))
    }
}

/// Returns type, value and what follows the value's own padding to 4 octets.
fn split_attribute(rest: &[u8]) -> Result<(u16, &[u8], &[u8]), DecodeError> {
    let ([t0, t1, l0, l1], rest) = rest.split_first_chunk::<4>().ok_or(DecodeError::Truncated)?;
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let (padded, after) =
        rest.split_at_checked(length.next_multiple_of(4)).ok_or(DecodeError::Truncated)?;
    let (value, _) = padded.split_at_checked(length).ok_or(DecodeError::Truncated)?;
    Ok((u16::from_be_bytes([*t0, *t1]), value, after))
}

fn is_username(value: &[u8]) -> bool {
    (1..=USERNAME_BYTES_MAX).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

fn integrity(password: &str, signed: &[u8]) -> [u8; TAG_BYTES] {
    hmac_sha256(password.as_bytes(), signed).expect("HMAC-SHA256 takes any key and any message")
}

/// RFC 8489 §14.2: an address is masked with the cookie, and in IPv6 with the transaction id too.
fn address_mask(transaction: TransactionId) -> u128 {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = transaction.0;
    u128::from(MAGIC_COOKIE) << 96
        | u128::from_be_bytes([0, 0, 0, 0, a, b, c, d, e, f, g, h, i, j, k, l])
}

const PORT_MASK: u16 = (MAGIC_COOKIE >> 16) as u16;

fn read_address(value: &[u8], transaction: TransactionId) -> Option<SocketAddr> {
    let ([0, family, p0, p1], address) = value.split_first_chunk::<4>()? else { return None };
    let port = u16::from_be_bytes([*p0, *p1]) ^ PORT_MASK;
    let ip: IpAddr = match family {
        1 => {
            Ipv4Addr::from_bits(u32::from_be_bytes(address.try_into().ok()?) ^ MAGIC_COOKIE).into()
        }
        2 => {
            let masked = u128::from_be_bytes(address.try_into().ok()?);
            Ipv6Addr::from_bits(masked ^ address_mask(transaction)).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn write_address(address: SocketAddr, transaction: TransactionId, value: &mut [u8; 20]) -> usize {
    let [p0, p1] = (address.port() ^ PORT_MASK).to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = (ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes();
            if let Some(head) = value.first_chunk_mut() {
                *head = [0, 1, p0, p1, a, b, c, d];
            }
            8
        }
        IpAddr::V6(ip) => {
            if let Some((head, tail)) = value.split_first_chunk_mut() {
                *head = [0, 2, p0, p1];
                tail.copy_from_slice(&(ip.to_bits() ^ address_mask(transaction)).to_be_bytes());
            }
            20
        }
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn header(&mut self, kind: u16, transaction: TransactionId) -> Option<()> {
        let [t0, t1] = kind.to_be_bytes();
        let [c0, c1, c2, c3] = MAGIC_COOKIE.to_be_bytes();
        self.put(&[t0, t1, 0, 0, c0, c1, c2, c3])?;
        self.put(&transaction.0)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> Option<()> {
        let length = u16::try_from(value.len()).ok()?;
        self.put(&(u32::from(kind) << 16 | u32::from(length)).to_be_bytes())?;
        self.put(value)?;
        let fill = value.len().next_multiple_of(4) - value.len();
        self.put([0; 3].get(..fill)?)
    }

    fn zeros(&mut self, kind: u16, length: u16) -> Option<()> {
        self.put(&(u32::from(kind) << 16 | u32::from(length)).to_be_bytes())?;
        let end = self.at + usize::from(length);
        self.out.get_mut(self.at..end)?.fill(0);
        self.at = end;
        Some(())
    }

    /// Sets the length as if the tag were there already (RFC 8489 §14.6), signs, appends the tag.
    fn finish(mut self, password: &str) -> Option<usize> {
        let length = u16::try_from(self.at + INTEGRITY_BYTES - HEADER_BYTES).ok()?;
        self.out.get_mut(2..4)?.copy_from_slice(&length.to_be_bytes());
        let tag = integrity(password, self.out.get(..self.at)?);
        self.attribute(MESSAGE_INTEGRITY_SHA256, &tag)?;
        Some(self.at)
    }

    fn put(&mut self, octets: &[u8]) -> Option<()> {
        let end = self.at + octets.len();
        self.out.get_mut(self.at..end)?.copy_from_slice(octets);
        self.at = end;
        Some(())
    }
}

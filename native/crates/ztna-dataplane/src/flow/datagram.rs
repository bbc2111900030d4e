//! The QUIC DATAGRAM payloads that carry UDP and echo flows.
//!
//! ```text
//!  +------+---------------+--------+
//!  | 0x00 | flow (varint) | octets |                                          a whole packet
//!  +------+---------------+--------+
//!
//!  +------+---------------+--------------+--------------+-------------+--------+
//!  | 0x01 | flow (varint) | packet (u16) | offset (u16) | total (u16) | octets |   a piece of one
//!  +------+---------------+--------------+--------------+-------------+--------+
//! ```
//!
//! The flow is its stream's id / 4. A packet of no octets is legal, a piece of none is not. Only what
//! does not fit whole is cut, into pieces that fill the size given but for the last.

/// Largest packet in a flow, whole or in pieces (`docs/protocol.md`, flows).
pub(crate) const PACKET_BYTES_MAX: usize = 9_216;

/// Largest flow number: a stream id has 62 bits, of which the lowest two say who opened it.
pub(crate) const FLOW_MAX: u64 = (1 << 60) - 1;

const WHOLE: u8 = 0x00;
const PIECE: u8 = 0x01;

/// Octets of a piece between its flow and its data.
const PIECE_FIELDS_BYTES: usize = 6;

/// One DATAGRAM payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FlowDatagram<'a> {
    /// A packet that fitted.
    Whole {
        /// Stream id / 4.
        flow: u64,
        /// All of it.
        octets: &'a [u8],
    },
    /// A part of one that did not.
    Piece(Piece<'a>),
}

/// A part of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Piece<'a> {
    /// Stream id / 4.
    pub flow: u64,
    /// Tells the packets of a flow apart.
    pub packet: u16,
    /// Where the octets belong.
    pub offset: u16,
    /// Of the whole packet: the same in all of its pieces.
    pub total: u16,
    /// At least one, and no further than `total`.
    pub octets: &'a [u8],
}

/// Why a payload is not a flow datagram, or cannot be made one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum DatagramError {
    /// It ends inside a field.
    #[error("truncated")]
    Truncated,
    /// A type that this version does not know.
    #[error("unknown type {0}")]
    UnknownType(u8),
    /// A flow that no stream id can name.
    #[error("no such flow can exist")]
    InvalidFlow,
    /// A piece without octets, or one that reaches past its packet's end.
    #[error("invalid piece")]
    InvalidPiece,
    /// The packet is larger than 9,216 octets.
    #[error("packet too large")]
    TooLarge,
    /// The size given cannot hold one octet of the packet.
    #[error("no room")]
    NoRoom,
}

impl<'a> FlowDatagram<'a> {
    /// Reads one DATAGRAM payload.
    pub(crate) fn read(payload: &'a [u8]) -> Result<Self, DatagramError> {
        let (kind, rest) = payload.split_first().ok_or(DatagramError::Truncated)?;
        match *kind {
            WHOLE => {
                let (flow, octets) = read_flow(rest)?;
                if octets.len() > PACKET_BYTES_MAX {
                    return Err(DatagramError::TooLarge);
                }
                Ok(Self::Whole { flow, octets })
            }
            PIECE => {
                let (flow, rest) = read_flow(rest)?;
                let (fields, octets) = rest
                    .split_first_chunk::<PIECE_FIELDS_BYTES>()
                    .ok_or(DatagramError::Truncated)?;
                let [p0, p1, o0, o1, t0, t1] = *fields;
                let piece = Piece {
                    flow,
                    packet: u16::from_be_bytes([p0, p1]),
                    offset: u16::from_be_bytes([o0, o1]),
                    total: u16::from_be_bytes([t0, t1]),
                    octets,
                };
                if usize::from(piece.total) > PACKET_BYTES_MAX {
                    return Err(DatagramError::TooLarge);
                }
                if octets.is_empty()
                    || usize::from(piece.offset) + octets.len() > usize::from(piece.total)
                {
                    return Err(DatagramError::InvalidPiece);
                }
                Ok(Self::Piece(piece))
            }
            other => Err(DatagramError::UnknownType(other)),
        }
    }
}

/// Returns the DATAGRAM payloads of at most `size_max` octets that carry a packet of a flow: one when
/// it fits. `packet` should differ from those of the flow's recent packets.
pub(crate) fn write_packet(
    flow: u64,
    packet: u16,
    octets: &[u8],
    size_max: usize,
) -> Result<PacketDatagrams<'_>, DatagramError> {
    if flow > FLOW_MAX {
        return Err(DatagramError::InvalidFlow);
    }
    if octets.len() > PACKET_BYTES_MAX {
        return Err(DatagramError::TooLarge);
    }
    let whole = 1 + varint_length(flow) + octets.len() <= size_max;
    let piece_bytes = size_max.saturating_sub(1 + varint_length(flow) + PIECE_FIELDS_BYTES);
    if !whole && piece_bytes == 0 {
        return Err(DatagramError::NoRoom);
    }
    let total = u16::try_from(octets.len()).map_err(|_| DatagramError::TooLarge)?;
    Ok(PacketDatagrams {
        flow,
        packet,
        total,
        rest: Some(octets),
        piece_bytes: (!whole).then_some(piece_bytes),
    })
}

/// Yields the payloads of one packet, each in a buffer of its own: QUIC keeps them until it sends.
#[derive(Debug)]
pub(crate) struct PacketDatagrams<'a> {
    flow: u64,
    packet: u16,
    total: u16,
    rest: Option<&'a [u8]>,
    /// Octets in a piece; `None` when the packet goes whole.
    piece_bytes: Option<usize>,
}

impl Iterator for PacketDatagrams<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let rest = self.rest.take()?;
        let flow_bytes = varint_length(self.flow);
        let Some(piece_bytes) = self.piece_bytes else {
            let mut payload = Vec::with_capacity(1 + flow_bytes + rest.len());
            payload.push(WHOLE);
            write_varint(self.flow, &mut payload);
            payload.extend_from_slice(rest);
            return Some(payload);
        };

        let (octets, behind) = rest.split_at(rest.len().min(piece_bytes));
        // The packet has at most 9,216 octets.
        let left = u16::try_from(rest.len()).unwrap_or(self.total);
        let mut payload = Vec::with_capacity(1 + flow_bytes + PIECE_FIELDS_BYTES + octets.len());
        payload.push(PIECE);
        write_varint(self.flow, &mut payload);
        for field in [self.packet, self.total - left, self.total] {
            payload.extend_from_slice(&field.to_be_bytes());
        }
        payload.extend_from_slice(octets);
        self.rest = (!behind.is_empty()).then_some(behind);
        Some(payload)
    }
}

/// Reads a variable-length integer (RFC 9000 §16) that names a flow.
fn read_flow(octets: &[u8]) -> Result<(u64, &[u8]), DatagramError> {
    let first = *octets.first().ok_or(DatagramError::Truncated)?;
    let (encoded, rest) =
        octets.split_at_checked(1 << (first >> 6)).ok_or(DatagramError::Truncated)?;
    let value = encoded.iter().fold(0, |value, octet| value << 8 | u64::from(*octet));
    let flow = value & (u64::MAX >> (66 - 8 * encoded.len()));
    if flow > FLOW_MAX {
        return Err(DatagramError::InvalidFlow);
    }
    Ok((flow, rest))
}

/// Appends a variable-length integer in its shortest form.
fn write_varint(value: u64, out: &mut Vec<u8>) {
    let length = varint_length(value);
    let tagged = value | u64::from(length.ilog2()) << (8 * length - 2);
    out.extend(tagged.to_be_bytes().iter().skip(8 - length));
}

const fn varint_length(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

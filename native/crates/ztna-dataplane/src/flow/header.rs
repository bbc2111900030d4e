//! The first octets that an agent writes on a flow's stream.
//!
//! ```text
//!  0         1            3                  4
//!  +---------+------------+------------------+-----------+
//!  | kind u8 | port u16   | length u8 (1..63)| service   |   kind 1 TCP, 2 UDP, 3 echo (port 0)
//!  +---------+------------+------------------+-----------+
//! ```
//!
//! - **Judged octet by octet.** The reader refuses at the first octet that cannot become a header and
//!   never takes one that lies behind it: those are the application's.
//! - **One spelling.** A service name that differs in case or form is another name and is refused, so
//!   that what is looked up is what was granted.

use crate::event::FlowKind;

/// Longest service name (`docs/protocol.md`, identity); the longest DNS label.
pub(crate) const SERVICE_BYTES_MAX: usize = 63;

/// Octets before the service name.
const FIXED_BYTES: usize = 4;

/// Longest header.
pub(crate) const HEADER_BYTES_MAX: usize = FIXED_BYTES + SERVICE_BYTES_MAX;

/// Where a flow wants to go.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct FlowHeader {
    /// TCP, UDP or echo.
    pub kind: FlowKind,
    /// Of the service; 0 for echo and only then.
    pub port: u16,
    service: String,
}

/// Why octets are not a flow header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum FlowHeaderError {
    /// A kind of flow that this version does not know: answered "kind not supported".
    #[error("unknown kind of flow {0}")]
    UnknownKind(u8),
    /// Port 0, or an echo with a port.
    #[error("port {0} does not fit the kind of flow")]
    InvalidPort(u16),
    /// The service is no service name.
    #[error("not a service name")]
    InvalidService,
}

impl FlowHeader {
    /// Creates a header that can be written.
    pub(crate) fn new(kind: FlowKind, port: u16, service: &str) -> Result<Self, FlowHeaderError> {
        if (kind == FlowKind::Echo) != (port == 0) {
            return Err(FlowHeaderError::InvalidPort(port));
        }
        if !is_service_name(service.as_bytes()) {
            return Err(FlowHeaderError::InvalidService);
        }
        Ok(Self { kind, port, service: service.to_owned() })
    }

    /// Returns the service's name, which is well formed.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// Appends the header to `out`.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        out.extend_from_slice(&self.port.to_be_bytes());
        // A service name has at most 63 octets: `new` and `read` are the only ways to make one.
        out.push(u8::try_from(self.service.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(self.service.as_bytes());
    }
}

/// Returns whether `name` is a service name: 1..63 of `[a-z0-9]([a-z0-9-]*[a-z0-9])?`.
pub(crate) const fn is_service_name(name: &[u8]) -> bool {
    let ([first, ..], [.., last]) = (name, name) else { return false };
    if name.len() > SERVICE_BYTES_MAX || *first == b'-' || *last == b'-' {
        return false;
    }
    let mut rest = name;
    while let [octet, tail @ ..] = rest {
        if !matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-') {
            return false;
        }
        rest = tail;
    }
    true
}

/// Reads one header from a stream in pieces of any size.
#[derive(Clone, Debug)]
pub(crate) struct FlowHeaderReader {
    octets: [u8; HEADER_BYTES_MAX],
    filled: usize,
}

impl FlowHeaderReader {
    /// Creates a reader at the start of a stream.
    pub(crate) const fn new() -> Self {
        Self { octets: [0; HEADER_BYTES_MAX], filled: 0 }
    }

    /// Takes octets off the front of `octets` until the header is complete, and returns it; `None`
    /// when they ran out first. What is left in `octets` is the flow's data.
    ///
    /// An error is final: answer it and read no further.
    pub(crate) fn read(
        &mut self,
        octets: &mut &[u8],
    ) -> Result<Option<FlowHeader>, FlowHeaderError> {
        while let Some((octet, rest)) = octets.split_first() {
            let Some(slot) = self.octets.get_mut(self.filled) else {
                return Err(FlowHeaderError::InvalidService);
            };
            *slot = *octet;
            self.filled += 1;
            *octets = rest;

            if let Some(header) = self.judge()? {
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Judges the octet that came last, in the light of those before it.
    fn judge(&self) -> Result<Option<FlowHeader>, FlowHeaderError> {
        let filled = self.octets.get(..self.filled).unwrap_or_default();
        match *filled {
            [kind] => kind_of(kind).map(|_| None),
            [kind, high, low] => {
                let port = u16::from_be_bytes([high, low]);
                if (kind_of(kind)? == FlowKind::Echo) != (port == 0) {
                    return Err(FlowHeaderError::InvalidPort(port));
                }
                Ok(None)
            }
            [_, _, _, length] if !(1..=SERVICE_BYTES_MAX).contains(&length.into()) => {
                Err(FlowHeaderError::InvalidService)
            }
            [kind, high, low, length, ref name @ ..] if name.len() == usize::from(length) => {
                let name =
                    std::str::from_utf8(name).map_err(|_| FlowHeaderError::InvalidService)?;
                FlowHeader::new(kind_of(kind)?, u16::from_be_bytes([high, low]), name).map(Some)
            }
            [_, _, _, _, .., b'a'..=b'z' | b'0'..=b'9' | b'-'] => Ok(None),
            [_, _, _, _, _, ..] => Err(FlowHeaderError::InvalidService),
            [] | [_, _] | [_, _, _, _] => Ok(None),
        }
    }
}

impl Default for FlowHeaderReader {
    fn default() -> Self {
        Self::new()
    }
}

const fn kind_of(octet: u8) -> Result<FlowKind, FlowHeaderError> {
    match octet {
        1 => Ok(FlowKind::Tcp),
        2 => Ok(FlowKind::Udp),
        3 => Ok(FlowKind::Echo),
        other => Err(FlowHeaderError::UnknownKind(other)),
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;

#[cfg(test)]
mod tests {
    use super::fuzz::check_one_flow_header;
    use super::*;
    use crate::test_support::{flow_vectors, hex, seeded};

    #[test]
    fn the_vectors_of_the_protocol_are_read_and_written() {
        for case in flow_vectors("headers") {
            let wire = hex(case["wire"].as_str().unwrap());
            let header = FlowHeader::new(
                kind_of(u8::try_from(case["kind"].as_u64().unwrap()).unwrap()).unwrap(),
                u16::try_from(case["port"].as_u64().unwrap()).unwrap(),
                case["service"].as_str().unwrap(),
            )
            .unwrap();

            let mut written = Vec::new();
            header.write(&mut written);
            assert_eq!(written, wire, "{}", case["name"]);
            assert_eq!(read_all(&wire), Ok(Some(header)), "{}", case["name"]);
        }
    }

    #[test]
    fn the_refusals_of_the_protocol_are_refused() {
        for case in flow_vectors("headerRefusals") {
            let wire = hex(case["wire"].as_str().unwrap());

            let error = read_all(&wire).unwrap_err();

            let reason = match error {
                FlowHeaderError::UnknownKind(_) => "unknown-kind",
                FlowHeaderError::InvalidPort(_) => "invalid-port",
                FlowHeaderError::InvalidService => "invalid-service",
            };
            assert_eq!(reason, case["reason"], "{}", case["name"]);
        }
    }

    #[test]
    fn a_header_may_arrive_octet_by_octet_and_leaves_the_data_behind_it() {
        let mut wire = Vec::new();
        let header = FlowHeader::new(FlowKind::Tcp, 80, "echo-service").unwrap();
        header.write(&mut wire);
        wire.extend_from_slice(b"GET /");

        for size in 1..=wire.len() {
            let mut reader = FlowHeaderReader::new();
            let mut found = None;
            let mut data = Vec::new();
            for mut part in wire.chunks(size) {
                if found.is_none() {
                    found = reader.read(&mut part).unwrap();
                }
                data.extend_from_slice(part);
            }

            assert_eq!(found.as_ref(), Some(&header), "in parts of {size}");
            assert_eq!(data, b"GET /");
        }
    }

    #[test]
    fn a_wrong_octet_is_refused_when_it_arrives() {
        for (wire, at) in [("07", 1), ("01 0000", 3), ("01 0050 00", 4), ("01 0050 05 61 5f", 6)] {
            let wire = hex(wire);
            let mut reader = FlowHeaderReader::new();
            for octet in &wire[..at - 1] {
                assert_eq!(reader.read(&mut &[*octet][..]), Ok(None));
            }

            assert!(reader.read(&mut &wire[at - 1..at]).is_err());
        }
    }

    #[test]
    fn a_service_of_63_octets_passes_and_of_64_does_not() {
        let longest = "a".repeat(63);
        let header = FlowHeader::new(FlowKind::Udp, 53, &longest).unwrap();
        let mut wire = Vec::new();
        header.write(&mut wire);

        assert_eq!(wire.len(), HEADER_BYTES_MAX);
        assert_eq!(read_all(&wire), Ok(Some(header)));
        assert_eq!(
            FlowHeader::new(FlowKind::Udp, 53, &"a".repeat(64)),
            Err(FlowHeaderError::InvalidService)
        );
        assert_eq!(read_all(&hex("02 0035 40")), Err(FlowHeaderError::InvalidService));
    }

    #[test]
    fn service_names_have_one_spelling() {
        for name in ["a", "0", "a-b", "a--b", "echo-service", "9"] {
            assert!(is_service_name(name.as_bytes()), "{name}");
        }
        for name in ["", "-", "-a", "a-", "A", "a.b", "a_b", "a b", "é", "a\0"] {
            assert!(!is_service_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn echo_has_no_port_and_nothing_else_goes_without() {
        assert!(FlowHeader::new(FlowKind::Echo, 0, "a").is_ok());
        assert!(FlowHeader::new(FlowKind::Tcp, 65_535, "a").is_ok());
        for (kind, port) in [(FlowKind::Echo, 1), (FlowKind::Tcp, 0), (FlowKind::Udp, 0)] {
            assert_eq!(
                FlowHeader::new(kind, port, "a"),
                Err(FlowHeaderError::InvalidPort(port)),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn any_octets_are_read_without_a_panic_and_what_is_accepted_reads_back() {
        seeded(200_000, |random| {
            let mut data: Vec<u8> = hex("01 0050 0c 6563686f2d73657276696365 00ff");
            for _ in 0..random.usize(0..3) {
                let at = random.usize(0..data.len());
                data[at] = if random.bool() { random.u8(..) } else { random.u8(0..8) };
            }
            data.truncate(random.usize(0..=data.len()));
            check_one_flow_header(&data);
        });
    }

    fn read_all(mut wire: &[u8]) -> Result<Option<FlowHeader>, FlowHeaderError> {
        FlowHeaderReader::new().read(&mut wire)
    }
}

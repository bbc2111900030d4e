//! How a connector answers a flow, and how either side ends one: octets and stream error codes.
//!
//! The answer is one octet on the flow's stream, before any data. A stream error code travels in
//! RESET_STREAM and STOP_SENDING. Codes 2..5 mean the same in both.

use std::io;

/// The connector's answer to a flow header.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub(crate) enum FlowAnswer {
    /// Data follows.
    Connected = 0,
    /// No session, no grant, no such service or port: the same answer, given before any look-up.
    NotAvailable = 1,
    /// The backend refused the connection.
    Refused = 2,
    /// The backend cannot be reached.
    Unreachable = 3,
    /// The backend did not answer in time.
    TimedOut = 4,
    /// A limit of the connector is reached.
    LimitExceeded = 5,
    /// A kind of flow that the connector does not know.
    KindNotSupported = 8,
}

impl FlowAnswer {
    /// Reads an answer; `None` for an octet that is none, which ends the flow.
    pub(crate) const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            0 => Some(Self::Connected),
            1 => Some(Self::NotAvailable),
            2 => Some(Self::Refused),
            3 => Some(Self::Unreachable),
            4 => Some(Self::TimedOut),
            5 => Some(Self::LimitExceeded),
            8 => Some(Self::KindNotSupported),
            _ => None,
        }
    }

    /// Returns the octet on the wire.
    pub(crate) const fn octet(self) -> u8 {
        self as u8
    }

    /// Returns the answer for a connection to a backend that failed so.
    ///
    /// What the system lacks (descriptors, memory, ports) is a limit; what is not known to be a
    /// refusal or a delay means that the backend cannot be reached.
    pub(crate) fn from_connect_error(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED | libc::ECONNRESET) => return Self::Refused,
            Some(libc::ETIMEDOUT) => return Self::TimedOut,
            Some(
                libc::EMFILE
                | libc::ENFILE
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EAGAIN
                | libc::EADDRNOTAVAIL,
            ) => return Self::LimitExceeded,
            Some(_) => return Self::Unreachable,
            None => {}
        }
        #[expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind grows with the library")]
        match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Unreachable,
        }
    }
}

/// Why one side ended a flow before its end.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub(crate) enum StreamError {
    /// The application or the backend reset its connection.
    PeerReset = 0,
    /// The backend refused.
    Refused = 2,
    /// The backend, or the way to it, is gone.
    Unreachable = 3,
    /// The backend did not answer in time.
    TimedOut = 4,
    /// A limit of either side was reached.
    LimitExceeded = 5,
    /// The session of the service ended.
    SessionEnded = 7,
    /// Nothing was sent for the idle time of the service.
    Idle = 9,
    /// A bug, or a peer that speaks another language.
    Internal = 10,
}

impl StreamError {
    /// Reads a code; what is unknown is [`Self::Internal`], for the flow has ended either way.
    pub(crate) const fn from_code(code: u64) -> Self {
        match code {
            0 => Self::PeerReset,
            2 => Self::Refused,
            3 => Self::Unreachable,
            4 => Self::TimedOut,
            5 => Self::LimitExceeded,
            7 => Self::SessionEnded,
            9 => Self::Idle,
            _ => Self::Internal,
        }
    }

    /// Returns the code on the wire.
    pub(crate) const fn code(self) -> u64 {
        self as u64
    }

    /// Returns the code for an established connection that failed so.
    pub(crate) fn from_io_error(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED) => Self::PeerReset,
            Some(libc::ECONNREFUSED) => Self::Refused,
            Some(libc::ETIMEDOUT) => Self::TimedOut,
            Some(libc::ENOBUFS | libc::ENOMEM) => Self::LimitExceeded,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN | libc::EHOSTDOWN) => {
                Self::Unreachable
            }
            Some(_) => Self::Internal,
            None if error.kind() == io::ErrorKind::ConnectionReset => Self::PeerReset,
            None if error.kind() == io::ErrorKind::TimedOut => Self::TimedOut,
            None => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::flow_vectors;

    #[test]
    fn the_octets_are_those_of_the_protocol() {
        let named = [
            ("connected", FlowAnswer::Connected),
            ("not-available", FlowAnswer::NotAvailable),
            ("refused", FlowAnswer::Refused),
            ("unreachable", FlowAnswer::Unreachable),
            ("timed-out", FlowAnswer::TimedOut),
            ("limit-exceeded", FlowAnswer::LimitExceeded),
            ("kind-not-supported", FlowAnswer::KindNotSupported),
        ];
        let vectors = flow_vectors("answers");
        assert_eq!(vectors.len(), named.len());
        for case in vectors {
            let octet = u8::try_from(case["octet"].as_u64().unwrap()).unwrap();
            let (_, answer) = named.iter().find(|(name, _)| case["name"] == *name).unwrap();

            assert_eq!(answer.octet(), octet);
            assert_eq!(FlowAnswer::from_octet(octet), Some(*answer));
        }
    }

    #[test]
    fn the_stream_error_codes_are_those_of_the_protocol() {
        let named = [
            ("peer-reset", StreamError::PeerReset),
            ("refused", StreamError::Refused),
            ("unreachable", StreamError::Unreachable),
            ("timed-out", StreamError::TimedOut),
            ("limit-exceeded", StreamError::LimitExceeded),
            ("session-ended", StreamError::SessionEnded),
            ("idle", StreamError::Idle),
            ("internal", StreamError::Internal),
        ];
        let vectors = flow_vectors("streamErrors");
        assert_eq!(vectors.len(), named.len());
        for case in vectors {
            let code = case["code"].as_u64().unwrap();
            let (_, error) = named.iter().find(|(name, _)| case["name"] == *name).unwrap();

            assert_eq!(error.code(), code);
            assert_eq!(StreamError::from_code(code), *error);
        }
    }

    #[test]
    fn an_octet_that_is_no_answer_is_none() {
        for octet in (0..=u8::MAX).filter(|octet| !matches!(octet, 0..=5 | 8)) {
            assert_eq!(FlowAnswer::from_octet(octet), None);
        }
    }

    #[test]
    fn an_unknown_stream_error_is_internal() {
        for code in [1, 6, 8, 11, u64::MAX] {
            assert_eq!(StreamError::from_code(code), StreamError::Internal);
        }
    }

    #[test]
    fn what_a_connect_meets_has_one_answer() {
        for (errno, answer) in [
            (libc::ECONNREFUSED, FlowAnswer::Refused),
            (libc::ETIMEDOUT, FlowAnswer::TimedOut),
            (libc::EHOSTUNREACH, FlowAnswer::Unreachable),
            (libc::ENETUNREACH, FlowAnswer::Unreachable),
            (libc::EACCES, FlowAnswer::Unreachable),
            (libc::EMFILE, FlowAnswer::LimitExceeded),
            (libc::ENFILE, FlowAnswer::LimitExceeded),
            (libc::ENOBUFS, FlowAnswer::LimitExceeded),
            (libc::EADDRNOTAVAIL, FlowAnswer::LimitExceeded),
        ] {
            let error = io::Error::from_raw_os_error(errno);
            assert_eq!(FlowAnswer::from_connect_error(&error), answer, "{error}");
        }
        let timed_out = io::Error::from(io::ErrorKind::TimedOut);
        assert_eq!(FlowAnswer::from_connect_error(&timed_out), FlowAnswer::TimedOut);
    }

    #[test]
    fn what_ends_a_connection_has_one_code() {
        for (errno, code) in [
            (libc::ECONNRESET, StreamError::PeerReset),
            (libc::EPIPE, StreamError::PeerReset),
            (libc::ETIMEDOUT, StreamError::TimedOut),
            (libc::ECONNREFUSED, StreamError::Refused),
            (libc::EHOSTUNREACH, StreamError::Unreachable),
            (libc::ENOMEM, StreamError::LimitExceeded),
            (libc::EBADF, StreamError::Internal),
        ] {
            assert_eq!(StreamError::from_io_error(&io::Error::from_raw_os_error(errno)), code);
        }
    }
}

//! Streams of flows that are over, until QUIC has forgotten them.
//!
//! - **quiche forgets a stream when all of the own direction is acknowledged and the peer's end is
//!   there**: an end that comes after reading was shut down, and after that acknowledgement, is not noticed
//!   (quiche 0.30, issue 1968). The stream stays, and its place among the peer's streams with it. So the
//!   own direction ends, or says once more that it has ended, when the peer's end is there.
//! - **A stopped stream is forgotten when its capacity is asked for**, and not before.

use std::collections::BTreeMap;

use crate::connection::Quic;
use crate::flow::answer::StreamError;

/// Streams that are looked at whenever packets came; a timeout looks at all.
const LOOKED_AT: usize = 64;

/// The own direction of a stream whose flow is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum OwnEnd {
    /// FIN was sent.
    Finished,
    /// It is reset when the peer's end is there.
    Open(StreamError),
}

impl OwnEnd {
    fn tell(self, quic: &mut Quic, stream: u64) {
        // Done: QUIC has forgotten it, or was told before.
        let _ = match self {
            Self::Finished => quic.stream_send(stream, b"", true).map(drop),
            Self::Open(error) => {
                quic.stream_shutdown(stream, quiche::Shutdown::Write, error.code())
            }
        };
    }
}

/// Streams of one tunnel that belong to no flow any more.
#[derive(Default)]
pub(crate) struct EndingStreams {
    /// Those whose peer was asked to stop.
    stopped: BTreeMap<u64, OwnEnd>,
    /// How many streams the peer wants stopped, and how many of those were looked for.
    peer_stops: u64,
    peer_stops_known: u64,
}

impl EndingStreams {
    /// Ends both directions of a stream, or the peer's alone where FIN was sent. `error` is what the peer
    /// reads.
    pub(super) fn end(
        &mut self,
        quic: &mut Quic,
        stream: u64,
        has_finished: bool,
        error: StreamError,
    ) {
        let own = if has_finished { OwnEnd::Finished } else { OwnEnd::Open(error) };
        // An end that is there already is lost when reading is shut down.
        discard(quic, stream);
        if quic.stream_finished(stream) {
            return own.tell(quic, stream);
        }
        // Done: that was said before.
        let _ = quic.stream_shutdown(stream, quiche::Shutdown::Read, error.code());
        self.stopped.insert(stream, own);
    }

    pub(super) fn is_ending(&self, stream: u64) -> bool {
        self.stopped.contains_key(&stream)
    }

    pub(super) fn len(&self) -> usize {
        self.stopped.len()
    }

    /// Looks whether the ends of some streams are there. `peer_stops` is QUIC's count of STOP_SENDING.
    pub(super) fn handle_packets(&mut self, quic: &mut Quic, peer_stops: u64) {
        self.peer_stops = peer_stops;
        self.look(quic, LOOKED_AT);
    }

    /// Looks at all streams. Returns those that the peer wants stopped: QUIC has forgotten them, unless
    /// they have a flow.
    pub(super) fn handle_timeout(&mut self, quic: &mut Quic) -> Vec<u64> {
        self.look(quic, usize::MAX);
        let writable = quic.writable();
        // Without credit none is told of.
        if self.peer_stops == self.peer_stops_known || writable.len() == 0 {
            return Vec::new();
        }
        self.peer_stops_known = self.peer_stops;
        writable.filter(|stream| is_stopped(quic, *stream)).collect()
    }

    /// Returns whether [`Self::handle_timeout`] sees what [`Self::handle_packets`] does not.
    pub(super) fn wants_timeout(&self) -> bool {
        self.stopped.len() > LOOKED_AT || self.peer_stops != self.peer_stops_known
    }

    fn look(&mut self, quic: &mut Quic, most: usize) {
        let streams = self.stopped.iter().take(most);
        let ended = streams.filter(|(stream, _)| quic.stream_finished(**stream));
        let ended: Vec<(u64, OwnEnd)> = ended.map(|(stream, own)| (*stream, *own)).collect();
        for (stream, own) in ended {
            self.stopped.remove(&stream);
            own.tell(quic, stream);
        }
    }
}

/// Takes what came in a stream, an end included.
pub(super) fn discard(quic: &mut Quic, stream: u64) {
    while let Ok((_, false)) = quic.stream_discard(stream, usize::MAX) {}
}

/// Returns whether the peer wants a stream stopped, and lets QUIC forget one that is over.
fn is_stopped(quic: &mut Quic, stream: u64) -> bool {
    matches!(quic.stream_capacity(stream), Err(quiche::Error::StreamStopped(_)))
}

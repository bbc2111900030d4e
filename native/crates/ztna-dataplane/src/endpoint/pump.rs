//! Moves the octets of TCP flows between a QUIC stream and a local end.
//!
//! - **Nothing is read that cannot be passed on**: a local end is read up to the stream's capacity, a
//!   stream is read up to what the local end took. Flow control is end to end.
//! - **FIN is passed on in each direction on its own**; a reset ends both.
//! - **A flow has a budget a turn**, so that one does not starve the others.

use std::time::Instant;

use crate::backend::tcp::{TcpEnd, TcpRead, TcpWrite};
use crate::connection::Quic;
use crate::flow::answer::StreamError;
use crate::termination::{TcpRecvError, TerminatedFlow, Termination};

use super::flows::{Flow, Local, Up};
use super::opening::send_preface;
use super::packets::Link;

/// Octets a flow may move in one direction in one turn.
const BUDGET_BYTES: usize = 256 << 10;
/// Less capacity than this waits for more, unless that is all there is: a packet or two at a time costs
/// a system call each.
const CAPACITY_WORTHWHILE: usize = 8 << 10;

/// What became of a flow in one turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pumped {
    /// It waits for one of its ends.
    Idle,
    /// Its budget is spent, not its work.
    Again,
    /// Both directions ended in order.
    Finished,
    /// It must be reset at both ends.
    Failed(StreamError),
}

/// What one direction came to.
pub(super) enum Direction {
    Blocked,
    Spent,
    Failed(StreamError),
}

/// Moves what can be moved.
pub(super) fn pump(
    flow: &mut Flow,
    quic: &mut Quic,
    links: &mut [Link],
    scratch: &mut [u8],
    now: Instant,
) -> Pumped {
    let mut end = match &mut flow.local {
        Local::Tcp(tcp) => End::Socket(tcp),
        Local::Terminated(link, id) => match links.get_mut(*link) {
            Some(link) => End::Terminated(&mut link.termination, *id),
            None => return Pumped::Idle,
        },
        Local::None
        | Local::Udp(_)
        | Local::Forward { .. }
        | Local::Socks { .. }
        | Local::Packets { .. }
        | Local::PacketsEcho { .. }
        | Local::Ping { .. }
        | Local::Echo => return Pumped::Idle,
    };

    let had_finished = flow.up.finished;
    let up = send_up(&mut flow.up, &mut end, quic, scratch);
    if let Direction::Failed(error) = up {
        return Pumped::Failed(error);
    }
    if flow.up.finished && !had_finished {
        // The FIN leaves first: QUIC forgets a stream whose other end is read, and the FIN with it.
        return Pumped::Again;
    }
    let down = send_down(&mut flow.down, &mut end, flow.up.stream, quic, scratch);
    if let Direction::Failed(error) = down {
        return Pumped::Failed(error);
    }

    if flow.up.finished && flow.down.finished {
        return Pumped::Finished;
    }
    let blocked_since = flow.down.blocked_since.unwrap_or(now);
    flow.down.blocked_since = flow.down.local_blocked.then_some(blocked_since);
    match (up, down) {
        (Direction::Blocked, Direction::Blocked) => Pumped::Idle,
        _ => Pumped::Again,
    }
}

/// From QUIC to the local end.
#[derive(Debug, Default)]
pub(super) struct Down {
    /// Read from QUIC, not taken by the local end yet.
    pending: Vec<u8>,
    pending_at: usize,
    pub(super) bytes: u64,
    /// FIN was read from QUIC.
    fin_read: bool,
    /// FIN was passed on.
    pub(super) finished: bool,
    /// The local end takes nothing more.
    pub(super) local_blocked: bool,
    /// Since when.
    pub(super) blocked_since: Option<Instant>,
}

impl Down {
    /// Starts with octets that were read together with the flow's header.
    pub(super) fn begin(&mut self, octets: &[u8], finished: bool) {
        self.pending.extend_from_slice(octets);
        self.bytes += octets.len() as u64;
        self.fin_read = finished;
    }

    /// The local end takes nothing more at the moment. The stream's end is heard all the same: a reset
    /// does not wait until somebody reads.
    fn block(&mut self, stream: u64, quic: &mut Quic) -> Direction {
        self.local_blocked = true;
        if quic.stream_readable(stream) && quic.stream_readable_len(stream, 1) == 0 {
            match receive(quic, stream, &mut [0]) {
                Ok(end) => self.fin_read |= end.is_some_and(|(_, finished)| finished),
                Err(error) => return Direction::Failed(error),
            }
        }
        Direction::Blocked
    }

    /// Everything that waited was taken. Its memory goes back: many flows are blocked once and live long.
    fn forget_pending(&mut self) {
        self.pending = Vec::new();
        self.pending_at = 0;
    }
}

pub(super) enum End<'a> {
    Socket(&'a mut TcpEnd),
    Terminated(&'a mut Termination, TerminatedFlow),
}

pub(super) fn send_up(
    up: &mut Up,
    end: &mut End<'_>,
    quic: &mut Quic,
    scratch: &mut [u8],
) -> Direction {
    if up.finished {
        return Direction::Blocked;
    }
    match send_preface(up, quic) {
        Ok(true) => {}
        Ok(false) => return Direction::Blocked,
        Err(error) => return Direction::Failed(error),
    }

    let mut moved = 0;
    while moved < BUDGET_BYTES {
        let capacity = match quic.stream_capacity(up.stream) {
            Ok(capacity) => capacity,
            Err(quiche::Error::StreamStopped(code)) => {
                return Direction::Failed(StreamError::from_code(code));
            }
            // Over at both ends, and forgotten.
            Err(_) => return Direction::Failed(StreamError::PeerReset),
        };
        if capacity == 0 || (capacity < CAPACITY_WORTHWHILE && moved > 0) {
            up.starved = true;
            return Direction::Blocked;
        }
        match end.read_into(up.stream, capacity, quic, scratch) {
            Ok(Read::Moved(count)) => {
                moved += count;
                up.bytes += count as u64;
            }
            Ok(Read::Nothing) => return Direction::Blocked,
            Ok(Read::Finished) => {
                // Done: the FIN goes with the next capacity.
                if quic.stream_send(up.stream, b"", true).is_err() {
                    up.starved = true;
                    return Direction::Blocked;
                }
                up.finished = true;
                return Direction::Blocked;
            }
            Err(error) => return Direction::Failed(error),
        }
    }
    Direction::Spent
}

fn send_down(
    down: &mut Down,
    end: &mut End<'_>,
    stream: u64,
    quic: &mut Quic,
    scratch: &mut [u8],
) -> Direction {
    down.local_blocked = false;
    let mut moved = 0;
    while moved < BUDGET_BYTES {
        if let Some(rest) = down.pending.get(down.pending_at..).filter(|rest| !rest.is_empty()) {
            match end.write(rest) {
                Ok(0) => return down.block(stream, quic),
                Ok(count) => down.pending_at += count,
                Err(error) => return Direction::Failed(error),
            }
            continue;
        }
        down.forget_pending();

        if down.fin_read {
            if !down.finished {
                down.finished = true;
                end.finish();
            }
            return Direction::Blocked;
        }
        match end.write_from(stream, quic, scratch, &mut down.pending) {
            Ok(Write::Moved { count, finished }) => {
                moved += count;
                down.bytes += count as u64;
                down.fin_read = finished;
            }
            Ok(Write::Nothing) => return Direction::Blocked,
            Ok(Write::Full) => return down.block(stream, quic),
            Err(error) => return Direction::Failed(error),
        }
    }
    Direction::Spent
}

enum Read {
    Moved(usize),
    Nothing,
    Finished,
}

enum Write {
    Moved {
        count: usize,
        finished: bool,
    },
    /// QUIC has nothing.
    Nothing,
    /// The local end has no room.
    Full,
}

impl End<'_> {
    fn read_into(
        &mut self,
        stream: u64,
        capacity: usize,
        quic: &mut Quic,
        scratch: &mut [u8],
    ) -> Result<Read, StreamError> {
        match self {
            Self::Socket(tcp) => {
                let most = capacity.min(scratch.len());
                let room = scratch.get_mut(..most).unwrap_or_default();
                let count = match tcp.read(room) {
                    TcpRead::Data(count) => count,
                    TcpRead::WouldBlock => return Ok(Read::Nothing),
                    TcpRead::End => return Ok(Read::Finished),
                    TcpRead::Failed(error) => return Err(error),
                };
                let octets = scratch.get(..count).unwrap_or_default();
                send_all(quic, stream, octets)?;
                Ok(Read::Moved(count))
            }
            Self::Terminated(termination, flow) => {
                let mut failed = None;
                let outcome = termination.recv(*flow, |octets| {
                    let octets = octets.get(..capacity.min(octets.len())).unwrap_or_default();
                    match quic.stream_send(stream, octets, false) {
                        Ok(sent) => sent,
                        Err(quiche::Error::Done) => 0,
                        Err(_) => {
                            failed = Some(StreamError::Internal);
                            0
                        }
                    }
                });
                if let Some(error) = failed {
                    return Err(error);
                }
                match outcome {
                    Ok(0) | Err(TcpRecvError::Empty) => Ok(Read::Nothing),
                    Ok(count) => Ok(Read::Moved(count)),
                    Err(TcpRecvError::Finished) => Ok(Read::Finished),
                    Err(TcpRecvError::Reset) => Err(StreamError::PeerReset),
                }
            }
        }
    }

    fn write(&mut self, octets: &[u8]) -> Result<usize, StreamError> {
        match self {
            Self::Socket(tcp) => match tcp.write(octets) {
                TcpWrite::Accepted(count) => Ok(count),
                TcpWrite::WouldBlock => Ok(0),
                TcpWrite::Failed(error) => Err(error),
            },
            // A ring is written in place and leaves nothing over.
            Self::Terminated(..) => Ok(octets.len()),
        }
    }

    fn write_from(
        &mut self,
        stream: u64,
        quic: &mut Quic,
        scratch: &mut [u8],
        pending: &mut Vec<u8>,
    ) -> Result<Write, StreamError> {
        match self {
            Self::Socket(tcp) => {
                let Some((count, finished)) = receive(quic, stream, scratch)? else {
                    return Ok(Write::Nothing);
                };
                let octets = scratch.get(..count).unwrap_or_default();
                let mut written = 0;
                while written < count {
                    let rest = octets.get(written..).unwrap_or_default();
                    match tcp.write(rest) {
                        TcpWrite::Accepted(more) if more > 0 => written += more,
                        TcpWrite::Accepted(_) | TcpWrite::WouldBlock => break,
                        TcpWrite::Failed(error) => return Err(error),
                    }
                }
                pending.extend_from_slice(octets.get(written..).unwrap_or_default());
                Ok(Write::Moved { count, finished })
            }
            Self::Terminated(termination, flow) => {
                if !quic.stream_readable(stream) {
                    return Ok(Write::Nothing);
                }
                if termination.send_capacity(*flow) == 0 {
                    return Ok(Write::Full);
                }
                let mut got = Ok(None);
                let sent = termination.send(*flow, |room| {
                    got = receive(quic, stream, room);
                    got.as_ref().ok().copied().flatten().map_or(0, |(count, _)| count)
                });
                if sent.is_err() {
                    return Err(StreamError::PeerReset);
                }
                Ok(match got? {
                    Some((count, finished)) => Write::Moved { count, finished },
                    None => Write::Nothing,
                })
            }
        }
    }

    fn finish(&mut self) {
        match self {
            Self::Socket(tcp) => tcp.shutdown_write(),
            Self::Terminated(termination, flow) => termination.finish(*flow),
        }
    }
}

/// Reads a stream; `None` when it has nothing at the moment.
fn receive(
    quic: &mut Quic,
    stream: u64,
    room: &mut [u8],
) -> Result<Option<(usize, bool)>, StreamError> {
    match quic.stream_recv(stream, room) {
        Ok(got) => Ok(Some(got)),
        Err(quiche::Error::Done) => Ok(None),
        Err(quiche::Error::StreamReset(code)) => Err(StreamError::from_code(code)),
        Err(_) => Err(StreamError::Internal),
    }
}

/// Gives QUIC octets that it has capacity for.
fn send_all(quic: &mut Quic, stream: u64, mut octets: &[u8]) -> Result<(), StreamError> {
    while !octets.is_empty() {
        match quic.stream_send(stream, octets, false) {
            Ok(sent) if sent > 0 => octets = octets.get(sent..).unwrap_or_default(),
            // The capacity that was read a moment ago is gone: nothing may be lost, so give up.
            Ok(_) | Err(_) => return Err(StreamError::Internal),
        }
    }
    Ok(())
}

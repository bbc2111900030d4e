//! What the owner does with a TCP flow: decide on it, read, write, end it.

use std::time::Instant;

use smoltcp::socket::tcp::{RecvError, State};
use smoltcp::wire::IpListenEndpoint;

use super::datagram::{Unreachable, build_unreachable};
use super::flow_table::{Live, Stage, TerminatedFlow};
use super::ip::{IPV4_HEADER, IPV6_HEADER};
use super::segment::TCP_HEADER;
use super::terminal::RING;
use super::{TcpEvent, TcpRecvError, TcpRefusal, TcpSendError, Termination, TerminationConfig};

impl Termination {
    /// Lets the held SYN through: the application's `connect` succeeds. Without memory for another
    /// flow it is refused, and the flow ends with `Reset`.
    pub(crate) fn accept(&mut self, flow: TerminatedFlow, now: Instant) {
        self.now = now;
        let Some(entry) = self.table.get_mut(flow) else { return };
        let Stage::Held(syn) = entry.stage else { return };
        let key = entry.key;
        let listen = IpListenEndpoint {
            addr: Some(key.destination.ip().into()),
            port: key.destination.port(),
        };
        let terminal = self.pool.take().ok().and_then(|mut terminal| {
            terminal.socket().listen(listen).ok()?;
            Some(terminal)
        });
        let Some(terminal) = terminal else {
            self.refuse(flow, TcpRefusal::Reset, now);
            return self.events.push_back(TcpEvent::Reset { flow });
        };
        entry.stage = Stage::Live(Live {
            terminal,
            mss: self.config.segment_max(key.source.is_ipv4()).min(syn.mss),
            established: false,
            finish_wanted: false,
            finished_seen: false,
            aborted: false,
            closed: false,
            bound: true,
            dirty: false,
            readable_queued: false,
            writable_queued: false,
            full: false,
            active_at: now,
            window_known: false,
            received_end: syn.sequence.wrapping_add(1),
            acknowledged: syn.sequence.wrapping_add(1),
        });
        self.watch_touched(flow);
        self.held -= 1;
        self.counters.flows_opened += 1;
        self.table.clear_timer(flow);
        self.feed_stack(Some(flow), syn.packet());
        self.mark_dirty(flow);
    }

    /// Answers the held SYN as a host or firewall would that does not take the connection. No event
    /// follows.
    pub(crate) fn refuse(&mut self, flow: TerminatedFlow, refusal: TcpRefusal, now: Instant) {
        self.now = now;
        let Some(entry) = self.table.get(flow) else { return };
        let Stage::Held(syn) = entry.stage else { return };
        let key = entry.key;
        let unreachable = match refusal {
            TcpRefusal::Reset => None,
            TcpRefusal::Unreachable => Some(Unreachable::Host),
        };
        match unreachable {
            None => self.feed_stack(None, syn.packet()),
            Some(unreachable) => {
                let (source, destination) = (key.source.ip(), key.destination.ip());
                let mut packet = Vec::with_capacity(256);
                let quoted = syn.packet();
                if let Some(header) =
                    build_unreachable(unreachable, source, destination, quoted, &mut packet)
                {
                    self.replies.push(header, &packet);
                }
            }
        }
        self.release(flow);
    }

    /// Passes octets that arrived to `take`, which returns how many of them it took. They are one
    /// contiguous part of what is there, so that another call may find more.
    pub(crate) fn recv(
        &mut self,
        flow: TerminatedFlow,
        take: impl FnOnce(&[u8]) -> usize,
    ) -> Result<usize, TcpRecvError> {
        let now = self.now;
        let Some(live) = self.table.live_mut(flow).filter(|live| !live.aborted) else {
            // A held flow has nothing to say yet.
            let held =
                self.table.get(flow).is_some_and(|flow| matches!(flow.stage, Stage::Held(_)));
            return Err(if held { TcpRecvError::Empty } else { TcpRecvError::Reset });
        };
        let socket = live.terminal.socket();
        if !socket.can_recv() && (socket.may_recv() || socket.state() == State::SynReceived) {
            return Err(TcpRecvError::Empty);
        }
        let taken = socket.recv(|octets| {
            let taken = take(octets).min(octets.len());
            (taken, taken)
        });
        let result = match taken {
            Ok(0) => return Ok(0),
            Ok(taken) => Ok(taken),
            Err(RecvError::Finished) => {
                live.finished_seen = true;
                Err(TcpRecvError::Finished)
            }
            Err(RecvError::InvalidState) => return Err(TcpRecvError::Reset),
        };
        live.active_at = now;
        self.mark_dirty(flow);
        result
    }

    /// Passes room in the send ring to `fill`, which returns how much of it it filled. Returns 0
    /// without calling it when there is no room, or the connection is not established: `Writable`
    /// follows then.
    pub(crate) fn send(
        &mut self,
        flow: TerminatedFlow,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<usize, TcpSendError> {
        let now = self.now;
        let Some(live) = self.table.live_mut(flow).filter(|live| !live.aborted) else {
            let held =
                self.table.get(flow).is_some_and(|flow| matches!(flow.stage, Stage::Held(_)));
            return if held { Ok(0) } else { Err(TcpSendError::Reset) };
        };
        let socket = live.terminal.socket();
        if live.finish_wanted {
            return Err(TcpSendError::Finished);
        }
        if !live.established {
            return Ok(0);
        }
        if !socket.may_send() {
            return Err(TcpSendError::Reset);
        }
        if !socket.can_send() {
            live.full = true;
            return Ok(0);
        }
        let filled = socket.send(|room| {
            let filled = fill(room).min(room.len());
            (filled, filled)
        });
        live.full = !socket.can_send();
        live.active_at = now;
        self.mark_touched(flow);
        self.mark_dirty(flow);
        filled.map_err(|_| TcpSendError::Reset)
    }

    /// Returns how many octets [`Termination::send`] would take, in at most two calls.
    pub(crate) fn send_capacity(&self, flow: TerminatedFlow) -> usize {
        match self.table.live(flow) {
            Some(live) if live.established && !live.finish_wanted && !live.aborted => {
                RING - live.terminal.socket_ref().send_queue()
            }
            Some(_) | None => 0,
        }
    }

    /// Ends the owner's direction once everything is sent. May be called twice.
    pub(crate) fn finish(&mut self, flow: TerminatedFlow) {
        let Some(live) = self.table.live_mut(flow) else { return };
        live.finish_wanted = true;
        // The stack takes a FIN before the handshake's end for part of the handshake.
        if live.established {
            live.terminal.socket().close();
        }
        self.mark_dirty(flow);
    }

    /// Resets the connection, or the SYN that is held. No event follows.
    pub(crate) fn abort(&mut self, flow: TerminatedFlow, now: Instant) {
        self.now = now;
        let Some(live) = self.table.live_mut(flow) else {
            return self.refuse(flow, TcpRefusal::Reset, now);
        };
        live.aborted = true;
        live.terminal.socket().abort();
        self.mark_dirty(flow);
    }
}

impl TerminationConfig {
    /// Returns the most data that a segment of the device's MTU carries.
    const fn segment_max(&self, ipv4: bool) -> u16 {
        let ip = if ipv4 { IPV4_HEADER } else { IPV6_HEADER };
        self.mtu.saturating_sub((ip + TCP_HEADER) as u16)
    }
}

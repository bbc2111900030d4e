//! What packets and time do to TCP flows, and what of it leaves as packets.

use std::time::{Duration, Instant};

use smoltcp::iface::PollResult;
use smoltcp::socket::tcp::State;

use super::device::{Egress, EgressSent, Ingress};
use super::flow_table::{Live, Stage, TerminatedFlow};
use super::ip::{IPV6_HEADER, IpPacket, strip_extension_headers};
use super::segment::{HeldSyn, RST, Segment, TCP_HEADER, checksum_holds};
use super::terminal::RING;
use super::{SYN_HELD_MAX, TRIM_AFTER, TcpEvent, TcpRefusal, Termination};
use crate::tun::vnet::VnetHeader;

/// Packets of one flow in one flush: a whole ring in segments of the smallest MTU of IPv6.
const EGRESS_MAX: usize = 256;

/// A flow whose stack asks to be polled at once, although it was polled, is looked at after this long.
const POLL_AGAIN: Duration = Duration::from_millis(1);

impl Termination {
    /// Writes every packet that is due to `out`, which puts it on the device at once.
    pub(crate) fn flush(&mut self, now: Instant, out: &mut impl FnMut(VnetHeader, &mut [u8])) {
        self.now = now;
        let counters = &mut self.counters;
        self.replies.drain(|header, packet| {
            counters.packets_out += 1;
            counters.bytes_out += packet.len() as u64;
            out(header, packet);
        });
        let mut dirty = std::mem::take(&mut self.dirty);
        for flow in dirty.drain(..) {
            self.flush_flow(flow, out);
        }
        // Flows that could not send all at once are in the other list by then.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    pub(super) fn handle_tcp(
        &mut self,
        header: VnetHeader,
        packet: &mut [u8],
        mut parsed: IpPacket,
    ) {
        let start = strip_extension_headers(packet, &parsed);
        let packet = packet.get_mut(start..).unwrap_or_default();
        parsed.transport -= start;
        parsed.total -= start;
        let Some(segment) = Segment::parse(packet, &parsed) else {
            return self.counters.malformed += 1;
        };
        if !header.checksum_is_good() && !checksum_holds(packet, &parsed) {
            return self.counters.bad_checksum += 1;
        }

        let Some(flow) = self.table.find(&segment.key) else {
            if segment.opens() {
                return self.hold(packet, &parsed, &segment);
            }
            self.counters.stray_segments += 1;
            return self.feed_stack(None, packet);
        };
        match self.table.get(flow).map(|flow| &flow.stage) {
            Some(&Stage::Held(syn)) => {
                self.handle_held(flow, syn.sequence, packet, &parsed, &segment)
            }
            Some(Stage::Live(_)) => self.handle_live(flow, packet, &segment),
            None => {}
        }
    }

    pub(super) fn handle_flow_timeout(&mut self, flow: TerminatedFlow) {
        match self.table.get(flow).map(|flow| &flow.stage) {
            Some(Stage::Held(_)) => {
                self.counters.syns_timed_out += 1;
                self.refuse(flow, TcpRefusal::Reset, self.now);
                self.events.push_back(TcpEvent::Reset { flow });
            }
            Some(Stage::Live(_)) => self.mark_dirty(flow),
            None => {}
        }
    }

    fn hold(&mut self, packet: &[u8], parsed: &IpPacket, segment: &Segment) {
        if self.held >= self.config.held_syns_max {
            return self.counters.syns_dropped += 1;
        }
        if self.table.len() >= self.config.flows_max {
            self.counters.flows_refused += 1;
            return self.feed_stack(None, packet);
        }
        let mss = self.config.offload.then(|| {
            let headers = parsed.transport.min(IPV6_HEADER) + TCP_HEADER;
            u16::MAX - u16::try_from(headers).unwrap_or(0)
        });
        let Some(syn) = HeldSyn::new(packet, parsed, segment, mss) else {
            return self.counters.malformed += 1;
        };
        let flow = self.table.insert(segment.key, Stage::Held(syn));
        self.table.set_timer(flow, self.now + SYN_HELD_MAX);
        self.held += 1;
        self.counters.syns += 1;
        let (source, destination) = (segment.key.source, segment.key.destination);
        self.events.push_back(TcpEvent::Syn { flow, source, destination });
    }

    fn handle_held(
        &mut self,
        flow: TerminatedFlow,
        sequence: u32,
        packet: &[u8],
        parsed: &IpPacket,
        segment: &Segment,
    ) {
        let offset = segment.sequence.wrapping_sub(sequence);
        if segment.opens() && offset == 0 {
            return self.counters.syns_repeated += 1;
        }
        if segment.opens() {
            // The application gave up and its port is used by another connection.
            self.end(flow, TcpEvent::Reset { flow });
            return self.hold(packet, parsed, segment);
        }
        if segment.flags & RST != 0 {
            if offset <= 1 {
                self.end(flow, TcpEvent::Reset { flow });
            }
            return;
        }
        self.counters.stray_segments += 1;
        self.feed_stack(None, packet);
    }

    fn handle_live(&mut self, flow: TerminatedFlow, packet: &[u8], segment: &Segment) {
        let now = self.now;
        let Some(live) = self.table.live_mut(flow).filter(|live| !live.aborted) else { return };
        let offered = live.acknowledged.wrapping_add(u16::MAX.into());
        if !live.window_known && is_after(segment.data_end, offered) {
            return self.counters.malformed += 1;
        }
        let before = live.terminal.socket().state();
        let readable_before = live.terminal.socket().recv_queue();
        if is_after(segment.data_end, live.received_end) {
            live.received_end = segment.data_end;
            live.active_at = now;
            self.mark_touched(flow);
        }
        self.feed_stack(Some(flow), packet);

        let Some(live) = self.table.live_mut(flow) else { return };
        let socket = live.terminal.socket();
        let state = socket.state();
        if matches!(state, State::Closed | State::Listen) {
            if before == State::LastAck && segment.flags & RST == 0 {
                live.closed = true;
            } else {
                return self.end(flow, TcpEvent::Reset { flow });
            }
        }
        let finished = matches!(state, State::CloseWait | State::Closing | State::TimeWait);
        let readable = socket.recv_queue() > readable_before || (finished && state != before);
        let half_free = socket.send_queue() <= RING / 2;
        let opened = !live.established && state != State::SynReceived;
        if opened {
            live.established = true;
            if live.finish_wanted {
                live.terminal.socket().close();
            }
        }
        if readable && !live.readable_queued {
            live.readable_queued = true;
            self.events.push_back(TcpEvent::Readable { flow });
        }
        if (opened || (live.full && half_free)) && !live.writable_queued && !live.finish_wanted {
            live.full = false;
            live.writable_queued = true;
            self.events.push_back(TcpEvent::Writable { flow });
        }
        self.mark_dirty(flow);
    }

    fn flush_flow(&mut self, flow: TerminatedFlow, out: &mut impl FnMut(VnetHeader, &mut [u8])) {
        let now = self.stack_now();
        let Some(live) = self.table.live_mut(flow) else { return };
        live.dirty = false;
        if live.bound {
            let mut device = Egress {
                scratch: &mut self.scratch,
                capabilities: &self.capabilities,
                offload: self.config.offload,
                mss: live.mss,
                sent: EgressSent::default(),
                out,
            };
            let set = &mut live.terminal.set;
            let done = (0..EGRESS_MAX)
                .any(|_| self.interface.poll_egress(now, &mut device, set) == PollResult::None);
            let sent = device.sent;
            self.counters.packets_out += sent.packets;
            self.counters.bytes_out += sent.bytes;
            if let Some(last) = sent.last {
                live.acknowledged = last.acknowledged;
                live.window_known = !last.is_syn;
            }
            if !done {
                live.dirty = true;
                self.dirty.push(flow);
                return;
            }
        }
        self.settle(flow, now);
    }

    /// Ends a flow that has nothing left to do, and arms the timer of any other.
    fn settle(&mut self, flow: TerminatedFlow, now: smoltcp::time::Instant) {
        let Some(live) = self.table.live_mut(flow) else { return };
        let state = live.terminal.socket().state();
        if live.aborted {
            return self.release(flow);
        }
        // The last acknowledgement is on its way; should the application's side repeat its FIN, an RST
        // tells it the same. Waiting out TIME-WAIT would cost memory for nothing.
        live.closed |= state == State::TimeWait;
        if live.closed {
            if live.finished_seen {
                return self.end(flow, TcpEvent::Closed { flow });
            }
            live.bound = false;
            return self.table.unbind(flow);
        }
        if matches!(state, State::Closed | State::Listen) {
            return self.end(flow, TcpEvent::Reset { flow });
        }
        let Some(at) = self.interface.poll_at(now, &live.terminal.set) else { return };
        let wait = Duration::from_micros(
            at.total_micros().saturating_sub(now.total_micros()).max(0) as u64,
        );
        self.table.set_timer(flow, self.now + wait.max(POLL_AGAIN));
    }

    /// Gives a packet to the stack of one flow, or to one that knows no flow and answers with RST.
    pub(super) fn feed_stack(&mut self, flow: Option<TerminatedFlow>, packet: &[u8]) {
        let now = self.stack_now();
        let set = match flow {
            None => &mut self.nobody,
            Some(flow) => match self.table.live_mut(flow) {
                Some(live) => &mut live.terminal.set,
                None => return,
            },
        };
        let mut device = Ingress {
            packet: Some(packet),
            replies: &mut self.replies,
            capabilities: &self.capabilities,
            offload: self.config.offload,
        };
        self.interface.poll_ingress_single(now, &mut device, set);
    }

    pub(super) fn mark_dirty(&mut self, flow: TerminatedFlow) {
        let Some(live) = self.table.live_mut(flow) else { return };
        if !live.dirty {
            live.dirty = true;
            self.dirty.push(flow);
        }
    }

    pub(super) fn mark_touched(&mut self, flow: TerminatedFlow) {
        let Some(live) = self.table.live_mut(flow) else { return };
        if !live.terminal.touched {
            live.terminal.touched = true;
            self.touched.push_back((self.now + TRIM_AFTER, flow));
        }
    }

    /// Has the memory of a terminal that another connection used given back as if this one had.
    pub(super) fn watch_touched(&mut self, flow: TerminatedFlow) {
        if self.table.live_mut(flow).is_some_and(|live| live.terminal.touched) {
            self.touched.push_back((self.now + TRIM_AFTER, flow));
        }
    }

    fn end(&mut self, flow: TerminatedFlow, event: TcpEvent) {
        self.release(flow);
        self.events.push_back(event);
    }

    pub(super) fn release(&mut self, flow: TerminatedFlow) {
        match self.table.remove(flow).map(|flow| flow.stage) {
            Some(Stage::Held(_)) => self.held -= 1,
            Some(Stage::Live(live)) => {
                self.counters.flows_ended += 1;
                self.pool.put(live.terminal, self.now);
            }
            None => {}
        }
    }
}

impl Live {
    /// Returns whether neither ring holds anything, segments that arrived out of order included: all
    /// that arrived was acknowledged.
    pub(super) fn rings_are_empty(&self) -> bool {
        let socket = self.terminal.socket_ref();
        socket.recv_queue() == 0
            && socket.send_queue() == 0
            && !is_after(self.received_end, self.acknowledged)
    }
}

/// Compares sequence numbers (RFC 9293 §3.4).
const fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

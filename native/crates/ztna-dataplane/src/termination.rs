//! Terminates the TCP connections that applications open to virtual addresses, and finds their UDP
//! datagrams and echo requests.
//!
//! IP packets come in by [`Termination::handle_packet`] and go out by [`Termination::flush`]; between
//! the two the owner moves octets with [`Termination::recv`] and [`Termination::send`]. Rules:
//!
//! - **A SYN is held until the owner decides.** Only [`Termination::accept`] gives a connection
//!   memory; a refusal becomes what a refusing host would have sent. Undecided, it is reset after
//!   [`SYN_HELD_MAX`].
//! - **O(1) a packet.** Each flow has a TCP stack of its own, and nothing walks over all of them.
//! - **Back-pressure is TCP's.** What the owner does not take stays in the ring, and the window closes.
//! - **A flow ends with exactly one event**, `Reset` or `Closed`, unless the owner itself refused or
//!   aborted it. Its handle is void from then on: reading or writing reports a reset.
//! - Sans-IO: the clock is an argument, packets are values.

pub(crate) mod counters;
pub(crate) mod datagram;
mod device;
mod flow_table;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod ip;
mod octets;
mod packets;
mod reassembly;
mod segment;
mod tcp;
mod tcp_stack;
mod terminal;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::DeviceCapabilities;
use smoltcp::wire::HardwareAddress;

use self::device::{Ingress, PACKET_MAX, Replies};
use self::flow_table::FlowTable;
use self::reassembly::Reassembly;
use self::terminal::Pool;

pub(crate) use self::counters::TerminationCounters;
pub(crate) use self::datagram::{Datagram, DatagramKind, Unreachable};
pub(crate) use self::flow_table::TerminatedFlow;

/// How long the owner may take to decide on a SYN (`docs/protocol.md`, limits).
pub(crate) const SYN_HELD_MAX: Duration = Duration::from_secs(10);

/// The least that an IPv4 host takes in one piece (RFC 1122 §3.3.2); less leaves no room for data.
const MTU_MIN: u16 = 576;

/// Memory of idle rings is given back after this long.
const TRIM_AFTER: Duration = Duration::from_secs(1);

/// What a termination needs to know about its device and bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TerminationConfig {
    /// Packets carry a [`crate::tun::vnet::VnetHeader`] that the device understands.
    pub offload: bool,
    /// Of the device.
    pub mtu: u16,
    /// SYNs without a decision; further ones are dropped, and come again.
    pub held_syns_max: usize,
    /// Held and accepted flows together; further ones are refused.
    pub flows_max: usize,
    /// Makes initial sequence numbers unpredictable.
    pub random_seed: u64,
}

/// What happened to a TCP flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TcpEvent {
    /// An application wants to connect: accept or refuse.
    Syn {
        /// Names the flow from here on.
        flow: TerminatedFlow,
        /// The application.
        source: SocketAddr,
        /// The virtual address.
        destination: SocketAddr,
    },
    /// Octets or the end arrived since the last such event. What is left unread is not announced again.
    Readable {
        /// Which flow.
        flow: TerminatedFlow,
    },
    /// The connection is established, or half of a send ring that was full is free.
    Writable {
        /// Which flow.
        flow: TerminatedFlow,
    },
    /// The application reset the connection or is gone, or nobody decided on its SYN.
    Reset {
        /// Which flow; void from here on.
        flow: TerminatedFlow,
    },
    /// Both sides finished, and everything was read and acknowledged.
    Closed {
        /// Which flow; void from here on.
        flow: TerminatedFlow,
    },
}

/// How a held SYN is answered if not by a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TcpRefusal {
    /// Nobody listens: RST.
    Reset,
    /// Nobody is there: ICMP host or address unreachable.
    Unreachable,
}

/// Why nothing can be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum TcpRecvError {
    /// Nothing at the moment.
    #[error("nothing has arrived")]
    Empty,
    /// The application said its last.
    #[error("the application finished")]
    Finished,
    /// The flow is gone.
    #[error("the flow was reset")]
    Reset,
}

/// Why nothing can be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum TcpSendError {
    /// The owner said its last.
    #[error("the flow was finished")]
    Finished,
    /// The flow is gone.
    #[error("the flow was reset")]
    Reset,
}

/// See the module's documentation.
pub(crate) struct Termination {
    config: TerminationConfig,
    /// When the stack's clock began.
    origin: Instant,
    now: Instant,
    interface: Interface,
    capabilities: DeviceCapabilities,
    /// Answers segments that belong to nobody.
    nobody: SocketSet<'static>,
    table: FlowTable,
    held: usize,
    pool: Pool,
    events: VecDeque<TcpEvent>,
    dirty: Vec<TerminatedFlow>,
    /// Flows whose rings hold memory, and when to look at them.
    touched: VecDeque<(Instant, TerminatedFlow)>,
    replies: Replies,
    scratch: Box<[u8]>,
    reassembly: Reassembly,
    counters: TerminationCounters,
}

impl std::fmt::Debug for Termination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Termination")
            .field("config", &self.config)
            .field("flows", &self.table.len())
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Termination {
    /// Creates a termination without flows.
    pub(crate) fn new(config: TerminationConfig, now: Instant) -> Self {
        let config = TerminationConfig { mtu: config.mtu.max(MTU_MIN), ..config };
        let capabilities = device::capabilities(config.offload, config.mtu);
        let mut replies = Replies::default();
        let mut stack = Config::new(HardwareAddress::Ip);
        stack.random_seed = config.random_seed;
        let mut device = Ingress {
            packet: None,
            replies: &mut replies,
            capabilities: &capabilities,
            offload: config.offload,
        };
        let mut interface = Interface::new(stack, &mut device, smoltcp::time::Instant::ZERO);
        // Every virtual address is ours; which of them exist is the owner's business.
        interface.set_any_ip(true);
        Self {
            config,
            origin: now,
            now,
            interface,
            capabilities,
            nobody: SocketSet::new(Vec::new()),
            table: FlowTable::default(),
            held: 0,
            pool: Pool::default(),
            events: VecDeque::new(),
            dirty: Vec::new(),
            touched: VecDeque::new(),
            replies,
            scratch: vec![0; PACKET_MAX].into_boxed_slice(),
            reassembly: Reassembly::default(),
            counters: TerminationCounters::default(),
        }
    }

    /// Returns what happened next, oldest first.
    pub(crate) fn poll_event(&mut self) -> Option<TcpEvent> {
        loop {
            let event = self.events.pop_front()?;
            match event {
                TcpEvent::Readable { flow } => {
                    let Some(live) = self.table.live_mut(flow) else { continue };
                    live.readable_queued = false;
                    if live.aborted {
                        continue;
                    }
                }
                TcpEvent::Writable { flow } => {
                    let Some(live) = self.table.live_mut(flow) else { continue };
                    live.writable_queued = false;
                    if live.aborted {
                        continue;
                    }
                }
                TcpEvent::Syn { flow, .. } if self.table.get(flow).is_none() => continue,
                TcpEvent::Syn { .. } | TcpEvent::Reset { .. } | TcpEvent::Closed { .. } => {}
            }
            return Some(event);
        }
    }

    /// Returns what was done and dropped.
    pub(crate) fn counters(&self) -> TerminationCounters {
        TerminationCounters { replies_dropped: self.replies.dropped, ..self.counters }
    }

    /// Returns how many flows are held or accepted.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn flows(&self) -> usize {
        self.table.len()
    }

    /// Returns when [`Termination::handle_timeout`] is due. With something to flush that is at once.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.dirty.is_empty() || !self.replies.is_empty() {
            return Some(self.now);
        }
        [
            self.table.next_timer(),
            self.touched.front().map(|&(at, _)| at),
            self.pool.poll_timeout(),
            self.reassembly.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due; [`Termination::flush`] follows.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        while let Some(flow) = self.table.pop_due(now) {
            self.handle_flow_timeout(flow);
        }
        self.counters.fragments_dropped += self.reassembly.handle_timeout(now);
        self.trim();
    }

    fn stack_now(&self) -> smoltcp::time::Instant {
        let micros = self.now.saturating_duration_since(self.origin).as_micros();
        // One second in, because the stack tells "at once" by a time of zero.
        smoltcp::time::Instant::from_micros(
            i64::try_from(micros).unwrap_or(i64::MAX / 2) + 1_000_000,
        )
    }

    /// Gives back the memory of rings that are empty and have been quiet.
    fn trim(&mut self) {
        while let Some(&(at, flow)) = self.touched.front() {
            if at > self.now {
                break;
            }
            self.touched.pop_front();
            let Some(live) = self.table.live_mut(flow) else { continue };
            let quiet_at = live.active_at + TRIM_AFTER;
            if quiet_at <= self.now && live.rings_are_empty() {
                live.terminal.trim();
            } else {
                self.touched.push_back((quiet_at.max(self.now + TRIM_AFTER), flow));
            }
        }
        self.pool.trim(self.now);
    }
}

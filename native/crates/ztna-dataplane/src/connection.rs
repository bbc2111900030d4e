//! One QUIC connection: a leg or a tunnel.
//!
//! - **A leg sees its real peer address, a tunnel a made-up one for its whole life**: paths are chosen
//!   beneath QUIC (`docs/protocol.md`, tunnels and paths).
//! - **Nothing is read before admission**: the owner judges the leaf first.
//! - **Stream 0 goes first**: flows have another urgency, and share it in turn.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::buffer_count::Meter;
use crate::control_frame::{FrameReader, LENGTH_BYTES, write_frame};
use crate::demux::{PacketKind, classify};
use crate::endpoint::{EarlyDatagrams, EndingStreams, RestOrder};
use crate::event::{ClosedBy, ConnectionKind};
use crate::flow::reassembly::Reassembler;
use crate::id::{ConnectionHandle, PairId, WireId};
use crate::path::{PathId, PathSet};
use crate::tls::Standing;

pub(crate) type Quic = quiche::Connection;

/// The stream that carries control frames.
pub(crate) const CONTROL_STREAM: u64 = 0;

const CONTROL_URGENCY: u8 = 0;
/// What QUIC gives a stream of which nothing else is said.
pub(crate) const FLOW_URGENCY: u8 = 127;

/// What QUIC believes to be this side's address (RFC 6666 discard prefix: never on a wire).
pub(crate) const VIRTUAL_LOCAL: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1)), 1);
/// What QUIC believes to be a tunnel's peer.
pub(crate) const VIRTUAL_PEER: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 2)), 2);

/// Acknowledgements wait no longer, and for no more packets, for company: far below the 25 ms that RFC
/// 9000 §18.2 allows, and a batch is acknowledged at once.
const ACKNOWLEDGE_WAIT: Duration = Duration::from_millis(1);
const ACKNOWLEDGE_PACKETS: u32 = 8;

/// A close must fit into one packet, whatever its reason.
const CLOSE_REASON_BYTES_MAX: usize = 256;

/// Octets of control frames that wait for their stream.
pub(crate) const CONTROL_BACKLOG_BYTES_MAX: usize = 1 << 20;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// TLS is under way.
    Handshaking,
    /// The owner was asked whether to take it.
    Judging,
    /// Frames flow.
    Admitted,
    /// A close was asked for or received.
    Closing,
}

/// A leg or a tunnel.
pub(crate) struct Connection {
    pub(crate) handle: ConnectionHandle,
    pub(crate) quic: Quic,
    /// Whether the peer dialled.
    pub(crate) accepted: bool,
    pub(crate) stage: Stage,
    pub(crate) kind: Kind,
    pub(crate) control_in: FrameReader,
    control_out: VecDeque<u8>,
    /// The ids that packets to this connection carry.
    pub(crate) source_ids: Vec<WireId>,
    /// What the peer's chain was found to be: judged again while the connection lives.
    pub(crate) standing: Option<Standing>,
    /// When its timer is armed for; the heap may hold later entries.
    pub(crate) armed: Option<Instant>,
    /// Whether it is in the list of connections to drive.
    pub(crate) dirty: bool,
    /// Whether it is in the list of those whose control frames wait to be read.
    pub(crate) unread: bool,
    /// Whether it is in the list of those that wait for room in a socket.
    pub(crate) awaits_room: bool,
    /// Whether it has more to send than acknowledgements.
    pub(crate) must_send: bool,
    /// Packets that came since it was last given the chance to acknowledge.
    pub(crate) unacknowledged: u32,
    /// When acknowledgements that wait for company go by themselves.
    pub(crate) acknowledge_at: Option<Instant>,
    pub(crate) meter: Meter,
    /// Why this side ended it, when it did.
    pub(crate) closing: Option<Ending>,
    /// When the next keepalive PING is due, if this side sends them.
    pub(crate) keepalive_at: Option<Instant>,
    /// While it counts as a handshake under way: when that is given up.
    pub(crate) handshake_until: Option<Instant>,
    /// Whether its end was told: it only waits for its last packets.
    pub(crate) end_told: bool,
    /// Whether stream 0 goes before the others.
    control_first: bool,
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) by: ClosedBy,
    pub(crate) code: u64,
    pub(crate) application: bool,
    pub(crate) reason: String,
}

pub(crate) enum Kind {
    Leg(Leg),
    Tunnel(Box<Tunnel>),
}

/// The addresses of a leg.
pub(crate) struct Leg {
    pub(crate) remote: SocketAddr,
    pub(crate) port: usize,
    /// The own address that the peer's packets came to.
    pub(crate) src_ip: Option<IpAddr>,
    /// When an unanswered PING makes it silent.
    pub(crate) ping_deadline: Option<Instant>,
}

/// What a tunnel has besides its QUIC connection.
pub(crate) struct Tunnel {
    pub(crate) pair: PairId,
    pub(crate) paths: PathSet,
    pub(crate) routes: Vec<Route>,
    /// Services that may be opened in it.
    pub(crate) grants: Vec<Rc<str>>,
    /// Flow key by stream id.
    pub(crate) flows: BTreeMap<u64, usize>,
    /// Of `flows`, those of kind UDP and echo.
    pub(crate) datagram_flows: usize,
    /// Those of them that may make room for others.
    pub(crate) resting: RestOrder,
    /// Streams whose flows are over.
    pub(crate) ending: EndingStreams,
    /// Connector: flow key by stream id of those that wait for a grant.
    pub(crate) held: BTreeMap<u64, usize>,
    /// The next stream that the agent opens.
    pub(crate) next_stream: u64,
    /// DATAGRAM payloads that wait for room in quiche, oldest first.
    pub(crate) outgoing: VecDeque<(Instant, Vec<u8>)>,
    /// Those that waited too long and were dropped, until they are counted.
    pub(crate) outgoing_late: u64,
    pub(crate) reassembler: Reassembler,
    /// DATAGRAM payloads that came before their flow's header or socket.
    pub(crate) early: EarlyDatagrams,
    /// Flows that wait for send capacity, in turn.
    pub(crate) starved: VecDeque<usize>,
    pub(crate) packet_number: u16,
    /// Connector: the channel and the id that the client's first packets named.
    pub(crate) initial: Option<(WireId, Vec<u8>)>,
    /// Packets that QUIC declared lost and the paths were told of.
    pub(crate) lost_packets: usize,
    /// Since when it holds too much of what nobody can read.
    pub(crate) hoards_since: Option<Instant>,
}

/// Where one path's packets go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) path: PathId,
    pub(crate) port: usize,
    pub(crate) remote: SocketAddr,
    /// Of a relayed path.
    pub(crate) channel: Option<RouteChannel>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteChannel {
    pub(crate) send_id: WireId,
    pub(crate) receive_id: WireId,
}

impl Connection {
    pub(crate) fn new(
        handle: ConnectionHandle,
        quic: Quic,
        accepted: bool,
        kind: Kind,
        meter: Meter,
    ) -> Self {
        Self {
            handle,
            quic,
            accepted,
            stage: Stage::Handshaking,
            kind,
            control_in: FrameReader::new(),
            control_out: VecDeque::new(),
            source_ids: Vec::new(),
            standing: None,
            armed: None,
            dirty: false,
            unread: false,
            awaits_room: false,
            must_send: false,
            unacknowledged: 0,
            acknowledge_at: None,
            meter,
            closing: None,
            keepalive_at: None,
            handshake_until: None,
            end_told: false,
            control_first: false,
        }
    }

    pub(crate) const fn event_kind(&self) -> ConnectionKind {
        match self.kind {
            Kind::Leg(_) => ConnectionKind::Leg,
            Kind::Tunnel(_) => ConnectionKind::Tunnel,
        }
    }

    pub(crate) fn tunnel_mut(&mut self) -> Option<&mut Tunnel> {
        match &mut self.kind {
            Kind::Tunnel(tunnel) => Some(tunnel),
            Kind::Leg(_) => None,
        }
    }

    pub(crate) fn tunnel(&self) -> Option<&Tunnel> {
        match &self.kind {
            Kind::Tunnel(tunnel) => Some(tunnel),
            Kind::Leg(_) => None,
        }
    }

    pub(crate) fn leg_mut(&mut self) -> Option<&mut Leg> {
        match &mut self.kind {
            Kind::Leg(leg) => Some(leg),
            Kind::Tunnel(_) => None,
        }
    }

    /// Queues one control frame; returns false when the peer reads so slowly that it must be closed.
    pub(crate) fn queue_control(&mut self, body: &[u8]) -> bool {
        let frame_bytes = LENGTH_BYTES + body.len();
        if self.control_out.len() + frame_bytes > CONTROL_BACKLOG_BYTES_MAX {
            return false;
        }
        let mut frame = Vec::with_capacity(frame_bytes);
        if write_frame(body, &mut frame).is_err() {
            return false;
        }
        self.control_out.extend(frame);
        true
    }

    /// Hands queued control octets to QUIC as far as it takes them.
    pub(crate) fn flush_control(&mut self) {
        if !self.control_out.is_empty() && !self.control_first {
            // Not yet: a server's stream 0 exists when its client has sent in it.
            self.control_first =
                self.quic.stream_priority(CONTROL_STREAM, CONTROL_URGENCY, false).is_ok();
        }
        while !self.control_out.is_empty() {
            let (front, _) = self.control_out.as_slices();
            match self.quic.stream_send(CONTROL_STREAM, front, false) {
                Ok(0) | Err(_) => return,
                Ok(sent) => drop(self.control_out.drain(..sent)),
            }
        }
    }

    /// Returns whether all that it has to send is an acknowledgement that may wait for company.
    ///
    /// quiche acknowledges in whatever it is asked to send. An answer follows a request within the
    /// millisecond, and an acknowledgement by itself costs as much as the answer.
    pub(crate) fn may_wait(&mut self, now: Instant) -> bool {
        let waits = self.stage == Stage::Admitted
            && self.tunnel().is_some()
            && !self.must_send
            && self.control_out.is_empty()
            && self.unacknowledged < ACKNOWLEDGE_PACKETS
            && *self.acknowledge_at.get_or_insert(now + ACKNOWLEDGE_WAIT) > now;
        if !waits {
            self.acknowledge_at = None;
        }
        waits
    }

    /// Starts an orderly end with one of our close codes.
    pub(crate) fn close(&mut self, code: u64, reason: &str) {
        if self.closing.is_none() {
            self.closing = Some(Ending {
                by: ClosedBy::Local,
                code,
                application: true,
                reason: reason.to_owned(),
            });
        }
        self.stage = Stage::Closing;
        self.drop_handshake_packets();
        let reason = reason.as_bytes();
        let reason = reason.get(..CLOSE_REASON_BYTES_MAX).unwrap_or(reason);
        // Done: it is closing already.
        let _ = self.quic.close(true, code, reason);
    }

    /// Takes what a client still has to say about its handshake, as if it were lost on its way.
    ///
    /// quiche 0.30 says it before an application's close, and what it may not say any more it tries for
    /// ever: the close would never leave.
    fn drop_handshake_packets(&mut self) {
        /// Initial and Handshake, two probes each, and what was lost.
        const PACKETS_MAX: usize = 8;
        if self.accepted || self.quic.is_draining() {
            return;
        }
        let mut packet = [0; 1_500];
        for _ in 0..PACKETS_MAX {
            if self.quic.send(&mut packet).is_err() || !is_long(&packet) {
                return;
            }
        }
    }

    /// Writes the next packet into `room`; returns its length, or `None` when there is none.
    ///
    /// A client that closes and is then asked for a probe of its handshake acknowledges that in each
    /// packet, for ever (quiche 0.30): such packets say nothing, and there is no other.
    pub(crate) fn poll_packet(&mut self, room: &mut [u8]) -> Option<usize> {
        let (length, _) = self.quic.send(room).ok()?;
        let has_closed = self.quic.local_error().is_some_and(|error| error.is_app);
        let says_nothing = has_closed && is_long(room);
        (!says_nothing).then_some(length)
    }
}

/// Returns whether a packet is of a handshake (RFC 9000 §17.2).
fn is_long(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| classify(*first) == PacketKind::Quic { long: true })
}

impl Tunnel {
    pub(crate) fn new(pair: PairId, paths: PathSet) -> Self {
        Self {
            pair,
            paths,
            routes: Vec::new(),
            grants: Vec::new(),
            flows: BTreeMap::new(),
            datagram_flows: 0,
            resting: RestOrder::default(),
            ending: EndingStreams::default(),
            held: BTreeMap::new(),
            next_stream: 4,
            outgoing: VecDeque::new(),
            outgoing_late: 0,
            reassembler: Reassembler::new(),
            early: EarlyDatagrams::default(),
            starved: VecDeque::new(),
            packet_number: 0,
            initial: None,
            lost_packets: 0,
            hoards_since: None,
        }
    }

    pub(crate) fn is_granted(&self, service: &str) -> bool {
        self.grants.iter().any(|granted| &**granted == service)
    }

    pub(crate) fn route(&self, path: PathId) -> Option<Route> {
        self.routes.iter().copied().find(|route| route.path == path)
    }

    pub(crate) fn path_of_channel(&self, receive_id: WireId) -> Option<PathId> {
        self.routes
            .iter()
            .find(|route| route.channel.is_some_and(|channel| channel.receive_id == receive_id))
            .map(|route| route.path)
    }

    /// Largest DATAGRAM payload that surely fits: a packet of the paths' size less short header,
    /// packet number, tag and frame header (24) and the peer's connection id (8).
    pub(crate) fn datagram_payload_max(&self) -> usize {
        self.paths.datagram_size() - 24 - WireId::LENGTH
    }
}

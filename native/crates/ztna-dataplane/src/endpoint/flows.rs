//! The flows of this process and what each has at its local end.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::event::Event as Readiness;
use slab::Slab;

use crate::backend::tcp::TcpEnd;
use crate::backend::udp::UdpEnd;
use crate::connection::Tunnel;
use crate::event::{FlowKind, ServiceSnapshot};
use crate::flow::header::FlowHeaderReader;
use crate::flow::reassembly::{Reassembler, ReassemblyDrop};
use crate::socks::{SocksHandshake, SocksTarget};
use crate::termination::TerminatedFlow;

use super::local::Client;
use super::plane::FLOW_BASE;
use super::pressure::ProcessBuffers;
use super::pump::Down;

/// How far a flow has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    /// Agent: a SOCKS client has not said yet where it wants to go.
    Greeting,
    /// Agent: no tunnel serves its service yet.
    Waiting,
    /// Connector: its header is not complete yet.
    Header,
    /// Connector: its service is not granted yet.
    Held,
    /// Agent: the connector has not answered yet.
    Opening,
    /// Connector: the backend has not answered yet.
    Connecting,
    /// Agent: a SOCKS client keeps this association's listener.
    Associated(usize),
    /// Octets move.
    Open,
    /// Agent: refused; its client may still be sending and has to read why.
    Lingering,
}

/// What a flow has at this end.
pub(super) enum Local {
    /// Nothing (yet).
    None,
    /// A socket: to a backend, or from a local listener.
    Tcp(TcpEnd),
    /// A connection that came in packets of a link.
    Terminated(usize, TerminatedFlow),
    /// Connector: a connected socket to the backend.
    Udp(UdpEnd),
    /// Agent: one client of a local UDP listener.
    Forward { listener: usize, client: Client },
    /// Agent: one destination of a SOCKS association.
    Socks { association: usize, client: Client, target: SocksTarget<'static> },
    /// Agent: UDP in packets.
    Packets { link: usize, source: SocketAddr, destination: SocketAddr },
    /// Agent: ICMP echo in packets.
    PacketsEcho { link: usize, source: SocketAddr, destination: SocketAddr, identifier: u16 },
    /// Agent: a series of `Command::Ping`.
    Ping { series: usize },
    /// Connector: answered here.
    Echo,
}

/// What tells the datagram flows of an agent apart.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum DatagramKey {
    /// Of one client of a local listener.
    Forward { listener: usize, client: Client },
    /// Of one destination of a SOCKS association.
    Socks { association: usize, client: Client, target: SocksTarget<'static> },
    /// Of one pair of addresses in packets.
    Packets { link: usize, source: SocketAddr, destination: SocketAddr },
    /// Of one ICMP echo identifier in packets.
    Echo { link: usize, source: SocketAddr, destination: SocketAddr, identifier: u16 },
    /// Of one series.
    Ping { series: usize },
}

/// One flow at this end.
pub(super) struct Flow {
    /// The tunnel's slot; none while the agent waits for one.
    pub(super) tunnel: Option<usize>,
    pub(super) kind: FlowKind,
    pub(super) service: Rc<str>,
    pub(super) port: u16,
    pub(super) stage: Stage,
    pub(super) local: Local,
    pub(super) up: Up,
    pub(super) down: Down,
    /// When this stage is given up.
    pub(super) deadline: Option<Instant>,
    /// Of a datagram flow: when anything moved last, and for how long it may rest.
    pub(super) last_used: Instant,
    pub(super) idle: Duration,
    /// Datagrams each way.
    pub(super) datagrams: (u32, u32),
    /// Connector: of a header that is not complete yet.
    pub(super) header: FlowHeaderReader,
    /// Agent: of a SOCKS client that has not said where it wants to go.
    pub(super) greeting: Option<Box<SocksHandshake>>,
    /// Agent: answer in the words of SOCKS.
    pub(super) socks: bool,
    /// Agent: what a SOCKS client sent behind its request.
    pub(super) eager: Vec<u8>,
    /// Agent: how a datagram finds this flow.
    pub(super) key: Option<DatagramKey>,
    /// Agent: datagrams that wait for a tunnel.
    pub(super) held: Vec<Vec<u8>>,
    pub(super) dirty: bool,
    /// It stands in its tunnel's queue for send capacity.
    pub(super) is_queued: bool,
}

/// From the local end to QUIC.
#[derive(Debug, Default)]
pub(super) struct Up {
    pub(super) stream: u64,
    /// What goes before the data: a flow's header, or its answer.
    pub(super) preface: Vec<u8>,
    pub(super) bytes: u64,
    /// The stream has no room.
    pub(super) starved: bool,
    /// FIN was sent.
    pub(super) finished: bool,
}

impl Flow {
    pub(super) fn new(kind: FlowKind, stage: Stage, local: Local, now: Instant) -> Self {
        Self {
            tunnel: None,
            kind,
            service: Rc::from(""),
            port: 0,
            stage,
            local,
            up: Up::default(),
            down: Down::default(),
            deadline: None,
            last_used: now,
            idle: Duration::from_secs(60),
            datagrams: (0, 0),
            header: FlowHeaderReader::new(),
            greeting: None,
            socks: false,
            eager: Vec::new(),
            key: None,
            held: Vec::new(),
            dirty: false,
            is_queued: false,
        }
    }
}

/// Totals of one service.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServiceTotals {
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
    pub(super) opened: u64,
    pub(super) refused: u64,
}

/// All flows.
pub(super) struct FlowTable {
    pub(super) slab: Slab<Flow>,
    pub(super) dirty: VecDeque<usize>,
    pub(super) scratch: Vec<u8>,
    totals: HashMap<Rc<str>, ServiceTotals>,
    pub(super) next_sweep: Option<Instant>,
    /// What all tunnels make this process hold, and when that was looked at.
    pub(super) process_buffers: ProcessBuffers,
    /// Of tunnels that are gone.
    reassembly_drops: [u64; ReassemblyDrop::ALL.len()],
}

impl FlowTable {
    pub(super) fn new() -> Self {
        Self {
            slab: Slab::new(),
            dirty: VecDeque::new(),
            scratch: vec![0; 65_536],
            totals: HashMap::new(),
            next_sweep: None,
            process_buffers: ProcessBuffers::default(),
            reassembly_drops: [0; ReassemblyDrop::ALL.len()],
        }
    }

    /// Keeps what a tunnel that ends counted.
    pub(super) fn note_reassembly(&mut self, reassembler: &Reassembler) {
        for (total, (_, count)) in self.reassembly_drops.iter_mut().zip(reassembler.drops()) {
            *total += count;
        }
    }

    /// Returns the drops of tunnels that are gone.
    pub(super) fn reassembly_drops(&self) -> impl Iterator<Item = (ReassemblyDrop, u64)> {
        ReassemblyDrop::ALL.into_iter().zip(self.reassembly_drops)
    }

    pub(super) fn mark(&mut self, key: usize) {
        if let Some(flow) = self.slab.get_mut(key)
            && !flow.dirty
        {
            flow.dirty = true;
            self.dirty.push_back(key);
        }
    }

    /// The socket of a flow has something to read, or room again.
    pub(super) fn note_ready(&mut self, key: usize, event: &Readiness) {
        if let Some(Local::Tcp(tcp)) = self.slab.get_mut(key).map(|flow| &mut flow.local) {
            tcp.note_ready(event);
        }
        self.mark(key);
    }

    pub(super) fn token(key: usize) -> mio::Token {
        mio::Token(FLOW_BASE + key)
    }

    pub(super) fn totals_of(&mut self, service: &Rc<str>) -> &mut ServiceTotals {
        self.totals.entry(Rc::clone(service)).or_default()
    }

    /// Adds octets of a flow that ended to those of a service that had one.
    pub(super) fn add_bytes(&mut self, service: &str, up: u64, down: u64) {
        if let Some(totals) = self.totals.get_mut(service) {
            totals.bytes_up += up;
            totals.bytes_down += down;
        }
    }

    /// Figures by service, sorted by name.
    pub(super) fn services(&self, at_connector: bool) -> Vec<ServiceSnapshot> {
        let mut under_way: HashMap<&str, (u32, u64, u64)> = HashMap::new();
        for (_, flow) in &self.slab {
            let entry = under_way.entry(&flow.service).or_default();
            entry.0 += 1;
            let (up, down) = flow.directions(at_connector);
            entry.1 += up;
            entry.2 += down;
        }
        let mut totals = self.totals.clone();
        for (_, flow) in &self.slab {
            // A held flow's service is what an agent says: perhaps there is none.
            if flow.stage != Stage::Held && !flow.service.is_empty() {
                totals.entry(Rc::clone(&flow.service)).or_default();
            }
        }
        let mut services: Vec<_> = totals
            .into_iter()
            .map(|(name, totals)| {
                let (flows, up, down) = under_way.get(&*name).copied().unwrap_or_default();
                ServiceSnapshot {
                    service: name.to_string(),
                    bytes_up: totals.bytes_up + up,
                    bytes_down: totals.bytes_down + down,
                    flows_opened: totals.opened,
                    flows_refused: totals.refused,
                    flows,
                }
            })
            .collect();
        services.sort_by(|a, b| a.service.cmp(&b.service));
        services
    }
}

impl Flow {
    /// Returns whether the flow waits for its local end, which wakes it: that QUIC has more for it changes
    /// nothing.
    pub(super) fn waits_for_local(&self) -> bool {
        match self.stage {
            Stage::Open => self.down.local_blocked,
            Stage::Connecting => true,
            Stage::Greeting
            | Stage::Waiting
            | Stage::Header
            | Stage::Held
            | Stage::Opening
            | Stage::Associated(_)
            | Stage::Lingering => false,
        }
    }

    /// Queues the flow for send capacity if it ran out of it, once.
    pub(super) fn queue_if_starved(&mut self, key: usize, tunnel: &mut Tunnel) {
        if std::mem::take(&mut self.up.starved) && !self.is_queued {
            self.is_queued = true;
            tunnel.starved.push_back(key);
        }
    }

    /// Octets from agent to connector and back, as far as this end moved them.
    pub(super) const fn directions(&self, at_connector: bool) -> (u64, u64) {
        if at_connector {
            (self.down.bytes, self.up.bytes)
        } else {
            (self.up.bytes, self.down.bytes)
        }
    }
}

//! A data plane without its loop: the peer is in memory and time is what the test says.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Poll, Waker};
use quiche::{ConnectionId, RecvInfo};

use crate::buffer_count::MeterGuard;
use crate::command::{BackendPort, BackendService, Command, Protocol, Revocation, ServicePort};
use crate::config::{EndpointConfig, Limits, Role};
use crate::connection::{Quic, Route, Tunnel, VIRTUAL_LOCAL, VIRTUAL_PEER};
use crate::endpoint::flows::Flow;
use crate::endpoint::plane::{FLOW_BASE, Plane, WAKE, unix_time};
use crate::endpoint::queue::Shared;
use crate::event::{Event, FlowChange, FlowKind, Snapshot};
use crate::flow::header::FlowHeader;
use crate::id::{ConnectionHandle, PairId};
use crate::test_support::epoch;
use crate::testing::pki::{Authority, Identity, LeafSpec};
use crate::tls::TlsContext;

pub(super) const SERVICE: &str = "notes";
pub(super) const PORT: u16 = 80;

/// A connector or an agent with one tunnel, and the peer's end of it.
pub(super) struct Bench {
    pub(super) plane: Plane,
    pub(super) peer: Quic,
    pub(super) now: Instant,
    pub(super) tunnel: usize,
    pub(super) alice: Identity,
    handle: ConnectionHandle,
    next_stream: u64,
    ca: Authority,
    rack: Identity,
}

impl Bench {
    /// A connector.
    pub(super) fn new() -> Self {
        Self::of(Role::Connector)
    }

    /// An agent: the peer is a connector.
    pub(super) fn agent() -> Self {
        Self::of(Role::Agent)
    }

    fn of(role: Role) -> Self {
        let now = epoch();
        let poll = Poll::new().unwrap();
        let shared = Shared::new(Waker::new(poll.registry(), WAKE).unwrap(), Box::new(|| {}));
        let config = EndpointConfig {
            role,
            listen: Vec::new(),
            reset_key: [7; 32],
            allow_loopback: true,
            limits: Limits::default(),
        };
        let mut plane = Plane::new(config, poll, Vec::new(), shared);
        let ca = Authority::new("test");
        let unix = unix_time();
        let (not_before, not_after) = (unix - 3_600, unix + 3_600);
        let issue = |spec: LeafSpec| ca.issue(&LeafSpec { not_before, not_after, ..spec });
        let rack = issue(LeafSpec::connector("rack"));
        let alice = issue(LeafSpec::agent("alice"));
        let accepts = role == Role::Connector;
        let (own, other) = if accepts { (&rack, &alice) } else { (&alice, &rack) };
        plane.apply(Command::SetTls(own.material(&[&ca], &[])), now);

        let mut peer_tls = TlsContext::new(&other.material(&[&ca], &[]), unix).unwrap();
        let tls = plane.tls.as_mut().unwrap();
        let (own_tls, peer_tls) = if accepts {
            (tls.tunnel_server(true), peer_tls.tunnel_client(true))
        } else {
            (tls.tunnel_client(true), peer_tls.tunnel_server(true))
        };
        let id = plane.shared.issue_connection_id();
        let connect = |accepts, id: &[u8], own, peer, config| {
            let id = ConnectionId::from_ref(id);
            if accepts {
                quiche::accept(&id, None, own, peer, config).unwrap()
            } else {
                quiche::connect(None, &id, own, peer, config).unwrap()
            }
        };
        let quic = connect(accepts, &id.0, VIRTUAL_LOCAL, VIRTUAL_PEER, own_tls);
        let peer = connect(!accepts, &[2; 8], VIRTUAL_PEER, VIRTUAL_LOCAL, peer_tls);
        let tunnel = plane.insert_tunnel(quic, accepts, PairId(1), id, None, now);
        let connection = &mut plane.connections[tunnel];
        let handle = connection.handle;
        let relay = "192.0.2.1:4433".parse().unwrap();
        let live = connection.tunnel_mut().unwrap();
        let path = live.paths.add_relayed(relay, now).unwrap();
        // Of a socket that there is not.
        live.routes.push(Route { path, port: 0, remote: relay, channel: None });

        let mut bench = Self { plane, peer, now, tunnel, alice, handle, next_stream: 4, ca, rack };
        bench.plane.mark_dirty(tunnel);
        bench.run();
        bench.plane.apply(Command::Admit { connection: handle }, now);
        bench.run();
        assert!(bench.peer.is_established());
        bench
    }

    /// Lets a service lead to a backend that may have several addresses.
    pub(super) fn serve(&mut self, protocol: Protocol, addresses: Vec<SocketAddr>) {
        let port = ServicePort { protocol, port: PORT };
        let service = BackendService {
            name: SERVICE.to_owned(),
            ports: vec![BackendPort { port, addresses }],
            healthy: true,
            idle: Duration::from_secs(60),
        };
        self.plane.apply(Command::SetBackends { services: vec![service] }, self.now);
    }

    pub(super) fn grant(&mut self) {
        let (tunnel, service) = (self.handle, SERVICE.to_owned());
        self.plane.apply(Command::Grant { tunnel, service }, self.now);
        self.run();
    }

    /// Takes over TLS material that revokes somebody.
    pub(super) fn revoke(&mut self, revoked: Revocation) {
        let material = self.rack.material(&[&self.ca], &[revoked]);
        self.plane.apply(Command::SetTls(material), self.now);
        self.run();
    }

    /// Opens a flow as an agent does; returns its stream.
    pub(super) fn open(&mut self, kind: FlowKind) -> u64 {
        self.write(&header(kind))
    }

    /// Writes octets to another stream and delivers them; returns the stream.
    pub(super) fn write(&mut self, octets: &[u8]) -> u64 {
        let stream = self.next_stream;
        self.next_stream += 4;
        self.peer.stream_send(stream, octets, false).unwrap();
        self.run();
        stream
    }

    /// Sends a DATAGRAM payload.
    pub(super) fn send(&mut self, payload: &[u8]) {
        self.peer.dgram_send(payload).unwrap();
        self.run();
    }

    /// Sends a packet of a flow.
    pub(super) fn send_packet(&mut self, stream: u64, octets: &[u8]) {
        let flow = u16::try_from(stream / 4).unwrap() | 0x4000;
        let mut payload = vec![0];
        payload.extend(flow.to_be_bytes());
        payload.extend(octets);
        self.send(&payload);
    }

    /// Ends the tunnel from the connector's side.
    pub(super) fn close(&mut self) {
        let connection = self.handle;
        let reason = String::new();
        self.plane.apply(Command::CloseConnection { connection, code: 0, reason }, self.now);
        self.run();
    }

    /// Delivers what the peer has and returns how many flows that has look.
    pub(super) fn marked_flows(&mut self) -> usize {
        self.receive();
        self.plane.drive_dirty(self.now);
        self.plane.flows.dirty.len()
    }

    /// Loses the next packet of the peer.
    pub(super) fn lose(&mut self) {
        self.peer.send(&mut [0; 1_500]).unwrap();
    }

    /// Delivers packets both ways until nothing is left to do.
    pub(super) fn run(&mut self) {
        while self.deliver() {}
    }

    /// Waits until a backend's socket tells something, and has its flow look.
    pub(super) fn wait_backend(&mut self) {
        self.hear_backend();
        self.run();
    }

    /// Waits until a backend's socket tells something.
    pub(super) fn hear_backend(&mut self) {
        let mut told = mio::Events::with_capacity(8);
        self.plane.poll.poll(&mut told, Some(Duration::from_secs(10))).unwrap();
        assert!(!told.is_empty(), "an event comes within 10 s");
        for event in &told {
            self.plane.flows.note_ready(event.token().0 - FLOW_BASE, event);
        }
    }

    /// Delivers what both have, each time once.
    pub(super) fn step(&mut self) {
        self.deliver();
    }

    /// Loses what the peer has, and has it find out by the packets that come after.
    pub(super) fn lose_and_go_on(&mut self) {
        self.lose();
        for _ in 0..4 {
            self.peer.send_ack_eliciting().unwrap();
            self.run();
        }
    }

    /// Loses what this side has.
    pub(super) fn lose_own(&mut self) {
        while self.plane.pump_flows(self.now) {}
        let quic = &mut self.plane.connections[self.tunnel].quic;
        while quic.send(&mut [0; 1_500]).is_ok() {}
    }

    /// Lets time pass in steps that no deadline hides behind.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now = end.min(self.now + Duration::from_millis(50));
            self.plane.serve_timers(self.now);
            self.run();
        }
    }

    /// Returns the answer or the reset code that came on a stream, if any did.
    pub(super) fn answer(&mut self, stream: u64) -> Option<Result<u8, u64>> {
        let mut octet = [0];
        match self.peer.stream_recv(stream, &mut octet) {
            Ok(_) => Some(Ok(octet[0])),
            Err(quiche::Error::StreamReset(code)) => Some(Err(code)),
            Err(_) => None,
        }
    }

    /// Returns whether QUIC keeps a stream, and its place among the agent's streams with it.
    pub(super) fn knows(&mut self, stream: u64) -> bool {
        let quic = &mut self.plane.connections[self.tunnel].quic;
        quic.stream_recv(stream, &mut []) != Err(quiche::Error::InvalidStreamState(stream))
    }

    pub(super) fn tunnel(&mut self) -> &mut Tunnel {
        self.plane.connections[self.tunnel].tunnel_mut().unwrap()
    }

    pub(super) fn flow(&self, stream: u64) -> Option<&Flow> {
        let tunnel = self.plane.connections[self.tunnel].tunnel().unwrap();
        self.plane.flows.slab.get(*tunnel.flows.get(&stream)?)
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        self.plane.apply(Command::Snapshot { request: 1 }, self.now);
        let told = self.plane.events.pop();
        let Some(Event::Snapshot { snapshot, .. }) = told else { panic!("no snapshot") };
        *snapshot
    }

    pub(super) fn counter(&mut self, name: &str) -> u64 {
        let counters = self.snapshot().counters;
        let mut found = counters.iter().filter(|(known, _)| *known == name);
        let (_, value) = found.next().unwrap_or_else(|| panic!("no counter {name}"));
        assert!(found.next().is_none(), "{name} is there twice");
        *value
    }

    /// Returns what became of flows since the last call, in the order in which it is told.
    pub(super) fn changes(&mut self) -> Vec<FlowChange> {
        let mut events = Vec::new();
        self.plane.reports.drain_into(&mut events);
        let mut changes = Vec::new();
        for event in events {
            let Event::Flow(report) = event else { panic!("{event:?} is no report") };
            changes.extend((0..report.count).map(|_| report.change));
        }
        changes
    }

    fn receive(&mut self) -> bool {
        let mut buffer = [0; 1_500];
        let mut any = false;
        while let Ok((length, _)) = self.peer.send(&mut buffer) {
            any = true;
            let info = RecvInfo { from: VIRTUAL_PEER, to: VIRTUAL_LOCAL };
            let connection = &mut self.plane.connections[self.tunnel];
            let _counted = MeterGuard::enter(&connection.meter);
            connection.quic.recv(&mut buffer[..length], info).unwrap();
            self.plane.mark_received(self.tunnel);
        }
        any
    }

    fn deliver(&mut self) -> bool {
        let mut any = self.receive();
        self.plane.drive_dirty(self.now);
        any |= self.plane.pump_flows(self.now);
        self.plane.transmit_dirty(self.now);
        // Its path leads to no socket: what the tunnel would send is taken here.
        let Some(connection) = self.plane.connections.get_mut(self.tunnel) else { return any };
        let mut buffer = [0; 1_500];
        while let Ok((length, _)) = connection.quic.send(&mut buffer) {
            any = true;
            let info = RecvInfo { from: VIRTUAL_LOCAL, to: VIRTUAL_PEER };
            self.peer.recv(&mut buffer[..length], info).unwrap();
        }
        any
    }
}

/// The header of a flow of the service.
pub(super) fn header(kind: FlowKind) -> Vec<u8> {
    let mut header = Vec::new();
    let port = if kind == FlowKind::Echo { 0 } else { PORT };
    FlowHeader::new(kind, port, SERVICE).unwrap().write(&mut header);
    header
}

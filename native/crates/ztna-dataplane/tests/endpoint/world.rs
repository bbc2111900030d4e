//! A tunnel between an agent and a connector, over relays on loopback.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ztna_dataplane::command::{
    AgentService, BackendPort, BackendService, ChannelSide, Command, Credentials, LocalListener,
    Protocol, ServicePort, TlsMaterial,
};
use ztna_dataplane::config::{Limits, Role};
use ztna_dataplane::event::ConnectionKind;
use ztna_dataplane::id::{ConnectionHandle, PairId, WireId};
use ztna_dataplane::testing::pki::{Authority, LeafSpec};

use super::harness::{Node, PATIENCE, clock, loopback, unix_time};

/// The only service.
pub(crate) const SERVICE: &str = "notes";
/// Its port as agents name it.
pub(crate) const PORT: u16 = 80;

/// Who vouches for everybody in one test.
pub(crate) struct Trust {
    authority: Authority,
}

impl Trust {
    pub(crate) fn new() -> Self {
        Self { authority: Authority::new("test") }
    }

    pub(crate) fn material(&self, role: Role) -> TlsMaterial {
        let mut spec = match role {
            Role::Agent => LeafSpec::agent("alice"),
            Role::Connector => LeafSpec::connector("rack"),
            Role::Relay => LeafSpec::relay("hub"),
        };
        spec.not_before = unix_time() - 3_600;
        spec.not_after = unix_time() + 3_600;
        self.authority.issue(&spec).material(&[&self.authority], &[])
    }

    pub(crate) fn node(&self, role: Role, limits: Limits) -> Node {
        Node::open(role, loopback(0), self.material(role), limits)
    }
}

/// Both ends of a leg: the client's handle and the relay's.
#[derive(Clone, Copy)]
pub(crate) struct LegEnds {
    pub(crate) client: ConnectionHandle,
    pub(crate) relay: ConnectionHandle,
}

/// Opens a leg and admits it on both sides.
pub(crate) fn open_leg(client: &mut Node, relay: &mut Node) -> LegEnds {
    let remote = relay.address();
    open_leg_over(client, relay, remote)
}

/// Opens a leg to where the relay is found and admits it on both sides.
pub(crate) fn open_leg_over(client: &mut Node, relay: &mut Node, remote: SocketAddr) -> LegEnds {
    let ends = dial(client, relay, remote);
    relay.send(Command::Admit { connection: ends.relay });
    client.send(Command::Admit { connection: ends.client });
    relay.sync();
    ends
}

/// Opens a leg and leaves it to be admitted.
pub(crate) fn dial_leg(client: &mut Node, relay: &mut Node) -> LegEnds {
    let remote = relay.address();
    dial(client, relay, remote)
}

fn dial(client: &mut Node, relay: &mut Node, remote: SocketAddr) -> LegEnds {
    let connection = client.endpoint.issue_handle();
    let server_name = Some("localhost".to_owned());
    client.send(Command::ConnectLeg { connection, remote, server_name });
    let ends = LegEnds {
        client: client.wait_handshake(ConnectionKind::Leg),
        relay: relay.wait_handshake(ConnectionKind::Leg),
    };
    assert_eq!(ends.client, connection);
    ends
}

/// One relay with the legs and the channel of the pair.
pub(crate) struct Way {
    pub(crate) relay: Node,
    pub(crate) agent_leg: LegEnds,
    pub(crate) agent_side: ChannelSide,
    pub(crate) connector_side: ChannelSide,
}

impl Way {
    pub(crate) fn open_channel(&mut self) {
        let (a, b) = (self.agent_side, self.connector_side);
        self.relay.send(Command::OpenChannel { a, b, rate_bps: 0 });
        self.relay.sync();
    }

    pub(crate) fn close_channel(&mut self) {
        self.relay.send(Command::CloseChannel { channel: self.agent_side.relay_id });
        self.relay.sync();
    }
}

/// An agent and a connector with a tunnel over one relay or more.
pub(crate) struct World {
    pub(crate) ways: Vec<Way>,
    pub(crate) agent: Node,
    pub(crate) connector: Node,
    /// The tunnel as the agent knows it, and as the connector does.
    pub(crate) at_agent: ConnectionHandle,
    pub(crate) at_connector: ConnectionHandle,
}

pub(crate) const AGENT_PAIR: PairId = PairId(1);
pub(crate) const CONNECTOR_PAIR: PairId = PairId(2);

impl World {
    /// A tunnel over one relay, the service granted on both sides.
    pub(crate) fn new() -> Self {
        let world = Self::with(1, Limits::default(), Limits::default());
        world.grant();
        world
    }

    pub(crate) fn with(relays: usize, agent: Limits, connector: Limits) -> Self {
        let trust = Trust::new();
        let mut agent = trust.node(Role::Agent, agent);
        let mut connector = trust.node(Role::Connector, connector);
        let ways = (0..relays).map(|_| open_way(&trust, &mut agent, &mut connector)).collect();
        let at_agent = agent.endpoint.issue_handle();
        agent.send(Command::ConnectTunnel { connection: at_agent, pair: AGENT_PAIR });
        let at_connector = connector.wait_handshake(ConnectionKind::Tunnel);
        connector.send(Command::Admit { connection: at_connector });
        assert_eq!(agent.wait_handshake(ConnectionKind::Tunnel), at_agent);
        agent.send(Command::Admit { connection: at_agent });
        connector.sync();
        agent.sync();
        Self { ways, agent, connector, at_agent, at_connector }
    }

    pub(crate) fn grant(&self) {
        self.grant_at_connector();
        self.grant_at_agent();
    }

    pub(crate) fn grant_at_connector(&self) {
        let (tunnel, service) = (self.at_connector, SERVICE.to_owned());
        self.connector.send(Command::Grant { tunnel, service });
    }

    pub(crate) fn grant_at_agent(&self) {
        let (tunnel, service) = (self.at_agent, SERVICE.to_owned());
        self.agent.send(Command::Grant { tunnel, service });
    }

    pub(crate) fn revoke_at_connector(&self) {
        let (tunnel, service) = (self.at_connector, SERVICE.to_owned());
        self.connector.send(Command::Revoke { tunnel, service, code: 7 });
    }

    /// Makes the service lead to a backend, and a local port of the agent to the service.
    pub(crate) fn serve(&mut self, protocol: Protocol, backend: SocketAddr) -> SocketAddr {
        self.connector.send(Command::SetBackends { services: vec![backend_of(protocol, backend)] });
        self.connector.sync();
        let bind = free_port(protocol);
        let service = SERVICE.to_owned();
        self.listen(vec![LocalListener::Forward { protocol, bind, service, port: PORT }]);
        bind
    }

    /// Makes the agent know the service, and opens local listeners.
    pub(crate) fn listen(&mut self, listeners: Vec<LocalListener>) {
        let port = |protocol| ServicePort { protocol, port: PORT };
        let service = AgentService {
            name: SERVICE.to_owned(),
            ipv4: None,
            ipv6: None,
            ports: vec![port(Protocol::Tcp), port(Protocol::Udp)],
        };
        self.agent.send(Command::SetServices { services: vec![service], listeners });
        self.agent.sync();
    }

    /// Waits until the connector has so many flows.
    pub(crate) fn wait_connector_flows(&mut self, count: u64) {
        self.wait_until("the connector has the flows", |it| it.connector.sync().flows == count);
    }

    pub(crate) fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = clock() + PATIENCE;
        while !is_so(self) {
            assert!(clock() < deadline, "waited until {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends so many echo requests; the answers have request 9.
    pub(crate) fn ping(&self, count: u16) {
        self.agent.send(Command::Ping {
            request: 9,
            service: SERVICE.to_owned(),
            count,
            interval: Duration::from_millis(10),
            size: 64,
        });
    }

    /// Gives both sides the credentials of checks.
    pub(crate) fn exchange_credentials(&mut self) {
        let of = |digit: &str| Credentials { ufrag: digit.repeat(16), password: digit.repeat(32) };
        let (agent, connector) = (of("a"), of("c"));
        for (node, tunnel, own, other) in [
            (&self.agent, self.at_agent, &agent, &connector),
            (&self.connector, self.at_connector, &connector, &agent),
        ] {
            node.send(Command::SetLocalCredentials { tunnel, credentials: own.clone() });
            node.send(Command::SetCandidates {
                tunnel,
                generation: 1,
                credentials: other.clone(),
                candidates: Vec::new(),
            });
        }
    }
}

/// Opens a relay, a leg of both to it and a channel between them.
pub(crate) fn open_way(trust: &Trust, agent: &mut Node, connector: &mut Node) -> Way {
    let mut relay = trust.node(Role::Relay, Limits::default());
    let agent_leg = open_leg(agent, &mut relay);
    let connector_leg = open_leg(connector, &mut relay);
    let side = |leg: LegEnds, client: &Node| ChannelSide {
        leg: leg.relay,
        relay_id: relay.endpoint.issue_channel_id(),
        client_id: client.endpoint.issue_channel_id(),
    };
    let agent_side = side(agent_leg, agent);
    let connector_side = side(connector_leg, connector);
    let mut way = Way { relay, agent_leg, agent_side, connector_side };
    way.open_channel();
    open_path(agent, AGENT_PAIR, agent_leg, agent_side);
    open_path(connector, CONNECTOR_PAIR, connector_leg, connector_side);
    way
}

pub(crate) fn open_path(node: &mut Node, pair: PairId, leg: LegEnds, side: ChannelSide) {
    let (send_id, receive_id): (WireId, WireId) = (side.relay_id, side.client_id);
    node.send(Command::OpenRelayedPath { pair, leg: leg.client, send_id, receive_id, near: true });
    node.sync();
}

pub(crate) fn backend_of(protocol: Protocol, address: SocketAddr) -> BackendService {
    let port = ServicePort { protocol, port: PORT };
    BackendService {
        name: SERVICE.to_owned(),
        ports: vec![BackendPort { port, addresses: vec![address] }],
        healthy: true,
        idle: Duration::from_secs(60),
    }
}

/// Returns an address that nobody listens on.
pub(crate) fn free_port(protocol: Protocol) -> SocketAddr {
    let address = match protocol {
        Protocol::Tcp => TcpListener::bind(loopback(0)).and_then(|it| it.local_addr()),
        Protocol::Udp => UdpSocket::bind(loopback(0)).and_then(|it| it.local_addr()),
    };
    address.expect("loopback has room")
}

/// Listens as a backend.
pub(crate) fn tcp_backend() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(loopback(0)).expect("loopback has room");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

pub(crate) fn udp_socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(loopback(0)).expect("loopback has room");
    socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let address = socket.local_addr().expect("it is bound");
    (socket, address)
}

/// Connects as an application.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the agent listens");
    patient(stream)
}

/// Accepts as a backend.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).expect("it is a socket");
    let deadline = clock() + PATIENCE;
    loop {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).expect("it is a socket");
            return patient(stream);
        }
        assert!(clock() < deadline, "nobody connected to the backend");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("it is not zero");
    stream
}

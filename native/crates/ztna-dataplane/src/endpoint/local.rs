//! Local sockets of an agent without packets: forwarded ports and SOCKS5.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::Token;

use crate::backend::tcp::{TcpEnd, TcpRead};
use crate::command::{LocalListener, Protocol};
use crate::error::EndpointError;
use crate::event::FlowKind;
use crate::flow::answer::FlowAnswer;
use crate::listener::{Accept, TcpListening, UdpListening};
use crate::socks::{
    SocksHandshake, SocksHost, SocksReply, SocksRequest, SocksTarget, read_datagram, write_reply,
};

use super::flows::{DatagramKey, Flow, FlowTable, Local, Stage};
use super::plane::{LISTENER_BASE, LISTENERS_MAX, Plane};

/// A SOCKS client says where it wants to go within this.
const GREETING_WAIT: Duration = Duration::from_secs(10);
/// Connections that one listener gives in one turn.
const ACCEPTS_A_TURN: usize = 64;
/// Batches that one listener is read for in one turn.
const BATCHES_A_TURN: usize = 4;
/// What names of services may end in.
const NAME_SUFFIX: &str = ".ztna";

/// Who sent to a local UDP socket, and to which of its addresses.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Client {
    pub(super) address: SocketAddr,
    pub(super) local: Option<IpAddr>,
}

/// A local socket that others connect to.
pub(super) struct Listener {
    /// As the owner asked for it; an association has none.
    asked: Option<LocalListener>,
    kind: ListenerKind,
}

enum ListenerKind {
    Tcp {
        socket: TcpListening,
        service: Rc<str>,
        port: u16,
    },
    Udp {
        socket: UdpListening,
        service: Rc<str>,
        port: u16,
    },
    Socks {
        socket: TcpListening,
    },
    /// The UDP socket of one SOCKS client; ends with its TCP connection.
    Association {
        socket: UdpListening,
        control: usize,
    },
}

impl Plane {
    /// Opens listeners that are asked for and not open, closes those that are not asked for.
    pub(super) fn sync_listeners(&mut self, asked: Vec<LocalListener>) {
        let unwanted: Vec<usize> = self
            .agent
            .listeners
            .iter()
            .filter(|(_, it)| it.asked.as_ref().is_some_and(|it| !asked.contains(it)))
            .map(|(index, _)| index)
            .collect();
        for index in unwanted {
            self.close_listener(index);
        }
        for listener in asked {
            let is_open =
                self.agent.listeners.iter().any(|(_, it)| it.asked.as_ref() == Some(&listener));
            if !is_open && let Err(error) = self.open_listener(listener) {
                self.fail_command(&error);
            }
        }
    }

    fn open_listener(&mut self, asked: LocalListener) -> Result<(), EndpointError> {
        let index = self.agent.listeners.vacant_key();
        if index >= LISTENERS_MAX {
            self.warn("listener not opened", format!("there are {LISTENERS_MAX} already"));
            return Ok(());
        }
        let (registry, token) = (self.poll.registry(), Token(LISTENER_BASE + index));
        let kind = match &asked {
            LocalListener::Forward { protocol: Protocol::Tcp, bind, service, port } => {
                let socket = TcpListening::bind(*bind, registry, token)?;
                ListenerKind::Tcp { socket, service: Rc::from(&**service), port: *port }
            }
            LocalListener::Forward { protocol: Protocol::Udp, bind, service, port } => {
                let socket = UdpListening::bind(*bind, registry, token)?;
                ListenerKind::Udp { socket, service: Rc::from(&**service), port: *port }
            }
            LocalListener::Socks { bind } => {
                ListenerKind::Socks { socket: TcpListening::bind(*bind, registry, token)? }
            }
        };
        self.agent.listeners.insert(Listener { asked: Some(asked), kind });
        Ok(())
    }

    fn close_listener(&mut self, index: usize) {
        let Some(listener) = self.agent.listeners.try_remove(index) else { return };
        // Dropping a socket takes it out of the poll.
        drop(listener);
        // Its number goes to another listener, which has nothing to do with these clients.
        let orphans: Vec<usize> = self
            .flows
            .slab
            .iter()
            .filter(|(_, flow)| {
                matches!(&flow.local, Local::Forward { listener: of, .. }
                    | Local::Socks { association: of, .. } if *of == index)
            })
            .map(|(key, _)| key)
            .collect();
        for key in orphans {
            self.finish_datagram_flow(key);
        }
    }

    /// Takes what arrived at a listener; returns whether more may wait.
    pub(super) fn serve_listener(&mut self, index: usize, now: Instant) -> bool {
        match self.agent.listeners.get(index).map(|listener| &listener.kind) {
            Some(ListenerKind::Tcp { .. } | ListenerKind::Socks { .. }) => {
                self.accept_connections(index, now)
            }
            Some(ListenerKind::Udp { .. } | ListenerKind::Association { .. }) => {
                self.receive_datagrams(index, now)
            }
            None => false,
        }
    }

    fn accept_connections(&mut self, index: usize, now: Instant) -> bool {
        for _ in 0..ACCEPTS_A_TURN {
            let Some(listener) = self.agent.listeners.get_mut(index) else { return false };
            let (socket, target) = match &mut listener.kind {
                ListenerKind::Tcp { socket, service, port } => {
                    (socket, Some((Rc::clone(service), *port)))
                }
                ListenerKind::Socks { socket } => (socket, None),
                ListenerKind::Udp { .. } | ListenerKind::Association { .. } => return false,
            };
            let stream = match socket.accept() {
                Accept::Connection(stream) => stream,
                Accept::Refused => {
                    self.counters.flows_refused_limit += 1;
                    continue;
                }
                // Without descriptors there is no event either: look again in the next turn.
                Accept::WouldBlock => return socket.is_stalled(),
            };
            if self.flows.slab.len() >= self.config.limits.flows_max {
                self.counters.flows_refused_limit += 1;
                continue;
            }
            let entry = self.flows.slab.vacant_key();
            let registry = self.poll.registry();
            let Ok(tcp) = TcpEnd::from_accepted(stream, registry, FlowTable::token(entry)) else {
                continue;
            };
            let mut flow = Flow::new(FlowKind::Tcp, Stage::Waiting, Local::Tcp(tcp), now);
            if let Some((service, port)) = target {
                flow.service = service;
                flow.port = port;
                let key = self.flows.slab.insert(flow);
                self.start_flow(key, now);
            } else {
                flow.stage = Stage::Greeting;
                flow.socks = true;
                flow.greeting = Some(Box::new(SocksHandshake::new()));
                flow.deadline = Some(now + GREETING_WAIT);
                let key = self.flows.slab.insert(flow);
                self.want_sweep(now);
                self.flows.mark(key);
            }
        }
        true
    }

    /// Reads what a SOCKS client says.
    pub(super) fn read_greeting(&mut self, key: usize, now: Instant) {
        let mut buffer = [0; 512];
        loop {
            let Some(flow) = self.flows.slab.get_mut(key) else { return };
            let (Local::Tcp(tcp), Some(handshake)) = (&mut flow.local, &mut flow.greeting) else {
                return;
            };
            let count = match tcp.read(&mut buffer) {
                TcpRead::Data(count) => count,
                TcpRead::WouldBlock => return,
                TcpRead::End | TcpRead::Failed(_) => return self.close_flow(key, None),
            };
            let mut octets = buffer.get(..count).unwrap_or_default();
            let mut out = Vec::new();
            let outcome = handshake.read(&mut octets, &mut out);
            if !out.is_empty() {
                let _ = tcp.write(&out);
            }
            match outcome {
                Ok(None) => {}
                Ok(Some(request)) => {
                    // A client may send before it is answered.
                    flow.up.preface.clear();
                    flow.eager.extend_from_slice(octets);
                    flow.greeting = None;
                    flow.deadline = None;
                    return self.take_socks_request(key, request, now);
                }
                Err(_) => return self.linger(key, now),
            }
        }
    }

    fn take_socks_request(&mut self, key: usize, request: SocksRequest, now: Instant) {
        match request {
            SocksRequest::Connect(target) => {
                let service = self.service_of(&target);
                let offered = service
                    .as_ref()
                    .is_some_and(|service| self.offers(service, FlowKind::Tcp, target.port));
                let Some(flow) = self.flows.slab.get_mut(key) else { return };
                match service {
                    Some(service) if offered => {
                        flow.service = service;
                        flow.port = target.port;
                        self.start_flow(key, now);
                    }
                    Some(_) | None => self.refuse_local(key, FlowAnswer::NotAvailable, now),
                }
            }
            SocksRequest::UdpAssociate(_) => self.associate(key),
        }
    }

    /// Opens the UDP socket of a SOCKS client, on the address that it reached us by.
    fn associate(&mut self, key: usize) {
        let index = self.agent.listeners.vacant_key();
        let Some(flow) = self.flows.slab.get_mut(key) else { return };
        let Local::Tcp(tcp) = &mut flow.local else { return };
        let (registry, token) = (self.poll.registry(), Token(LISTENER_BASE + index));
        let socket = tcp.local_address().filter(|_| index < LISTENERS_MAX).and_then(|local| {
            UdpListening::bind(SocketAddr::new(local.ip(), 0), registry, token).ok()
        });
        let mut reply = Vec::new();
        let Some(socket) = socket else {
            write_reply(SocksReply::GeneralFailure, crate::socks::UNSPECIFIED, &mut reply);
            let _ = tcp.write(&reply);
            return self.close_flow(key, None);
        };
        write_reply(SocksReply::Succeeded, socket.local_address(), &mut reply);
        let _ = tcp.write(&reply);
        flow.stage = Stage::Associated(index);
        let kind = ListenerKind::Association { socket, control: key };
        self.agent.listeners.insert(Listener { asked: None, kind });
        // It may be over already: what was told with the request is not told again.
        self.flows.mark(key);
    }

    /// An association ends when its TCP connection does.
    pub(super) fn watch_association(&mut self, key: usize, listener: usize) {
        let mut buffer = [0; 64];
        loop {
            let Some(Local::Tcp(tcp)) = self.flows.slab.get_mut(key).map(|flow| &mut flow.local)
            else {
                return;
            };
            match tcp.read(&mut buffer) {
                TcpRead::Data(_) => {}
                TcpRead::WouldBlock => return,
                TcpRead::End | TcpRead::Failed(_) => {
                    self.close_listener(listener);
                    return self.close_flow(key, None);
                }
            }
        }
    }

    fn receive_datagrams(&mut self, index: usize, now: Instant) -> bool {
        let mut batch = self.user_batch.take().unwrap_or_default();
        let mut more = true;
        for _ in 0..BATCHES_A_TURN {
            let Some(listener) = self.agent.listeners.get_mut(index) else { break };
            let (ListenerKind::Udp { socket, .. } | ListenerKind::Association { socket, .. }) =
                &mut listener.kind
            else {
                break;
            };
            if !socket.receive(&mut batch) {
                more = false;
                break;
            }
            for datagram in batch.datagrams() {
                let client = Client { address: datagram.source, local: datagram.local };
                self.take_local_datagram(index, client, datagram.octets, now);
            }
        }
        self.user_batch = Some(batch);
        more
    }

    fn take_local_datagram(&mut self, index: usize, client: Client, datagram: &[u8], now: Instant) {
        match self.agent.listeners.get(index).map(|listener| &listener.kind) {
            Some(ListenerKind::Udp { service, port, .. }) => {
                let (service, port) = (Rc::clone(service), *port);
                let key = DatagramKey::Forward { listener: index, client };
                let local = Local::Forward { listener: index, client };
                let flow = self.datagram_flow(key, FlowKind::Udp, &service, port, local, now);
                if let Some(flow) = flow {
                    self.send_or_hold(flow, datagram, now);
                }
            }
            Some(ListenerKind::Association { control, .. }) => {
                let control = *control;
                self.take_socks_datagram(index, control, client, datagram, now);
            }
            Some(ListenerKind::Tcp { .. } | ListenerKind::Socks { .. }) | None => {}
        }
    }

    fn take_socks_datagram(
        &mut self,
        index: usize,
        control: usize,
        client: Client,
        datagram: &[u8],
        now: Instant,
    ) {
        // Only the host that made the association may use it (RFC 1928 §6).
        let owner = match self.flows.slab.get(control).map(|flow| &flow.local) {
            Some(Local::Tcp(tcp)) => tcp.peer_address(),
            Some(_) | None => None,
        };
        if owner.is_none_or(|owner| owner.ip() != client.address.ip()) {
            self.counters.dropped_wrong_source += 1;
            return;
        }
        let Ok((target, octets)) = read_datagram(datagram) else {
            self.counters.datagrams_dropped_malformed += 1;
            return;
        };
        let service = self.service_of(&target);
        let Some(service) =
            service.filter(|service| self.offers(service, FlowKind::Udp, target.port))
        else {
            self.counters.datagrams_dropped_unknown_flow += 1;
            return;
        };
        let port = target.port;
        let target = target.into_owned();
        let key = DatagramKey::Socks { association: index, client, target: target.clone() };
        let local = Local::Socks { association: index, client, target };
        if let Some(flow) = self.datagram_flow(key, FlowKind::Udp, &service, port, local, now) {
            self.send_or_hold(flow, octets, now);
        }
    }

    /// Returns the service that a SOCKS client names: `echo-service`, `echo-service.ztna`, or a virtual
    /// address.
    fn service_of(&self, target: &SocksTarget<'_>) -> Option<Rc<str>> {
        match &target.host {
            SocksHost::Name(name) => {
                let name = name.trim_end_matches('.').to_ascii_lowercase();
                let name = name.strip_suffix(NAME_SUFFIX).unwrap_or(&name);
                self.agent.services.get_key_value(name).map(|(name, _)| Rc::clone(name))
            }
            SocksHost::Address(address) => self.agent.by_address.get(address).map(Rc::clone),
        }
    }

    pub(super) fn send_to_client(&mut self, listener: usize, client: Client, octets: &[u8]) {
        let socket = self.agent.listeners.get_mut(listener).map(|listener| &mut listener.kind);
        if let Some(ListenerKind::Udp { socket, .. } | ListenerKind::Association { socket, .. }) =
            socket
        {
            // A full buffer drops datagrams, as any network may.
            socket.send_all(&[octets], client.address, client.local, &mut self.built_packet);
        }
    }
}

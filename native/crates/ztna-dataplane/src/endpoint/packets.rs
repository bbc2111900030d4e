//! IP packets of applications: from a TUN device or a PacketTunnel shim to flows, and back.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use mio::event::Event as Readiness;
use mio::unix::SourceFd;
use mio::{Interest, Token};

use crate::command::TunConfig;
use crate::event::{Event, FlowKind};
use crate::flow::answer::StreamError;
use crate::packet_socket::PacketSocket;
use crate::termination::{
    Datagram, DatagramKind, TcpEvent, TcpRefusal, TerminatedFlow, Termination, TerminationConfig,
    Unreachable,
};
use crate::tun::vnet::VnetHeader;
use crate::tun::{READ_BUFFER, TunDevice};

use super::device::Device;
use super::flows::{DatagramKey, Flow, Local, Stage};
use super::plane::{LINK_BASE, LINKS_MAX, Plane};

/// Octets of an echo request that the wire does not need: type, code, checksum, identifier.
const SEQUENCE_BYTES: usize = 2;

/// A source of IP packets with the TCP connections that end there.
pub(super) struct Link {
    device: Device,
    pub(super) termination: Termination,
    pub(super) by_terminated: HashMap<TerminatedFlow, usize>,
    pub(super) readable: bool,
    pub(super) write_failures: u64,
}

impl Plane {
    pub(super) fn open_tun(&mut self, config: &TunConfig, now: Instant) {
        let device = match TunDevice::open(config) {
            Ok(device) => device,
            Err(error) => return self.fail_command(&error),
        };
        let name = device.name().to_owned();
        let (offload, mtu) = (device.offload(), device.mtu());
        if self.add_link(Device::Tun(device), offload, mtu, now) {
            self.events.push(Event::TunOpened { name });
        }
    }

    pub(super) fn attach_packets(&mut self, path: &str, mtu: u16, now: Instant) {
        match PacketSocket::bind(Path::new(path), mtu) {
            Ok(socket) => {
                let device = Device::Socket { socket, peer: None };
                let _ = self.add_link(device, false, mtu, now);
            }
            Err(error) => self.fail_command(&error),
        }
    }

    fn add_link(&mut self, device: Device, offload: bool, mtu: u16, now: Instant) -> bool {
        let index = self.agent.links.len();
        if index >= LINKS_MAX {
            self.warn("packet link not opened", format!("there are {LINKS_MAX} already"));
            return false;
        }
        let token = Token(LINK_BASE + index);
        let registry = self.poll.registry();
        let descriptor = match &device {
            Device::Tun(device) => device.as_raw_fd(),
            Device::Socket { socket, .. } => socket.as_raw_fd(),
        };
        if let Err(error) = registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)
        {
            self.fail_command(&super::system("watch a packet device", &error));
            return false;
        }
        let mut seed = [0; 8];
        super::fill_random(&mut seed);
        let termination = Termination::new(
            TerminationConfig {
                offload,
                mtu,
                held_syns_max: self.config.limits.held_syns_max,
                flows_max: self.config.limits.flows_max,
                random_seed: u64::from_be_bytes(seed),
            },
            now,
        );
        self.agent.links.push(Link {
            device,
            termination,
            by_terminated: HashMap::new(),
            readable: true,
            write_failures: 0,
        });
        true
    }

    pub(super) fn note_link_readiness(&mut self, index: usize, event: &Readiness) {
        let Some(link) = self.agent.links.get_mut(index) else { return };
        link.readable |= event.is_readable();
        self.accept_shim(index);
    }

    /// Takes a PacketTunnel shim that connected, or turns it away.
    fn accept_shim(&mut self, index: usize) {
        let token = Token(LINK_BASE + index);
        let Some(link) = self.agent.links.get_mut(index) else { return };
        let Device::Socket { socket, peer } = &mut link.device else { return };
        // An error is a client that gave up between its call and ours.
        while let Ok(Some(outcome)) = socket.accept(peer.is_some()) {
            match outcome {
                Ok(attached) => {
                    let registered = self.poll.registry().register(
                        &mut SourceFd(&attached.as_raw_fd()),
                        token,
                        Interest::READABLE | Interest::WRITABLE,
                    );
                    *peer = registered.is_ok().then_some(attached);
                    link.readable = true;
                }
                Err(refusal) => {
                    let what = "packet tunnel turned away";
                    self.events.push(Event::Warning { what, detail: refusal.to_string() });
                }
            }
        }
    }

    /// Reads packets; returns whether more may wait.
    pub(super) fn read_links(&mut self, now: Instant) -> bool {
        let mut more = false;
        for index in 0..self.agent.links.len() {
            if self.agent.links.get(index).is_some_and(|link| link.readable) {
                more |= self.read_link(index, now);
            }
        }
        more
    }

    fn read_link(&mut self, index: usize, now: Instant) -> bool {
        let Some(mut buffer) = self.packet_buffer.take() else { return false };
        buffer.resize(READ_BUFFER, 0);
        let mut datagrams: Vec<(DatagramKind, SocketAddr, SocketAddr, Range<usize>)> = Vec::new();
        let mut payloads: Vec<u8> = Vec::new();
        let Some(link) = self.agent.links.get_mut(index) else { return false };
        let Link { device, termination, readable, .. } = link;
        let more = device.read(&mut buffer, &mut |header, packet: &mut [u8]| {
            termination.handle_packet(header, packet, now, &mut |datagram: Datagram<'_>| {
                let start = payloads.len();
                payloads.extend_from_slice(datagram.payload);
                let range = start..payloads.len();
                datagrams.push((datagram.kind, datagram.source, datagram.destination, range));
            });
        });
        *readable = more;
        for (kind, source, destination, range) in datagrams {
            let payload = payloads.get(range).unwrap_or_default();
            self.take_datagram(index, kind, source, destination, payload, now);
        }
        self.packet_buffer = Some(buffer);
        self.poll_terminated(index, now);
        more
    }

    /// Carries out what the terminated connections ask for.
    fn poll_terminated(&mut self, index: usize, now: Instant) {
        loop {
            let Some(link) = self.agent.links.get_mut(index) else { return };
            let Some(event) = link.termination.poll_event() else { return };
            match event {
                TcpEvent::Syn { flow, destination, .. } => {
                    self.take_syn(index, flow, destination, now)
                }
                TcpEvent::Readable { flow } | TcpEvent::Writable { flow } => {
                    if let Some(key) = link.by_terminated.get(&flow) {
                        self.flows.mark(*key);
                    }
                }
                TcpEvent::Reset { flow } | TcpEvent::Closed { flow } => {
                    if let Some(key) = link.by_terminated.remove(&flow) {
                        self.fail_flow(key, StreamError::PeerReset, now);
                    }
                }
            }
        }
    }

    fn take_syn(
        &mut self,
        index: usize,
        id: TerminatedFlow,
        destination: SocketAddr,
        now: Instant,
    ) {
        let service = self.agent.by_address.get(&destination.ip()).map(Rc::clone);
        let offered = service
            .as_ref()
            .is_some_and(|service| self.offers(service, FlowKind::Tcp, destination.port()));
        let full = self.flows.slab.len() >= self.config.limits.flows_max;
        self.counters.flows_refused_limit += u64::from(full);
        let Some(link) = self.agent.links.get_mut(index) else { return };
        let service = match service {
            Some(service) if offered && !full => service,
            Some(_) => return link.termination.refuse(id, TcpRefusal::Reset, now),
            None => return link.termination.refuse(id, TcpRefusal::Unreachable, now),
        };
        let mut flow = Flow::new(FlowKind::Tcp, Stage::Waiting, Local::Terminated(index, id), now);
        flow.service = service;
        flow.port = destination.port();
        let key = self.flows.slab.insert(flow);
        link.by_terminated.insert(id, key);
        self.start_flow(key, now);
    }

    fn take_datagram(
        &mut self,
        index: usize,
        kind: DatagramKind,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
        now: Instant,
    ) {
        if kind == DatagramKind::Udp {
            // What most packets are: of a flow that was judged before.
            let key = DatagramKey::Packets { link: index, source, destination };
            if let Some(flow) = self.agent.by_key.get(&key) {
                return self.send_or_hold(*flow, payload, now);
            }
        }
        let flow_kind = match kind {
            DatagramKind::Udp => FlowKind::Udp,
            DatagramKind::Echo { .. } => FlowKind::Echo,
        };
        let Some(service) = self.agent.by_address.get(&destination.ip()).map(Rc::clone) else {
            return self.send_unreachable_packet(
                index,
                Unreachable::Host,
                kind,
                source,
                destination,
            );
        };
        if !self.offers(&service, flow_kind, destination.port()) {
            return self.send_unreachable_packet(
                index,
                Unreachable::Port,
                kind,
                source,
                destination,
            );
        }
        match kind {
            DatagramKind::Udp => {
                let key = DatagramKey::Packets { link: index, source, destination };
                let local = Local::Packets { link: index, source, destination };
                let port = destination.port();
                if let Some(flow) = self.datagram_flow(key, flow_kind, &service, port, local, now) {
                    self.send_or_hold(flow, payload, now);
                }
            }
            DatagramKind::Echo { identifier, sequence } => {
                let (from, to) = (source, destination);
                let key =
                    DatagramKey::Echo { link: index, source: from, destination: to, identifier };
                let local =
                    Local::PacketsEcho { link: index, source: from, destination: to, identifier };
                if let Some(flow) = self.datagram_flow(key, flow_kind, &service, 0, local, now) {
                    // The answer carries it back: the connector returns what it got.
                    let mut octets = sequence.to_be_bytes().to_vec();
                    octets.extend_from_slice(payload);
                    self.send_or_hold(flow, &octets, now);
                }
            }
        }
    }

    pub(super) fn send_udp_packet(
        &mut self,
        link: usize,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) {
        let mut packet = std::mem::take(&mut self.built_packet);
        packet.clear();
        let header = Termination::send_udp(source, destination, payload, &mut packet);
        self.write_packet(link, header, packet);
    }

    pub(super) fn send_echo_packet(
        &mut self,
        link: usize,
        source: SocketAddr,
        destination: SocketAddr,
        identifier: u16,
        octets: &[u8],
    ) {
        let Some((sequence, payload)) = octets.split_first_chunk::<SEQUENCE_BYTES>() else {
            return;
        };
        let sequence = u16::from_be_bytes(*sequence);
        let mut packet = std::mem::take(&mut self.built_packet);
        packet.clear();
        let header = Termination::send_echo_reply(
            source,
            destination,
            identifier,
            sequence,
            payload,
            &mut packet,
        );
        self.write_packet(link, header, packet);
    }

    pub(super) fn send_unreachable_packet(
        &mut self,
        link: usize,
        why: Unreachable,
        kind: DatagramKind,
        source: SocketAddr,
        destination: SocketAddr,
    ) {
        let mut packet = std::mem::take(&mut self.built_packet);
        packet.clear();
        let header = Termination::send_unreachable(why, kind, source, destination, &mut packet);
        self.write_packet(link, header, packet);
    }

    fn write_packet(&mut self, link: usize, header: Option<VnetHeader>, packet: Vec<u8>) {
        if let (Some(header), Some(link)) = (header, self.agent.links.get_mut(link)) {
            link.write_failures += u64::from(!link.device.write(header, &packet));
        }
        self.built_packet = packet;
    }

    /// Writes what the terminated connections have to say.
    pub(super) fn flush_links(&mut self, now: Instant) {
        for index in 0..self.agent.links.len() {
            if let Some(link) = self.agent.links.get_mut(index) {
                let Link { device, termination, write_failures, .. } = link;
                termination.flush(now, &mut |header, packet| {
                    *write_failures += u64::from(!device.write(header, packet));
                });
                if let Device::Socket { peer: slot @ Some(_), .. } = device
                    && slot.as_mut().is_some_and(|peer| peer.flush().is_err())
                {
                    *slot = None;
                }
            }
            self.poll_terminated(index, now);
        }
    }

    pub(super) fn link_timeout(&self) -> Option<Instant> {
        self.agent.links.iter().filter_map(|link| link.termination.poll_timeout()).min()
    }

    pub(super) fn serve_links(&mut self, now: Instant) {
        for index in 0..self.agent.links.len() {
            let Some(link) = self.agent.links.get_mut(index) else { return };
            if link.termination.poll_timeout().is_some_and(|at| at <= now) {
                link.termination.handle_timeout(now);
            }
        }
    }

    /// Answers a connection that never was.
    pub(super) fn reset_terminated(&mut self, index: usize, id: TerminatedFlow, now: Instant) {
        if let Some(link) = self.agent.links.get_mut(index) {
            link.by_terminated.remove(&id);
            link.termination.abort(id, now);
        }
    }
}

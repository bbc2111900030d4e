//! An application with a TCP stack of its own, at the other side of a device without loss.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::termination::{TcpEvent, TcpRecvError, TerminatedFlow, Termination, TerminationConfig};
use crate::tun::vnet::VnetHeader;

pub(super) const MTU: u16 = 1_280;
pub(super) const APPLICATION_RING: usize = 128 << 10;
pub(super) const SERVICE_V4: &str = "10.100.0.1:80";
pub(super) const SERVICE_V6: &str = "[fd7a:7a74:6e61::1]:80";

/// Device and family of a test.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    pub(super) offload: bool,
    pub(super) v6: bool,
}

pub(super) const MODES: [Mode; 4] = [
    Mode { offload: true, v6: false },
    Mode { offload: true, v6: true },
    Mode { offload: false, v6: false },
    Mode { offload: false, v6: true },
];

pub(super) struct World {
    pub(super) mode: Mode,
    pub(super) now: Instant,
    epoch: Instant,
    pub(super) termination: Termination,
    pub(super) events: Vec<TcpEvent>,
    /// Everything that left the termination since the test last looked.
    pub(super) captured: Vec<(VnetHeader, Vec<u8>)>,
    /// What the application sent, if `record` is set.
    pub(super) recorded: Vec<Vec<u8>>,
    pub(super) record: bool,
    interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    wire: Wire,
    port: u16,
}

impl World {
    pub(super) fn new(mode: Mode) -> Self {
        Self::with_limits(mode, 1_024, 4_096)
    }

    pub(super) fn with_limits(mode: Mode, held_syns_max: usize, flows_max: usize) -> Self {
        let epoch = epoch();
        let config = TerminationConfig {
            offload: mode.offload,
            mtu: MTU,
            held_syns_max,
            flows_max,
            random_seed: 7,
        };
        let mut wire = Wire { offload: mode.offload, ..Wire::default() };
        let zero = smoltcp::time::Instant::ZERO;
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut wire, zero);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(application(false).into(), 32)).unwrap();
            addresses.push(IpCidr::new(application(true).into(), 128)).unwrap();
        });
        // On a device without link layer any gateway will do.
        interface.routes_mut().add_default_ipv4_route("10.0.0.2".parse().unwrap()).unwrap();
        interface.routes_mut().add_default_ipv6_route("fd00::2".parse().unwrap()).unwrap();
        Self {
            mode,
            now: epoch,
            epoch,
            termination: Termination::new(config, epoch),
            events: Vec::new(),
            captured: Vec::new(),
            recorded: Vec::new(),
            record: false,
            interface,
            sockets: SocketSet::new(Vec::new()),
            wire,
            port: 40_000,
        }
    }

    /// Starts a connection to the service and lets its SYN arrive.
    pub(super) fn connect(&mut self) -> SocketHandle {
        self.port += 1;
        self.connect_from(self.port)
    }

    pub(super) fn connect_from(&mut self, port: u16) -> SocketHandle {
        let ring = || SocketBuffer::new(vec![0; APPLICATION_RING]);
        let mut socket = Socket::new(ring(), ring());
        let service = if self.mode.v6 { SERVICE_V6 } else { SERVICE_V4 };
        let service: SocketAddr = service.parse().unwrap();
        socket.connect(self.interface.context(), service, port).unwrap();
        let handle = self.sockets.add(socket);
        self.step();
        handle
    }

    /// Returns a connection that is accepted and established, at both ends.
    pub(super) fn established(&mut self) -> (SocketHandle, TerminatedFlow) {
        let application = self.connect();
        let flow = self.take_syn();
        self.termination.accept(flow, self.now);
        self.step();
        assert_eq!(self.socket(application).state(), State::Established);
        assert_eq!(self.take_events(), [TcpEvent::Writable { flow }]);
        (application, flow)
    }

    pub(super) fn take_events(&mut self) -> Vec<TcpEvent> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn take_syn(&mut self) -> TerminatedFlow {
        match self.take_events().as_slice() {
            [TcpEvent::Syn { flow, .. }] => *flow,
            other => panic!("one SYN was due, not {other:?}"),
        }
    }

    pub(super) fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Lets both sides exchange packets until neither has any.
    pub(super) fn step(&mut self) {
        loop {
            let now = self.stack_now();
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            let quiet = self.wire.sent.is_empty();
            while let Some(mut packet) = self.wire.sent.pop_front() {
                self.inject(&mut packet);
            }
            self.flush();
            if quiet && self.wire.received.is_empty() {
                return;
            }
        }
    }

    /// Gives one packet to the termination as the device would.
    pub(super) fn inject(&mut self, packet: &mut [u8]) {
        if self.record {
            self.recorded.push(packet.to_vec());
        }
        let header = if self.mode.offload {
            VnetHeader { flags: VnetHeader::FLAG_NEEDS_CSUM, ..VnetHeader::PLAIN }
        } else {
            VnetHeader::PLAIN
        };
        let unexpected = &mut |datagram: crate::termination::Datagram<'_>| panic!("{datagram:?}");
        self.termination.handle_packet(header, packet, self.now, unexpected);
        self.drain_events();
    }

    pub(super) fn flush(&mut self) {
        let (wire, captured) = (&mut self.wire, &mut self.captured);
        self.termination.flush(self.now, &mut |header, packet: &mut [u8]| {
            wire.received.push_back(packet.to_vec());
            captured.push((header, packet.to_vec()));
        });
        self.drain_events();
    }

    /// Lets time pass, with every timer of both sides on time.
    pub(super) fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.step();
            let now = self.stack_now();
            let application = self
                .interface
                .poll_at(now, &self.sockets)
                .map(|at| self.epoch + Duration::from_micros(at.total_micros().max(0) as u64));
            let due = [application, self.termination.poll_timeout()].into_iter().flatten().min();
            let next = due.unwrap_or(end).max(self.now + Duration::from_millis(1));
            if next > end {
                break;
            }
            self.now = next;
            self.termination.handle_timeout(self.now);
            self.drain_events();
        }
        self.now = end;
        self.termination.handle_timeout(self.now);
        self.drain_events();
        self.step();
    }

    /// Moves octets from the application to its peer until both are done; returns what arrived.
    pub(super) fn upload(
        &mut self,
        application: SocketHandle,
        flow: TerminatedFlow,
        octets: &[u8],
    ) -> Vec<u8> {
        let mut arrived = Vec::new();
        let mut rest = octets;
        while arrived.len() < octets.len() {
            let before = (rest.len(), arrived.len());
            let sent = self.socket(application).send_slice(rest).unwrap();
            rest = &rest[sent..];
            self.step();
            arrived.extend(self.drain(flow).0);
            self.step();
            if before == (rest.len(), arrived.len()) {
                // An application that waits for its window gets the acknowledgement in time.
                self.advance(Duration::from_millis(5));
                arrived.extend(self.drain(flow).0);
            }
            assert_ne!(before, (rest.len(), arrived.len()), "an upload stands still");
        }
        arrived
    }

    /// Moves octets from the termination to the application; returns what arrived.
    pub(super) fn download(
        &mut self,
        application: SocketHandle,
        flow: TerminatedFlow,
        octets: &[u8],
    ) -> Vec<u8> {
        let mut arrived = Vec::new();
        let mut rest = octets;
        while arrived.len() < octets.len() {
            let before = (rest.len(), arrived.len());
            rest = &rest[self.fill(flow, rest)..];
            self.step();
            arrived.extend(self.read(application));
            self.step();
            assert_ne!(before, (rest.len(), arrived.len()), "a download stands still");
        }
        arrived
    }

    /// Writes what fits into the send ring and returns how much that was.
    pub(super) fn fill(&mut self, flow: TerminatedFlow, octets: &[u8]) -> usize {
        let mut rest = octets;
        loop {
            let sent = self.termination.send(flow, |room| {
                let length = room.len().min(rest.len());
                room[..length].copy_from_slice(&rest[..length]);
                length
            });
            match sent.unwrap() {
                0 => return octets.len() - rest.len(),
                sent => rest = &rest[sent..],
            }
        }
    }

    /// Reads all there is, and why there is no more.
    pub(super) fn drain(&mut self, flow: TerminatedFlow) -> (Vec<u8>, TcpRecvError) {
        let mut octets = Vec::new();
        loop {
            let taken = self.termination.recv(flow, |part| {
                octets.extend_from_slice(part);
                part.len()
            });
            if let Err(why) = taken {
                return (octets, why);
            }
        }
    }

    /// Reads all that the application was sent.
    pub(super) fn read(&mut self, application: SocketHandle) -> Vec<u8> {
        let socket = self.socket(application);
        let mut octets = Vec::new();
        while socket.can_recv() {
            socket
                .recv(|part| {
                    octets.extend_from_slice(part);
                    (part.len(), ())
                })
                .unwrap();
        }
        octets
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.termination.poll_event() {
            self.events.push(event);
        }
    }

    fn stack_now(&self) -> smoltcp::time::Instant {
        smoltcp::time::Instant::from_micros((self.now - self.epoch).as_micros() as i64)
    }
}

pub(super) fn application(v6: bool) -> IpAddr {
    if v6 { "fd00::1" } else { "10.0.0.1" }.parse().unwrap()
}

/// Octets without a period that a ring's size divides.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index % 251) as u8).collect()
}

#[expect(clippy::disallowed_methods, reason = "any instant will do: only differences matter")]
pub(super) fn epoch() -> Instant {
    Instant::now()
}

#[derive(Default)]
struct Wire {
    offload: bool,
    sent: VecDeque<Vec<u8>>,
    received: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);

struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        let packet = self.received.pop_front()?;
        Some((Received(packet), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU.into();
        // With offload, checksums on the device are partial both ways.
        if self.offload {
            capabilities.checksum.tcp = Checksum::None;
        }
        capabilities
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut packet = vec![0; length];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

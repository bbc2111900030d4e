//! A namespace with a device, and a thread that terminates what applications send to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Instant;

use super::super::{CLONE_DEVICE, READ_BUFFER, TunDevice, ioctl};
use crate::command::{TunConfig, TunSource};
use crate::termination::{
    Datagram, DatagramKind, TcpEvent, TcpRecvError, TcpRefusal, TerminatedFlow, Termination,
    TerminationConfig, TerminationCounters, Unreachable,
};

/// Sends everything back, on TCP and UDP.
pub(super) const ECHO: u16 = 7;
/// Answers the number of octets when the application has finished.
pub(super) const COUNT: u16 = 12;
/// Resets when data arrive.
pub(super) const ABORT: u16 = 13;
pub(super) const REFUSED: u16 = 9;
pub(super) const UNREACHABLE: u16 = 10;

pub(super) struct Lab {
    stop: UnixStream,
    service: Mutex<Option<JoinHandle<TerminationCounters>>>,
}

impl Lab {
    /// Closes the device.
    pub(super) fn stop(&self) -> TerminationCounters {
        drop((&self.stop).write_all(&[0]));
        self.service.lock().unwrap().take().expect("stopped once").join().unwrap()
    }
}

pub(super) fn device_config(addresses: Vec<(std::net::IpAddr, u8)>) -> TunConfig {
    TunConfig { source: TunSource::Name("ztnatest0".into()), mtu: 1_280, addresses }
}

/// Runs a test on a thread that alone is in a new network namespace.
pub(super) fn in_namespace(test: impl FnOnce(&Lab) + Send + 'static) {
    enter(test, || {
        let addresses = [("10.100.0.1", 16), ("10.101.0.1", 24), ("fd7a:7a74:6e61::1", 48)]
            .map(|(address, prefix)| (address.parse().unwrap(), prefix));
        TunDevice::open(&device_config(addresses.into())).unwrap()
    });
}

pub(super) fn in_namespace_without_offload(test: impl FnOnce(&Lab) + Send + 'static) {
    enter(test, || {
        let file = File::options().read(true).write(true).open(CLONE_DEVICE).unwrap();
        ioctl::attach(file.as_fd(), "ztnaplain0", libc::IFF_TUN | libc::IFF_NO_PI).unwrap();
        let source = TunSource::Descriptor(std::os::fd::IntoRawFd::into_raw_fd(file));
        let addresses =
            vec![("10.100.0.1".parse().unwrap(), 16), ("fd7a:7a74:6e61::1".parse().unwrap(), 48)];
        let config = TunConfig { source, ..device_config(addresses) };
        let device = TunDevice::open(&config).unwrap();
        // The part of its owner.
        device.configure(&config).unwrap();
        device
    });
}

fn enter(
    test: impl FnOnce(&Lab) + Send + 'static,
    open: impl FnOnce() -> TunDevice + Send + 'static,
) {
    let thread = std::thread::spawn(move || {
        if let Some(reason) = refused() {
            return skip(&reason);
        }
        let device = open();
        let (stop, stopped) = UnixStream::pair().unwrap();
        let service = std::thread::spawn(move || Service::new(device).run(&stopped));
        let lab = Lab { stop, service: Mutex::new(Some(service)) };
        test(&lab);
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Enters a new namespace, or says why that is not possible here.
fn refused() -> Option<String> {
    // SAFETY: moves this thread alone into a new network namespace, which ends with it.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Some(format!("no network namespace: {}", std::io::Error::last_os_error()));
    }
    match File::options().read(true).write(true).open(CLONE_DEVICE) {
        Ok(_) => None,
        Err(error) => Some(format!("no {CLONE_DEVICE}: {error}")),
    }
}

#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

struct Service {
    device: TunDevice,
    termination: Termination,
    flows: BTreeMap<TerminatedFlow, (u16, usize)>,
    buffer: Vec<u8>,
}

impl Service {
    fn new(device: TunDevice) -> Self {
        let config = TerminationConfig {
            offload: device.offload(),
            mtu: device.mtu(),
            held_syns_max: 100,
            flows_max: 100,
            random_seed: 5,
        };
        let termination = Termination::new(config, now());
        Self { device, termination, flows: BTreeMap::new(), buffer: vec![0; READ_BUFFER] }
    }

    fn run(mut self, stopped: &UnixStream) -> TerminationCounters {
        stopped.set_nonblocking(true).unwrap();
        loop {
            let timeout = self.termination.poll_timeout().map_or(-1, |at| {
                at.saturating_duration_since(now()).as_millis().min(1_000) as i32 + 1
            });
            let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            use std::os::fd::AsRawFd;
            let mut polled = [poll(self.device.as_raw_fd()), poll(stopped.as_raw_fd())];
            // SAFETY: the array has as many entries as is said.
            unsafe { libc::poll(polled.as_mut_ptr(), 2, timeout) };
            self.read();
            self.termination.handle_timeout(now());
            self.handle_events();
            let device = &self.device;
            self.termination.flush(now(), &mut |header, packet| {
                device.write(header, packet).unwrap();
            });
            if (&*stopped).read(&mut [0]).is_ok() {
                return self.termination.counters();
            }
        }
    }

    fn read(&mut self) {
        let Self { device, termination, buffer, .. } = self;
        let mut answer = Vec::new();
        while let Some((header, packet)) = device.read(buffer).unwrap() {
            termination.handle_packet(header, packet, now(), &mut |datagram| {
                let Datagram { kind, source, destination, payload } = datagram;
                let header = match kind {
                    DatagramKind::Udp if destination.port() == REFUSED => {
                        let port = Unreachable::Port;
                        Termination::send_unreachable(port, kind, source, destination, &mut answer)
                    }
                    DatagramKind::Udp => {
                        Termination::send_udp(destination, source, payload, &mut answer)
                    }
                    DatagramKind::Echo { identifier, sequence } => Termination::send_echo_reply(
                        destination,
                        source,
                        identifier,
                        sequence,
                        payload,
                        &mut answer,
                    ),
                };
                device.write(header.unwrap(), &answer).unwrap();
            });
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.termination.poll_event() {
            match event {
                TcpEvent::Syn { flow, destination, .. } => self.decide(flow, destination.port()),
                TcpEvent::Readable { flow } | TcpEvent::Writable { flow } => self.pump(flow),
                TcpEvent::Reset { flow } | TcpEvent::Closed { flow } => {
                    self.flows.remove(&flow);
                }
            }
        }
    }

    fn decide(&mut self, flow: TerminatedFlow, port: u16) {
        let refusal = match port {
            REFUSED => TcpRefusal::Reset,
            UNREACHABLE => TcpRefusal::Unreachable,
            _ => {
                self.flows.insert(flow, (port, 0));
                return self.termination.accept(flow, now());
            }
        };
        self.termination.refuse(flow, refusal, now());
    }

    fn pump(&mut self, flow: TerminatedFlow) {
        let Some((port, received)) = self.flows.get_mut(&flow) else { return };
        let mut octets = Vec::new();
        loop {
            let room = self.termination.send_capacity(flow);
            if room == 0 {
                return;
            }
            octets.clear();
            let taken = self.termination.recv(flow, |part| {
                let length = part.len().min(room);
                octets.extend_from_slice(&part[..length]);
                length
            });
            match taken {
                Ok(length) => *received += length,
                Err(TcpRecvError::Finished) => {
                    if *port == COUNT {
                        octets = received.to_string().into_bytes();
                        send(&mut self.termination, flow, &octets);
                    }
                    return self.termination.finish(flow);
                }
                Err(TcpRecvError::Empty | TcpRecvError::Reset) => return,
            }
            match *port {
                ECHO => send(&mut self.termination, flow, &octets),
                ABORT => return self.termination.abort(flow, now()),
                _ => {}
            }
        }
    }
}

fn send(termination: &mut Termination, flow: TerminatedFlow, octets: &[u8]) {
    let mut rest = octets;
    while !rest.is_empty() {
        let sent = termination.send(flow, |room| {
            let length = room.len().min(rest.len());
            room[..length].copy_from_slice(&rest[..length]);
            length
        });
        rest = &rest[sent.unwrap()..];
    }
}

#[expect(clippy::disallowed_methods, reason = "a real device lives in real time")]
fn now() -> Instant {
    Instant::now()
}

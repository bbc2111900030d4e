//! A real device in a network namespace of its own, with real sockets as applications. Skipped, with
//! the reason printed, where the machine does not allow it.

mod lab;

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::IntoRawFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use self::lab::{ABORT, COUNT, ECHO, Lab, REFUSED, UNREACHABLE, device_config, in_namespace};
use super::*;

const SERVICES: [&str; 2] = ["10.100.0.9", "fd7a:7a74:6e61::9"];

#[test]
fn a_mebibyte_is_echoed_by_a_terminated_connection() {
    in_namespace(|lab| {
        for service in SERVICES {
            let mut stream = lab.connect(service, ECHO).unwrap();
            let octets: Vec<u8> = (0..1 << 20).map(|index| (index % 251) as u8).collect();
            let mut reader = stream.try_clone().unwrap();
            let length = octets.len();
            let reading = std::thread::spawn(move || {
                let mut back = vec![0; length];
                reader.read_exact(&mut back).unwrap();
                back
            });
            stream.write_all(&octets).unwrap();
            assert!(reading.join().unwrap() == octets, "{service}");
        }
    });
}

#[test]
fn super_segments_cross_the_device_both_ways() {
    in_namespace(|lab| {
        let mut stream = lab.connect(SERVICES[0], ECHO).unwrap();
        stream.write_all(&vec![7; 100_000]).unwrap();
        stream.read_exact(&mut vec![0; 100_000]).unwrap();
        drop(stream);

        let counters = lab.stop();
        let mtu = u64::from(device_config(vec![]).mtu);
        assert!(counters.bytes_in / counters.packets_in > mtu, "{counters:?}");
        assert!(counters.bytes_out / counters.packets_out > mtu, "{counters:?}");
    });
}

#[test]
fn after_a_half_close_the_answer_arrives_and_then_the_end() {
    in_namespace(|lab| {
        for service in SERVICES {
            let mut stream = lab.connect(service, COUNT).unwrap();
            stream.write_all(&vec![1; 300_000]).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();

            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();

            assert_eq!(answer, "300000");
        }
    });
}

#[test]
fn refusals_reach_the_application_as_a_host_or_firewall_would_tell_them() {
    in_namespace(|lab| {
        for (service, port, errno) in [
            (SERVICES[0], REFUSED, libc::ECONNREFUSED),
            (SERVICES[1], REFUSED, libc::ECONNREFUSED),
            (SERVICES[0], UNREACHABLE, libc::EHOSTUNREACH),
            (SERVICES[1], UNREACHABLE, libc::EHOSTUNREACH),
        ] {
            let error = lab.connect(service, port).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno), "{service} {port}");
        }
    });
}

#[test]
fn an_abort_reaches_the_application_as_a_reset() {
    in_namespace(|lab| {
        for service in SERVICES {
            let mut stream = lab.connect(service, ABORT).unwrap();
            stream.write_all(b"anything").unwrap();

            let error = stream.read(&mut [0; 1]).unwrap_err();

            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
    });
}

#[test]
fn a_reset_by_the_application_leaves_nothing() {
    in_namespace(|lab| {
        for service in SERVICES {
            let stream = lab.connect(service, ECHO).unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(stream);
        }
        // A connection behind the resets, so that they have been seen.
        drop(lab.connect(SERVICES[0], ECHO).unwrap());

        let counters = lab.stop();
        assert_eq!(counters.flows_opened, 3);
        assert!(counters.flows_ended >= 2, "{counters:?}");
    });
}

#[test]
fn udp_of_every_size_is_echoed_and_a_closed_port_is_told() {
    in_namespace(|lab| {
        for service in SERVICES {
            let socket = lab.udp(service, ECHO);
            // Above the MTU the kernel sends fragments.
            for size in [0, 1, 512, 1_232, 1_240, 1_252, 1_253, 1_400, 4_000, 9_216] {
                let datagram: Vec<u8> = (0..size).map(|index| index as u8).collect();
                socket.send(&datagram).unwrap();
                let mut back = vec![0; 10_000];
                let length = socket
                    .recv(&mut back)
                    .unwrap_or_else(|error| panic!("{service}, {size} octets: {error}"));
                assert!(back[..length] == datagram, "{service}, {size} octets");
            }

            let closed = lab.udp(service, REFUSED);
            closed.send(b"anybody there?").unwrap();
            let error = closed.recv(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{service}");
        }
    });
}

#[test]
fn an_echo_request_is_answered_in_both_families() {
    in_namespace(|lab| {
        for service in SERVICES {
            for size in [0, 56, 1_400, 4_000] {
                let reply = lab.ping(service, size);
                assert_eq!(reply, size, "{service}");
            }
        }
    });
}

#[test]
fn addresses_and_routes_vanish_with_the_device() {
    in_namespace(|lab| {
        let routes = || std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
        let routes_v6 = || std::fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap();
        assert!(routes().contains("ztnatest0\t0000640A"), "{}", routes());
        assert!(routes_v6().contains("fd7a7a746e6100000000000000000000 30"), "{}", routes_v6());
        assert_eq!(addresses_of("ztnatest0").len(), 4);

        lab.stop();

        assert!(!routes().contains("ztnatest0"));
        assert!(!routes_v6().contains("fd7a7a746e61"));
        assert!(addresses_of("ztnatest0").is_empty());
    });
}

#[test]
fn an_inherited_device_is_adopted_with_the_offloads_that_it_has() {
    in_namespace(|lab| {
        lab.stop();
        for flags in [libc::IFF_VNET_HDR, 0] {
            let file = File::options().read(true).write(true).open(CLONE_DEVICE).unwrap();
            let flags = libc::IFF_TUN | libc::IFF_NO_PI | flags;
            ioctl::attach(file.as_fd(), "ztnaowned0", flags).unwrap();
            let source = TunSource::Descriptor(file.into_raw_fd());

            let device = TunDevice::open(&TunConfig { source, ..device_config(vec![]) }).unwrap();

            assert_eq!(device.name(), "ztnaowned0");
            assert_eq!(device.offload(), flags & libc::IFF_VNET_HDR != 0);
            assert!(device.read(&mut vec![0; READ_BUFFER]).unwrap().is_none());
        }
    });
}

#[test]
fn without_offload_connections_work_as_well() {
    lab::in_namespace_without_offload(|lab| {
        let mut stream = lab.connect(SERVICES[0], ECHO).unwrap();
        let octets: Vec<u8> = (0..200_000).map(|index| (index % 251) as u8).collect();
        let mut reader = stream.try_clone().unwrap();
        let sent = octets.clone();
        let writing = std::thread::spawn(move || stream.write_all(&sent).unwrap());
        let mut back = vec![0; octets.len()];
        reader.read_exact(&mut back).unwrap();
        writing.join().unwrap();
        assert!(back == octets);

        let socket = lab.udp(SERVICES[1], ECHO);
        socket.send(b"datagram").unwrap();
        assert_eq!(socket.recv(&mut [0; 100]).unwrap(), 8);
    });
}

#[test]
fn what_is_no_tun_device_is_refused_with_advice() {
    let file = File::open("/dev/null").unwrap();
    let refused = |source| {
        let error = TunDevice::open(&TunConfig { source, ..device_config(vec![]) }).unwrap_err();
        assert_eq!(error.code(), "TUN_UNAVAILABLE");
        error.to_string()
    };

    let null = refused(TunSource::Descriptor(file.into_raw_fd()));
    assert!(null.contains("pass the descriptor of an attached TUN device"), "{null}");
    let closed = refused(TunSource::Descriptor(1_000_000));
    assert!(closed.contains("pass the descriptor"), "{closed}");
}

#[test]
fn each_refusal_by_the_system_says_what_to_do() {
    for (errno, advice) in [
        (libc::EACCES, "let this user open /dev/net/tun"),
        (libc::EPERM, "grant CAP_NET_ADMIN"),
        (libc::ENOENT, "load the tun module"),
        (libc::EBUSY, "choose another name"),
    ] {
        let error = unavailable("ztna0", "opening", &io::Error::from_raw_os_error(errno));
        assert!(error.to_string().contains(advice), "{error}");
    }
}

impl Lab {
    fn connect(&self, service: &str, port: u16) -> io::Result<TcpStream> {
        let address = SocketAddr::new(service.parse().unwrap(), port);
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    }

    fn udp(&self, service: &str, port: u16) -> UdpSocket {
        let service: IpAddr = service.parse().unwrap();
        let any = if service.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        socket.connect(SocketAddr::new(service, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    /// Sends an echo request with `size` octets and returns how many came back unharmed.
    fn ping(&self, service: &str, size: usize) -> usize {
        let service: IpAddr = service.parse().unwrap();
        let (domain, protocol, request) = match service {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.connect(&SocketAddr::new(service, 0).into()).unwrap();
        let mut packet = vec![request, 0, 0, 0, 0x12, 0x34, 0, 1];
        packet.extend((0..size).map(|index| index as u8));
        if service.is_ipv4() {
            // The kernel fills in the checksum of ICMPv6 only.
            let padded = packet
                .chunks(2)
                .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from));
            let sum: u32 = padded.sum();
            let sum = (sum & 0xFFFF) + (sum >> 16);
            let sum = (sum & 0xFFFF) + (sum >> 16);
            packet[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        }
        socket.send(&packet).unwrap();
        loop {
            let mut buffer = vec![MaybeUninit::new(0); 10_000];
            let length = socket.recv(&mut buffer).unwrap();
            // SAFETY: all of the buffer was initialised to zeros.
            let octet = |value: &MaybeUninit<u8>| unsafe { value.assume_init() };
            let received: Vec<u8> = buffer[..length].iter().map(octet).collect();
            let reply = if service.is_ipv4() { &received[20..] } else { &received[..] };
            if reply[0] == if service.is_ipv4() { 0 } else { 129 } {
                assert_eq!(reply[4..], packet[4..]);
                return reply.len() - 8;
            }
        }
    }
}

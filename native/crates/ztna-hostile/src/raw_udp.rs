//! UDP over IPv4 from a source of one's choice.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Who the datagrams come from.
pub(crate) enum Sender {
    /// A socket of this process.
    Own(UdpSocket),
    /// Somebody else.
    Spoofed { socket: Socket, source: SocketAddrV4 },
}

impl Sender {
    pub(crate) fn new(spoof: Option<SocketAddr>, remote: SocketAddr) -> io::Result<Self> {
        match spoof {
            None => {
                let any: SocketAddr = if remote.is_ipv4() {
                    ([0, 0, 0, 0], 0).into()
                } else {
                    ([0_u16; 8], 0).into()
                };
                Ok(Self::Own(UdpSocket::bind(any)?))
            }
            Some(SocketAddr::V4(source)) => {
                let protocol = Protocol::from(libc::IPPROTO_RAW);
                let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol))?;
                Ok(Self::Spoofed { socket, source })
            }
            Some(SocketAddr::V6(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) fn send(&self, payload: &[u8], remote: SocketAddr) -> io::Result<()> {
        match (self, remote) {
            (Self::Own(socket), _) => socket.send_to(payload, remote).map(drop),
            (Self::Spoofed { socket, source }, SocketAddr::V4(target)) => {
                let packet = packet(*source, target, payload);
                socket.send_to(&packet, &remote.into()).map(drop)
            }
            (Self::Spoofed { .. }, SocketAddr::V6(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// The system fills in length and checksum of the IP header; UDP over IPv4 needs no checksum.
fn packet(source: SocketAddrV4, target: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let udp_length = u16::try_from(payload.len() + 8).unwrap_or(u16::MAX);
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source.ip().octets());
    packet.extend(target.ip().octets());
    packet.extend(source.port().to_be_bytes());
    packet.extend(target.port().to_be_bytes());
    packet.extend(udp_length.to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

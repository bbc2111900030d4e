//! Where IP packets come from and go to: a TUN device, or a PacketTunnel shim.

use crate::packet_socket::{PacketPeer, PacketSocket};
use crate::tun::TunDevice;
use crate::tun::vnet::VnetHeader;

/// Packets read from a device in one turn: a super-packet may hold 64 KiB.
const READS_A_TURN: usize = 64;

/// A source of packets.
pub(super) enum Device {
    Tun(TunDevice),
    Socket { socket: PacketSocket, peer: Option<PacketPeer> },
}

impl Device {
    /// Returns whether the system took the packet.
    pub(super) fn write(&mut self, header: VnetHeader, packet: &[u8]) -> bool {
        match self {
            Self::Tun(device) => device.write(header, packet).is_ok(),
            Self::Socket { peer, .. } => peer.as_mut().is_some_and(|peer| peer.send(packet)),
        }
    }

    /// Hands packets that have arrived to `take`; returns whether more may wait.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        take: &mut impl FnMut(VnetHeader, &mut [u8]),
    ) -> bool {
        match self {
            Self::Tun(device) => {
                for _ in 0..READS_A_TURN {
                    // An error is a packet that cannot be read, or a device that went down.
                    let Ok(Some((header, packet))) = device.read(buffer) else { return false };
                    take(header, packet);
                }
                true
            }
            Self::Socket { peer, .. } => {
                let Some(attached) = peer else { return false };
                match attached.read(&mut |packet: &mut [u8]| take(VnetHeader::PLAIN, packet)) {
                    Ok(more) => more,
                    Err(_) => {
                        *peer = None;
                        false
                    }
                }
            }
        }
    }
}

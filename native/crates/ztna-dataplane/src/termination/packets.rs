//! Where packets enter the termination, and the packets that answer datagrams.

use std::net::SocketAddr;
use std::time::Instant;

use super::datagram::{Datagram, DatagramKind, Unreachable};
use super::ip::{self, IpError, IpPacket, TCP};
use super::reassembly::Reassembled;
use super::{Termination, datagram};
use crate::tun::vnet::VnetHeader;

impl Termination {
    /// Takes one packet that an application sent. UDP datagrams and echo requests in it are handed to
    /// `datagrams` before the call returns; what happens to TCP flows is told by
    /// [`Termination::poll_event`], and answers leave with [`Termination::flush`].
    pub(crate) fn handle_packet(
        &mut self,
        header: VnetHeader,
        packet: &mut [u8],
        now: Instant,
        datagrams: &mut impl FnMut(Datagram<'_>),
    ) {
        self.now = now;
        self.counters.packets_in += 1;
        self.counters.bytes_in += packet.len() as u64;
        let parsed = match ip::parse(packet) {
            Ok(parsed) => parsed,
            Err(IpError::Malformed) => return self.counters.malformed += 1,
            Err(IpError::Martian) => return self.counters.martian += 1,
        };
        let packet = packet.get_mut(..parsed.total).unwrap_or_default();
        if parsed.fragment.is_some() {
            return self.handle_fragment(packet, &parsed, datagrams);
        }

        if parsed.protocol == TCP {
            return self.handle_tcp(header, packet, parsed);
        }
        let ends = (parsed.source, parsed.destination);
        let transport = packet.get(parsed.transport..).unwrap_or_default();
        datagram::classify(parsed.protocol, ends, transport, header, &mut self.counters, datagrams);
    }

    fn handle_fragment(
        &mut self,
        packet: &[u8],
        parsed: &IpPacket,
        datagrams: &mut impl FnMut(Datagram<'_>),
    ) {
        let Some(fragment) = parsed.fragment else { return };
        // TCP sends what fits, so a fragment of it is somebody's mistake.
        if parsed.protocol == TCP {
            return self.counters.fragments_dropped += 1;
        }
        let payload = packet.get(parsed.transport..).unwrap_or_default();
        let dropped = &mut self.counters.fragments_dropped;
        match self.reassembly.add(parsed, fragment, payload, self.now, dropped) {
            Reassembled::Waiting => {}
            Reassembled::Dropped(pieces) => self.counters.fragments_dropped += pieces as u64,
            Reassembled::Whole(transport) => {
                self.counters.reassembled += 1;
                let ends = (parsed.source, parsed.destination);
                datagram::classify(
                    parsed.protocol,
                    ends,
                    &transport,
                    VnetHeader::PLAIN,
                    &mut self.counters,
                    datagrams,
                );
            }
        }
    }

    /// Builds a UDP packet from the virtual address `source` into `out`, whose contents it replaces.
    /// Returns `None` when the families differ or the payload does not fit into an IP packet.
    pub(crate) fn send_udp(
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<VnetHeader> {
        datagram::build_udp(source, destination, payload, out)
    }

    /// Builds the reply to an echo request into `out`; see [`Termination::send_udp`]. The ports do not
    /// matter.
    pub(crate) fn send_echo_reply(
        source: SocketAddr,
        destination: SocketAddr,
        identifier: u16,
        sequence: u16,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<VnetHeader> {
        let id = (identifier, sequence);
        datagram::build_echo_reply(source.ip(), destination.ip(), id, payload, out)
    }

    /// Builds into `out` the ICMP error that answers a datagram, given by what
    /// [`Datagram`] said of it; see [`Termination::send_udp`].
    pub(crate) fn send_unreachable(
        unreachable: Unreachable,
        kind: DatagramKind,
        source: SocketAddr,
        destination: SocketAddr,
        out: &mut Vec<u8>,
    ) -> Option<VnetHeader> {
        let mut quoted = Vec::with_capacity(48);
        datagram::quote(kind, source, destination, &mut quoted)?;
        datagram::build_unreachable(unreachable, source.ip(), destination.ip(), &quoted, out)
    }
}

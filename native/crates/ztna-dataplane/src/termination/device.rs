//! What the TCP stack sees in place of a network device: one packet in, or packets out.

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use super::segment::{self, Finished};
use crate::tun::vnet::VnetHeader;

/// Largest IP packet.
pub(super) const PACKET_MAX: usize = 65_535;

/// Answers that the stack gives while it takes a packet in are small: headers with options only.
/// This holds more than 600 of them.
pub(super) const REPLIES_MAX: usize = 64 << 10;

/// Packets that wait for the next flush, in one reused buffer.
#[derive(Debug, Default)]
pub(super) struct Replies {
    octets: Vec<u8>,
    lengths: Vec<(VnetHeader, usize)>,
    pub(super) dropped: u64,
}

impl Replies {
    /// Keeps a packet that `fill` writes, unless there is no room.
    fn push_with<R>(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
        finish: impl FnOnce(&mut [u8]) -> VnetHeader,
    ) -> R {
        let start = self.octets.len();
        self.octets.resize(start + length, 0);
        let packet = self.octets.get_mut(start..).unwrap_or_default();
        let result = fill(packet);
        let header = finish(packet);
        if start + length > REPLIES_MAX {
            self.octets.truncate(start);
            self.dropped += 1;
        } else {
            self.lengths.push((header, length));
        }
        result
    }

    /// Keeps a finished packet, unless there is no room.
    pub(super) fn push(&mut self, header: VnetHeader, packet: &[u8]) {
        self.push_with(packet.len(), |target| target.copy_from_slice(packet), |_| header);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Hands every packet out, in order, and forgets it.
    pub(super) fn drain(&mut self, mut out: impl FnMut(VnetHeader, &mut [u8])) {
        let mut rest = self.octets.as_mut_slice();
        for (header, length) in self.lengths.drain(..) {
            let Some((packet, behind)) = rest.split_at_mut_checked(length) else { break };
            out(header, packet);
            rest = behind;
        }
        self.octets.clear();
    }
}

/// Returns what the stack is told about the device.
pub(super) fn capabilities(offload: bool, mtu: u16) -> DeviceCapabilities {
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = if offload { PACKET_MAX } else { usize::from(mtu) };
    // Checksums of what comes in are verified before the stack sees it, if anybody has to.
    capabilities.checksum.ipv4 = Checksum::Tx;
    capabilities.checksum.tcp = if offload { Checksum::None } else { Checksum::Tx };
    capabilities
}

/// One packet in; answers go to `replies`.
pub(super) struct Ingress<'a> {
    pub(super) packet: Option<&'a [u8]>,
    pub(super) replies: &'a mut Replies,
    pub(super) capabilities: &'a DeviceCapabilities,
    pub(super) offload: bool,
}

pub(super) struct IngressPacket<'a>(&'a [u8]);

pub(super) struct Reply<'a> {
    replies: &'a mut Replies,
    offload: bool,
}

impl Device for Ingress<'_> {
    type RxToken<'t>
        = IngressPacket<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Reply<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(IngressPacket<'_>, Reply<'_>)> {
        let packet = self.packet.take()?;
        Some((IngressPacket(packet), Reply { replies: self.replies, offload: self.offload }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Reply<'_>> {
        Some(Reply { replies: self.replies, offload: self.offload })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}

impl RxToken for IngressPacket<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl TxToken for Reply<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let offload = self.offload;
        // Without data there is nothing to cut.
        self.replies
            .push_with(length, f, |packet| segment::finish(packet, offload, u16::MAX).header)
    }
}

/// Packets of one flow out, through one reused buffer.
pub(super) struct Egress<'a, Out> {
    pub(super) scratch: &'a mut [u8],
    pub(super) capabilities: &'a DeviceCapabilities,
    pub(super) offload: bool,
    /// The largest segment that the application's side takes.
    pub(super) mss: u16,
    pub(super) sent: EgressSent,
    pub(super) out: &'a mut Out,
}

/// What went out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EgressSent {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) last: Option<Finished>,
}

pub(super) struct EgressPacket<'a, 'd, Out>(&'a mut Egress<'d, Out>);

/// Never constructed: nothing comes in while packets go out.
pub(super) enum Nothing {}

impl<'d, Out: FnMut(VnetHeader, &mut [u8])> Device for Egress<'d, Out> {
    type RxToken<'t>
        = Nothing
    where
        Self: 't;
    type TxToken<'t>
        = EgressPacket<'t, 'd, Out>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Nothing, EgressPacket<'_, 'd, Out>)> {
        None
    }

    fn transmit(&mut self, _: Instant) -> Option<EgressPacket<'_, 'd, Out>> {
        Some(EgressPacket(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}

impl RxToken for Nothing {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, _: F) -> R {
        match self {}
    }
}

impl<Out: FnMut(VnetHeader, &mut [u8])> TxToken for EgressPacket<'_, '_, Out> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let egress = self.0;
        // The stack never asks for more than the MTU it was told, which is what `scratch` holds.
        let packet = egress.scratch.get_mut(..length).unwrap_or_default();
        let result = f(packet);
        let finished = segment::finish(packet, egress.offload, egress.mss);
        egress.sent.packets += 1;
        egress.sent.bytes += length as u64;
        egress.sent.last = Some(finished);
        (egress.out)(finished.header, packet);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_kept_up_to_their_bound_and_dropped_beyond_it() {
        let mut replies = Replies::default();
        for _ in 0..REPLIES_MAX / 64 {
            replies.push(VnetHeader::PLAIN, &[7; 64]);
        }
        assert_eq!(replies.dropped, 0);

        replies.push(VnetHeader::PLAIN, &[7]);

        assert_eq!(replies.dropped, 1);
        let mut octets = 0;
        replies.drain(|_, packet| octets += packet.len());
        assert_eq!(octets, REPLIES_MAX);
        assert!(replies.is_empty());
    }
}

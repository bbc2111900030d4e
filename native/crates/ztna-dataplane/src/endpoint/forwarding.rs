//! A relay's socket: channel frames go on, legs and strangers are served.
//!
//! A train that the kernel merged is forwarded as a train: the ids are rewritten where the octets lie
//! and neighbours of one channel leave in one call. Short runs are gathered by destination first.

use std::net::SocketAddr;
use std::time::Instant;

use quinn_udp::{EcnCodepoint, RecvMeta};

use crate::channel::Forwarded;
use crate::demux::{PacketKind, classify};
use crate::id::WireId;
use crate::reset::{NotReset, RESET_LENGTH_MAX};

use super::plane::{Plane, Target};
use super::staging::{Run, StagedTrain, Staging};

/// So many packets of one channel leave from where they lie: to gather them costs a copy.
const LONG_RUN_PACKETS: usize = 8;

/// Octets that a relay's receive call should bring: a part of a core's own cache, which also holds what the
/// kernel copies them from and to (`docs/performance.md`).
pub(super) const FORWARDED_OCTETS_A_CALL: usize = 98_304;

impl Plane {
    /// Takes a train that came to `port`; what goes on is sent, or gathered in `staging`.
    pub(super) fn receive_at_relay(
        &mut self,
        port: usize,
        train: &mut [u8],
        meta: &RecvMeta,
        staging: &mut Staging,
        now: Instant,
    ) {
        let stride = meta.stride.max(1);
        let mut rest = train;
        while !rest.is_empty() {
            let forwarded = self.receive_frames(port, rest, stride, meta, now);
            let served = forwarded.map_or(stride.min(rest.len()), |it| it.octets);
            let (octets, behind) = rest.split_at_mut(served);
            if let Some(Forwarded { destination, .. }) = forwarded {
                let run = Run { destination, octets, segment: stride, ecn: meta.ecn };
                self.pass_on(port, run, staging);
            }
            rest = behind;
        }
    }

    fn pass_on(&mut self, port: usize, run: Run<'_>, staging: &mut Staging) {
        let mut send = |train: &StagedTrain| self.send_staged(port, train);
        if run.packets() < LONG_RUN_PACKETS {
            return staging.put(run, &mut send);
        }
        staging.flush_to(run.destination, &mut send);
        self.send_on(port, run.destination, run.octets, run.segment, run.ecn);
    }

    /// Sends what one round of receiving gathered.
    pub(super) fn flush_staging(&mut self, port: usize, staging: &mut Staging) {
        staging.flush(&mut |train| self.send_staged(port, train));
    }

    fn send_staged(&mut self, port: usize, train: &StagedTrain) {
        self.send_on(port, train.destination, &train.octets, train.segment, train.ecn);
    }

    /// Sends packets to a leg from the socket and address that it knows, else from `port`.
    fn send_on(
        &mut self,
        port: usize,
        destination: SocketAddr,
        octets: &[u8],
        segment: usize,
        ecn: Option<EcnCodepoint>,
    ) {
        let (port, src_ip) = match self.sources.get(&destination) {
            Some(source) => (source.port, source.src_ip),
            None => (port, None),
        };
        if let Some(port) = self.ports.get_mut(port) {
            port.send(destination, src_ip, octets, segment, ecn);
        }
    }

    /// Serves the first payload of a train; when it is a channel frame, also those behind it in the same
    /// channel, and returns where they go on to, rewritten.
    fn receive_frames(
        &mut self,
        port: usize,
        train: &mut [u8],
        stride: usize,
        meta: &RecvMeta,
        now: Instant,
    ) -> Option<Forwarded> {
        let packet = train.chunks_mut(stride).next()?;
        let kind = packet.first().map_or(PacketKind::Invalid, |first| classify(*first));
        match kind {
            PacketKind::Quic { long: false } => {}
            PacketKind::Quic { long: true } => {
                self.receive_initial_at_relay(port, meta, packet, now);
                return None;
            }
            PacketKind::Stun | PacketKind::Invalid => {
                self.counters.dropped_invalid += 1;
                return None;
            }
        }
        let Some(id) = packet.get(1..).and_then(WireId::from_prefix) else {
            self.counters.dropped_invalid += 1;
            return None;
        };
        if id.is_channel() {
            // Refusals are counted by reason in the table.
            let forwarded = self.channels.forward(train, stride, meta.addr, now).ok();
            self.heard.awaited |= forwarded.is_some();
            return forwarded;
        }
        match self.ids.get(&id).copied() {
            Some(Target::Connection(key)) => self.give_to_leg(key, meta, packet, now),
            Some(Target::Channel(_)) => self.counters.dropped_foreign_packet += 1,
            None => self.answer_with_reset(port, packet, meta, now),
        }
        None
    }

    fn answer_with_reset(&mut self, port: usize, packet: &[u8], meta: &RecvMeta, now: Instant) {
        self.counters.dropped_unknown_id += 1;
        let mut reset = [0; RESET_LENGTH_MAX];
        let length = match self.resets.answer(packet, meta.addr, now, &mut reset) {
            Ok(length) => length,
            Err(NotReset::Unfit) => return,
            Err(NotReset::Rate(_)) => {
                self.counters.resets_limited += 1;
                return;
            }
        };
        self.counters.resets_sent += 1;
        let reset = reset.get(..length).unwrap_or_default();
        if let Some(port) = self.ports.get_mut(port) {
            port.send(meta.addr, meta.dst_ip, reset, length, None);
        }
    }
}

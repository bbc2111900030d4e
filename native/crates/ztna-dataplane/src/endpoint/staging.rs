//! A relay's way out: packets that came one by one leave in trains.
//!
//! Packets of many senders to one receiver come interleaved with others, so that neighbours share
//! nothing. What one round of receiving found is sorted by destination, and packets of one size leave
//! in one call; the order in which a destination's packets came is kept. Nothing waits for more than
//! what the socket held already.

use std::collections::HashMap;
use std::net::SocketAddr;

use quinn_udp::EcnCodepoint;

use crate::udp::{GSO_BYTES_MAX, GSO_PACKETS_MAX};

/// Destinations that packets are gathered for at a time.
const TRAINS_MAX: usize = 64;

/// Packets of one size to one destination, the last perhaps shorter.
pub(super) struct StagedTrain {
    pub(super) destination: SocketAddr,
    pub(super) octets: Vec<u8>,
    pub(super) segment: usize,
    pub(super) ecn: Option<EcnCodepoint>,
    packets: usize,
}

/// A run of packets of one sender to one destination, as it lies in a received train.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    pub(super) destination: SocketAddr,
    pub(super) octets: &'a [u8],
    pub(super) segment: usize,
    pub(super) ecn: Option<EcnCodepoint>,
}

/// The trains under construction.
#[derive(Default)]
pub(super) struct Staging {
    trains: Vec<StagedTrain>,
    used: usize,
    by_destination: HashMap<SocketAddr, usize>,
}

impl Staging {
    /// Adds a run behind what is gathered for its destination; `send` gets the trains that it does not
    /// fit behind.
    pub(super) fn put(&mut self, run: Run<'_>, send: &mut impl FnMut(&StagedTrain)) {
        if let Some(index) = self.by_destination.get(&run.destination)
            && let Some(train) = self.trains.get_mut(*index)
        {
            if !train.takes(&run) {
                send(train);
                train.clear();
            }
            return train.append(&run);
        }
        if self.used == TRAINS_MAX {
            self.flush(send);
        }
        if self.used == self.trains.len() {
            self.trains.push(StagedTrain::of(run.destination));
        }
        if let Some(train) = self.trains.get_mut(self.used) {
            train.destination = run.destination;
            train.append(&run);
            self.by_destination.insert(run.destination, self.used);
            self.used += 1;
        }
    }

    /// Sends what is gathered for one destination: something follows by another way.
    pub(super) fn flush_to(
        &mut self,
        destination: SocketAddr,
        send: &mut impl FnMut(&StagedTrain),
    ) {
        if let Some(index) = self.by_destination.get(&destination)
            && let Some(train) = self.trains.get_mut(*index)
            && train.packets > 0
        {
            send(train);
            train.clear();
        }
    }

    /// Sends everything.
    pub(super) fn flush(&mut self, send: &mut impl FnMut(&StagedTrain)) {
        for train in self.trains.iter_mut().take(self.used) {
            if train.packets > 0 {
                send(train);
                train.clear();
            }
        }
        self.used = 0;
        self.by_destination.clear();
    }
}

impl StagedTrain {
    const fn of(destination: SocketAddr) -> Self {
        Self { destination, octets: Vec::new(), segment: 0, ecn: None, packets: 0 }
    }

    fn takes(&self, run: &Run<'_>) -> bool {
        // A single packet may be shorter: it is the last then. More of them are of one size.
        let fits = run.segment == self.segment
            || (run.octets.len() <= run.segment && run.octets.len() < self.segment);
        self.packets == 0
            || (self.ends_full()
                && fits
                && run.ecn == self.ecn
                && self.packets + run.packets() <= GSO_PACKETS_MAX
                && self.octets.len() + run.octets.len() <= GSO_BYTES_MAX)
    }

    /// Whether a packet may follow: only the last may be shorter.
    fn ends_full(&self) -> bool {
        self.octets.len().is_multiple_of(self.segment)
    }

    fn append(&mut self, run: &Run<'_>) {
        if self.packets == 0 {
            self.segment = run.segment;
            self.ecn = run.ecn;
        }
        self.octets.extend_from_slice(run.octets);
        self.packets += run.packets();
    }

    fn clear(&mut self) {
        self.octets.clear();
        self.packets = 0;
    }
}

impl Run<'_> {
    pub(super) fn packets(&self) -> usize {
        self.octets.len().div_ceil(self.segment.max(1))
    }
}

#[cfg(test)]
mod tests;

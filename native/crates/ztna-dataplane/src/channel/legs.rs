//! Which leg is where, and which sides of channels are its own.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use crate::id::{ConnectionHandle, WireId};

/// Addresses of legs, known or awaited, with the sides that need them.
#[derive(Debug, Default)]
pub(super) struct Legs {
    entries: HashMap<ConnectionHandle, Leg>,
}

#[derive(Debug, Default)]
struct Leg {
    address: Option<SocketAddr>,
    /// Relay ids of its sides, in order so that a walk over them is the same each time.
    sides: BTreeSet<WireId>,
}

impl Legs {
    pub(super) fn address(&self, leg: ConnectionHandle) -> Option<SocketAddr> {
        self.entries.get(&leg)?.address
    }

    pub(super) fn attach(&mut self, leg: ConnectionHandle, relay_id: WireId) {
        self.entries.entry(leg).or_default().sides.insert(relay_id);
    }

    pub(super) fn detach(&mut self, leg: ConnectionHandle, relay_id: WireId) {
        let Some(entry) = self.entries.get_mut(&leg) else { return };
        entry.sides.remove(&relay_id);
        if entry.sides.is_empty() && entry.address.is_none() {
            self.entries.remove(&leg);
        }
    }

    pub(super) fn detach_all(&mut self, leg: ConnectionHandle) -> Vec<WireId> {
        let Some(entry) = self.entries.get_mut(&leg) else { return Vec::new() };
        let sides = std::mem::take(&mut entry.sides).into_iter().collect();
        if entry.address.is_none() {
            self.entries.remove(&leg);
        }
        sides
    }

    /// Sets an address and returns the sides that must learn it.
    pub(super) fn set_address(
        &mut self,
        leg: ConnectionHandle,
        address: Option<SocketAddr>,
    ) -> Vec<WireId> {
        let entry = self.entries.entry(leg).or_default();
        entry.address = address;
        let sides: Vec<_> = entry.sides.iter().copied().collect();
        if sides.is_empty() && address.is_none() {
            self.entries.remove(&leg);
        }
        sides
    }
}

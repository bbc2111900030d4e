//! Every TCP flow that is held or terminated, found by handle or by its ends, and their timers.
//!
//! A flow has at most one timer entry. A deadline that moves away leaves it in place, so that traffic
//! moves no entries; the flow is looked at once too often then, and its entry set anew.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use slab::Slab;

use super::segment::{FlowKey, HeldSyn};
use super::terminal::Terminal;

/// Names a TCP flow; one that ended is never taken for its successor.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct TerminatedFlow {
    index: u32,
    generation: u32,
}

#[derive(Debug, Default)]
pub(super) struct FlowTable {
    flows: Slab<Flow>,
    by_key: HashMap<FlowKey, TerminatedFlow>,
    timers: BTreeSet<(Instant, TerminatedFlow)>,
    generation: u32,
}

#[derive(Debug)]
pub(super) struct Flow {
    generation: u32,
    pub(super) key: FlowKey,
    timer: Option<Instant>,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Nobody decided yet.
    Held(HeldSyn),
    /// Accepted.
    Live(Live),
}

/// A flow with a socket.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) terminal: Terminal,
    /// The largest segment that the application's side takes.
    pub(super) mss: u16,
    /// The handshake with the application is complete.
    pub(super) established: bool,
    /// The owner asked for a FIN before that.
    pub(super) finish_wanted: bool,
    /// The owner was told that nothing more comes.
    pub(super) finished_seen: bool,
    /// The owner gave it up: only the RST is due.
    pub(super) aborted: bool,
    /// Both sides said their last.
    pub(super) closed: bool,
    /// Segments of its ends still reach it.
    pub(super) bound: bool,
    pub(super) dirty: bool,
    pub(super) readable_queued: bool,
    pub(super) writable_queued: bool,
    /// The owner filled the send ring and waits for room.
    pub(super) full: bool,
    pub(super) active_at: Instant,
    /// Behind the highest octet that arrived, in order or not.
    pub(super) received_end: u32,
    /// The stack knows the window that it last offered. It takes the one of its SYN, which is not
    /// scaled, for a scaled one, and would accept more than its ring holds.
    pub(super) window_known: bool,
    /// What was last acknowledged to the application's side.
    pub(super) acknowledged: u32,
}

impl FlowTable {
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn insert(&mut self, key: FlowKey, stage: Stage) -> TerminatedFlow {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let index = self.flows.insert(Flow { generation, key, timer: None, stage });
        let index = u32::try_from(index).expect("the bound on flows is far below 2^32");
        let flow = TerminatedFlow { index, generation };
        self.by_key.insert(key, flow);
        flow
    }

    pub(super) fn find(&self, key: &FlowKey) -> Option<TerminatedFlow> {
        self.by_key.get(key).copied()
    }

    pub(super) fn get(&self, flow: TerminatedFlow) -> Option<&Flow> {
        self.flows.get(flow.index as usize).filter(|entry| entry.generation == flow.generation)
    }

    pub(super) fn get_mut(&mut self, flow: TerminatedFlow) -> Option<&mut Flow> {
        self.flows.get_mut(flow.index as usize).filter(|entry| entry.generation == flow.generation)
    }

    pub(super) fn live(&self, flow: TerminatedFlow) -> Option<&Live> {
        match &self.get(flow)?.stage {
            Stage::Live(live) => Some(live),
            Stage::Held(_) => None,
        }
    }

    pub(super) fn live_mut(&mut self, flow: TerminatedFlow) -> Option<&mut Live> {
        match &mut self.get_mut(flow)?.stage {
            Stage::Live(live) => Some(live),
            Stage::Held(_) => None,
        }
    }

    /// Lets the ends be used by another flow; the owner may still drain this one.
    pub(super) fn unbind(&mut self, flow: TerminatedFlow) {
        self.clear_timer(flow);
        let Some(key) = self.get(flow).map(|entry| entry.key) else { return };
        if self.by_key.get(&key) == Some(&flow) {
            self.by_key.remove(&key);
        }
    }

    pub(super) fn remove(&mut self, flow: TerminatedFlow) -> Option<Flow> {
        self.unbind(flow);
        self.get(flow)?;
        self.flows.try_remove(flow.index as usize)
    }

    /// Makes sure that the flow is due no later than at `deadline`.
    pub(super) fn set_timer(&mut self, flow: TerminatedFlow, deadline: Instant) {
        let Some(entry) = self.get_mut(flow) else { return };
        if entry.timer.is_some_and(|at| at <= deadline) {
            return;
        }
        if let Some(later) = entry.timer.replace(deadline) {
            self.timers.remove(&(later, flow));
        }
        self.timers.insert((deadline, flow));
    }

    pub(super) fn clear_timer(&mut self, flow: TerminatedFlow) {
        let at = self.get_mut(flow).and_then(|entry| entry.timer.take());
        if let Some(at) = at {
            self.timers.remove(&(at, flow));
        }
    }

    /// Returns a flow that is due, once.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<TerminatedFlow> {
        let &(at, flow) = self.timers.first()?;
        if at > now {
            return None;
        }
        self.clear_timer(flow);
        Some(flow)
    }

    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::termination::ip::parse;
    use crate::termination::segment::Segment;

    #[test]
    fn a_handle_outlives_its_flow_without_reaching_the_next_one_in_its_place() {
        let mut table = FlowTable::default();
        let first = insert(&mut table, 1);
        table.remove(first);

        let second = insert(&mut table, 2);

        assert_eq!(first.index, second.index);
        assert!(table.get(first).is_none());
        assert!(table.get(second).is_some());
        assert!(table.remove(first).is_none());
    }

    #[test]
    fn the_ends_of_an_unbound_flow_can_be_used_again() {
        let mut table = FlowTable::default();
        let first = insert(&mut table, 1);
        table.unbind(first);
        let second = insert(&mut table, 1);

        table.remove(first);

        let key = table.get(second).unwrap().key;
        assert_eq!(table.find(&key), Some(second));
    }

    #[test]
    fn a_flow_has_one_timer_that_only_moves_forward_when_it_fires() {
        let mut table = FlowTable::default();
        let flow = insert(&mut table, 1);
        let now = epoch();
        let seconds = |seconds| now + Duration::from_secs(seconds);

        table.set_timer(flow, seconds(5));
        table.set_timer(flow, seconds(9));
        table.set_timer(flow, seconds(3));

        assert_eq!(table.timers.len(), 1);
        assert_eq!(table.next_timer(), Some(seconds(3)));
        assert_eq!(table.pop_due(seconds(2)), None);
        assert_eq!(table.pop_due(seconds(3)), Some(flow));
        assert_eq!(table.next_timer(), None);
    }

    fn insert(table: &mut FlowTable, port: u8) -> TerminatedFlow {
        let mut packet = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
        packet.extend([0xFD; 32]);
        packet.extend([0, port, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
        let parsed = parse(&packet).unwrap();
        let segment = Segment::parse(&packet, &parsed).unwrap();
        let syn = HeldSyn::new(&packet, &parsed, &segment, None).unwrap();
        table.insert(segment.key, Stage::Held(syn))
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do: only differences matter")]
    fn epoch() -> Instant {
        Instant::now()
    }
}

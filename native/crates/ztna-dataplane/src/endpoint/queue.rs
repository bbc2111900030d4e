//! The two queues between the owner's thread and the data plane's.
//!
//! Commands wake the data plane through its poll. Events wake the owner once per transition from
//! empty to not empty; the owner disarms before it takes, so no wake-up is lost. When the owner is
//! slow, flow reports and path changes are dropped with a count; everything else waits.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mio::Waker;

use crate::command::Command;
use crate::demux::{IdIssuer, IdKind};
use crate::event::Event;
use crate::id::{ConnectionHandle, WireId};

/// Control frames wait inside QUIC while the owner is this many events behind.
pub(super) const BACKLOG_MAX: usize = 8_192;

/// What both threads hold.
pub(crate) struct Shared {
    commands: Mutex<Vec<Command>>,
    events: Mutex<EventQueue>,
    armed: AtomicBool,
    handles: AtomicU32,
    ids: IdIssuer,
    waker: Waker,
    wake_owner: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct EventQueue {
    events: Vec<Event>,
    dropped: u64,
}

impl Shared {
    pub(crate) fn new(waker: Waker, wake_owner: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self {
            commands: Mutex::default(),
            events: Mutex::default(),
            armed: AtomicBool::new(false),
            handles: AtomicU32::new(1),
            ids: IdIssuer::from_system(),
            waker,
            wake_owner,
        })
    }

    pub(crate) fn send(&self, command: Command) {
        lock(&self.commands).push(command);
        // A failed wake-up only delays the command to the next turn of the loop.
        let _ = self.waker.wake();
    }

    pub(crate) fn take_commands(&self) -> Vec<Command> {
        std::mem::take(&mut *lock(&self.commands))
    }

    pub(crate) fn issue_handle(&self) -> ConnectionHandle {
        ConnectionHandle(self.handles.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn issue_connection_id(&self) -> WireId {
        self.ids.issue(IdKind::Connection)
    }

    pub(crate) fn issue_channel_id(&self) -> WireId {
        self.ids.issue(IdKind::Channel)
    }

    /// Marks an id that came back from a stranger as used; returns whether it was free.
    pub(crate) fn claim_id(&self, id: WireId) -> bool {
        self.ids.claim(id)
    }

    pub(crate) fn release_id(&self, id: WireId) {
        self.ids.release(id);
    }

    /// Returns how many events wait for the owner.
    pub(crate) fn backlog(&self) -> usize {
        lock(&self.events).events.len()
    }

    /// Moves `batch` into the queue and wakes the owner if it sleeps.
    pub(crate) fn push(&self, batch: &mut Vec<Event>, events_max: usize) {
        if batch.is_empty() {
            return;
        }
        {
            let mut queue = lock(&self.events);
            // Judged once: of a batch all flow reports are told or none, beginnings and ends.
            let is_full = queue.events.len() >= events_max;
            for event in batch.drain(..) {
                if is_full && is_droppable(&event) {
                    queue.dropped += 1;
                } else {
                    queue.events.push(event);
                }
            }
        }
        if !self.armed.swap(true, Ordering::AcqRel) {
            (self.wake_owner)();
        }
    }

    /// Returns everything that happened since the last call.
    pub(crate) fn drain(&self) -> Vec<Event> {
        self.armed.store(false, Ordering::Release);
        let mut queue = lock(&self.events);
        let mut events = std::mem::take(&mut queue.events);
        let dropped = std::mem::take(&mut queue.dropped);
        drop(queue);
        if events.len() > BACKLOG_MAX / 2 {
            // Reading may have paused for this backlog; a wake-up for nothing costs one turn.
            let _ = self.waker.wake();
        }
        if dropped > 0 {
            events.push(Event::Overflow { dropped });
        }
        events
    }
}

const fn is_droppable(event: &Event) -> bool {
    matches!(event, Event::Flow(_) | Event::Path { .. } | Event::HandshakeRefused { .. })
}

/// A poisoned lock means that the other thread panicked, which is reported on its own.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

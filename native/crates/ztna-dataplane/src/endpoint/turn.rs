//! The loop: reads, obeys, moves and sends, over and over.

use std::time::{Duration, Instant};

use mio::Events;
use mio::Token;
use mio::event::Event as Readiness;

use crate::udp::RECV_BATCH_MAX;

use super::plane::{FLOW_BASE, LINK_BASE, LISTENER_BASE, PORT_BASE, PORTS_MAX, Plane, WAKE, clock};
use super::waiting::Waiting;

/// Trains received of a socket in a turn: bounds how long sending waits.
const TRAINS_A_TURN: usize = 4 * RECV_BATCH_MAX;
/// A relay sends what it received by itself: among more packets are more that go one way.
const TRAINS_A_TURN_RELAY: usize = 8 * RECV_BATCH_MAX;
/// A turn that took longer than this held up the clocks of silence (reference: own stalls).
const STALL: Duration = Duration::from_millis(10);

impl Plane {
    /// Runs until `Command::Shutdown` is carried out.
    pub(crate) fn run(mut self) {
        self.warn_of_small_buffers();
        let mut readiness = Events::with_capacity(1_024);
        let mut more = false;
        let mut waiting = Waiting::default();
        let mut last_turn = clock();
        loop {
            self.publish(clock());
            let timeout = if more { Some(Duration::ZERO) } else { self.until_next_timer(clock()) };
            if self.wait(&mut waiting, &mut readiness, timeout) {
                // Who woke this thread may have more to say: what comes together is done together.
                self.note_readiness(&readiness);
                std::thread::yield_now();
                self.wait(&mut waiting, &mut readiness, Some(Duration::ZERO));
            }

            let now = clock();
            if more && now.duration_since(last_turn) > STALL {
                self.note_stall(now.duration_since(last_turn));
            }
            last_turn = now;
            self.note_readiness(&readiness);
            more = self.turn(now);
            waiting.learn(std::mem::take(&mut self.heard));
            if self.stopping.is_some_and(|at| now >= at || self.connections.is_empty()) {
                break;
            }
        }
        self.hand_over(usize::MAX, clock());
    }

    /// Hands events to the owner. Flow reports are for charts: alone they wait for company, so that
    /// short connections do not cost a wake-up each.
    pub(super) fn publish(&mut self, now: Instant) {
        if self.reports.are_due(now) || !self.events.is_empty() {
            self.hand_over(self.config.limits.events_max, now);
        }
    }

    /// Reports go first: they may be of a tunnel that is told to have ended. Those for which the queue has
    /// no room are summed up further.
    fn hand_over(&mut self, events_max: usize, now: Instant) {
        let mut batch = Vec::new();
        if self.shared.backlog() < events_max || self.reports.are_full() {
            self.reports.drain_into(&mut batch);
        } else {
            self.reports.postpone(now);
        }
        batch.append(&mut self.events);
        self.shared.push(&mut batch, events_max);
    }

    /// Reads, obeys, moves and sends once; returns whether something is left to read.
    fn turn(&mut self, now: Instant) -> bool {
        let mut more = false;
        let trains = if self.is_relay() { TRAINS_A_TURN_RELAY } else { TRAINS_A_TURN };
        for port in 0..self.ports.len() {
            more |= self.receive_port(port, trains, now);
        }
        more |= self.read_links(now);
        more |= self.serve_listeners(now);
        for command in self.shared.take_commands() {
            self.apply(command, now);
        }
        self.serve_timers(now);
        self.drive_dirty(now);
        more |= self.pump_flows(now);
        self.transmit_dirty(now);
        self.flush_links(now);
        more || !self.dirty.is_empty()
    }

    /// Waits for readiness; returns whether the thread slept and was woken by some.
    fn wait(
        &mut self,
        waiting: &mut Waiting,
        readiness: &mut Events,
        timeout: Option<Duration>,
    ) -> bool {
        match waiting.wait(&mut self.poll, readiness, timeout) {
            Ok(slept) => slept && !readiness.is_empty(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => false,
            Err(error) => {
                self.warn("poll failed", error.to_string());
                false
            }
        }
    }

    fn note_readiness(&mut self, readiness: &Events) {
        for event in readiness {
            self.note_ready(event);
        }
    }

    fn note_ready(&mut self, event: &Readiness) {
        match event.token() {
            WAKE => {}
            Token(token) if token < PORT_BASE + PORTS_MAX => {
                let index = token - PORT_BASE;
                if let Some(port) = self.ports.get_mut(index) {
                    port.readable |= event.is_readable();
                }
                if event.is_writable() {
                    self.resume_port(index);
                }
            }
            Token(token) if token < LISTENER_BASE => {
                self.heard.awaited = true;
                self.note_link_readiness(token - LINK_BASE, event);
            }
            Token(token) if token < FLOW_BASE => {
                self.ready_listeners.insert(token - LISTENER_BASE);
            }
            Token(token) => {
                self.heard.awaited = true;
                self.flows.note_ready(token - FLOW_BASE, event);
            }
        }
    }

    /// Continues after a socket buffer was full.
    fn resume_port(&mut self, index: usize) {
        let Some(port) = self.ports.get_mut(index) else { return };
        let was_blocked = port.is_blocked();
        if port.resume() && was_blocked {
            for key in std::mem::take(&mut self.awaiting_room) {
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.awaits_room = false;
                }
                self.mark_dirty(key);
            }
        }
    }

    fn serve_listeners(&mut self, now: Instant) -> bool {
        let ready: Vec<usize> = self.ready_listeners.iter().copied().collect();
        for index in ready {
            if !self.serve_listener(index, now) {
                self.ready_listeners.remove(&index);
            }
        }
        !self.ready_listeners.is_empty()
    }

    fn note_stall(&mut self, stall: Duration) {
        for (_, connection) in &mut self.connections {
            if let Some(tunnel) = connection.tunnel_mut() {
                tunnel.paths.handle_stall(stall);
            }
        }
    }
}

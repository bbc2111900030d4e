//! How the thread waits: it looks again for a moment before it sleeps.
//!
//! To be woken costs more than most of what one is woken for: on a virtual machine tens of
//! microseconds, for whoever wakes and whoever is woken. So the thread polls for a while before it sleeps,
//! as the `haltpoll` governor of the kernel does for a processor: the while grows when what was waited
//! for came soon after it, and shrinks to nothing when it does not, or when it was a stranger's. A quiet
//! process never polls; one that is asked again and again answers at once. Only the time that nobody else
//! wanted counts: on a busy machine a thread that is not at its turn would take that for waiting in vain.

use std::io;
use std::time::Duration;

use mio::{Events, Poll};

use super::plane::clock;

/// What comes later than this, while nobody else wants the processor, is slept for. Longer than a round
/// trip between processes of one machine, so that a question and its answer meet a thread that is awake.
const WINDOW_MAX: Duration = Duration::from_micros(300);
/// The first window after a long sleep.
const WINDOW_FIRST: Duration = Duration::from_micros(20);

/// Longer than to yield and look takes when nobody else wants the processor. What is above it others used.
const LOOK_MAX: Duration = Duration::from_micros(2);

/// Beside a process that computes and computes, to yield is to wait for the end of its slice: then it is
/// better to sleep, for who is woken has his turn sooner.
const POLLED_MAX: Duration = Duration::from_millis(2);

/// So many packets in one turn are a stream: more of them gather while the thread sleeps, and are cheaper
/// together.
const STREAM_PACKETS: u64 = 64;

/// What a turn found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// Something worth being awake for: of a connection, a channel, an application or a backend.
    pub(super) awaited: bool,
    /// Packets from the network, a stranger's included.
    pub(super) packets: u64,
}

/// The window in which polling paid lately.
#[derive(Default)]
pub(super) struct Waiting {
    window: Duration,
    /// The last turn found a stream of packets.
    is_stream: bool,
    /// How long the last wait was, until it is learned from; a timer that ended it tells nothing.
    waited: Option<Duration>,
}

impl Waiting {
    /// Waits for something in `events`, at most for `timeout`; returns whether it slept.
    pub(super) fn wait(
        &mut self,
        poll: &mut Poll,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<bool> {
        if timeout == Some(Duration::ZERO) {
            poll.poll(events, timeout)?;
            return Ok(false);
        }
        let start = clock();
        let mut now = start;
        let until = timeout.map(|timeout| now + timeout);
        let window = self.window();
        let mut polled = Duration::ZERO;
        poll.poll(events, Some(Duration::ZERO))?;
        while events.is_empty() && polled < window && until.is_none_or(|until| now < until) {
            // Others first: what they do now may be what is waited for, and costs nothing here.
            std::thread::yield_now();
            poll.poll(events, Some(Duration::ZERO))?;
            let before = std::mem::replace(&mut now, clock());
            polled += now.duration_since(before).min(LOOK_MAX);
            if now.duration_since(start) > POLLED_MAX {
                polled = POLLED_MAX;
            }
        }
        if !events.is_empty() {
            self.waited = Some(polled);
            return Ok(false);
        }
        poll.poll(events, until.map(|until| until.saturating_duration_since(now)))?;
        let waited = polled + clock().duration_since(now);
        self.waited = (!events.is_empty() || waited > WINDOW_MAX).then_some(waited);
        Ok(true)
    }

    const fn window(&self) -> Duration {
        if self.is_stream { Duration::ZERO } else { self.window }
    }

    /// Learns from the last wait, now that it is known what it brought. A socket that merely has room
    /// again says nothing.
    pub(super) fn learn(&mut self, heard: Heard) {
        self.is_stream = heard.packets >= STREAM_PACKETS;
        let Some(waited) = self.waited.take() else { return };
        let strangers_only = heard.packets > 0 && !heard.awaited;
        if strangers_only || waited > WINDOW_MAX {
            self.window /= 2;
            if self.window < WINDOW_FIRST {
                self.window = Duration::ZERO;
            }
        } else if heard.awaited && waited > self.window {
            self.window = (self.window * 2).clamp(WINDOW_FIRST, WINDOW_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(250);
    const LATE: Duration = Duration::from_millis(2);

    fn window_after(waits: &[(Duration, bool)]) -> Duration {
        let mut waiting = Waiting::default();
        for (waited, awaited) in waits {
            waiting.waited = Some(*waited);
            waiting.learn(Heard { awaited: *awaited, packets: 1 });
        }
        waiting.window
    }

    #[test]
    fn a_quiet_process_never_polls() {
        assert_eq!(window_after(&[]), Duration::ZERO);
        assert_eq!(window_after(&[(LATE, true); 100]), Duration::ZERO);
    }

    #[test]
    fn the_window_grows_while_things_come_soon_and_no_further_than_that_helps() {
        assert_eq!(window_after(&[(SOON, true)]), WINDOW_FIRST);
        assert_eq!(window_after(&[(SOON, true); 2]), 2 * WINDOW_FIRST);
        assert_eq!(window_after(&[(SOON, true); 20]), WINDOW_MAX);
    }

    #[test]
    fn polling_ends_after_a_few_waits_in_vain() {
        let mut waits = vec![(SOON, true); 20];
        waits.extend([(LATE, true); 4]);
        assert_eq!(window_after(&waits), Duration::ZERO);
    }

    #[test]
    fn what_came_within_the_window_leaves_it_as_it_is() {
        let waits = [(SOON, true), (SOON, true), (WINDOW_FIRST, true)];
        assert_eq!(window_after(&waits), 2 * WINDOW_FIRST);
    }

    #[test]
    fn a_socket_that_has_room_again_says_nothing() {
        let mut waiting = Waiting { window: WINDOW_MAX, waited: Some(SOON), is_stream: false };
        waiting.learn(Heard::default());
        assert_eq!(waiting.window, WINDOW_MAX);
    }

    #[test]
    fn a_stream_of_packets_is_slept_for_and_a_request_after_it_is_not() {
        let mut waiting = Waiting { window: WINDOW_MAX, waited: None, is_stream: false };
        waiting.learn(Heard { awaited: true, packets: STREAM_PACKETS });
        assert_eq!(waiting.window(), Duration::ZERO);

        waiting.learn(Heard { awaited: true, packets: 1 });
        assert_eq!(waiting.window(), WINDOW_MAX);
    }

    #[test]
    fn what_strangers_send_keeps_nobody_awake() {
        let mut waits = vec![(SOON, true); 20];
        waits.extend([(WINDOW_FIRST, false); 4]);
        assert_eq!(window_after(&waits), Duration::ZERO);
    }
}

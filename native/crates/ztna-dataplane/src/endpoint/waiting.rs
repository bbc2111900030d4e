//! How the thread waits: it looks again for a moment before it sleeps.
//!
//! To be woken costs more than most of what one is woken for: on a virtual machine tens of
//! microseconds, for whoever wakes and whoever is woken. So the thread polls for a while before it sleeps,
//! as the `haltpoll` governor of the kernel does for a processor: the while grows when what was waited
//! for came soon after it, and shrinks to nothing when it does not. A quiet process never polls; one that
//! is asked again and again answers at once.

use std::io;
use std::time::Duration;

use mio::{Events, Poll};

use super::plane::clock;

/// What comes later than this is slept for. Longer than a round trip between processes of one machine,
/// so that a question and its answer meet a thread that is awake.
const WINDOW_MAX: Duration = Duration::from_micros(300);
/// The first window after a long sleep.
const WINDOW_FIRST: Duration = Duration::from_micros(20);

/// The window in which polling paid lately.
#[derive(Default)]
pub(super) struct Waiting {
    window: Duration,
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
        let until = timeout.map(|timeout| start + timeout);
        let mut now = start;
        while now < start + self.window && until.is_none_or(|until| now < until) {
            // Others first: what they do now may be what is waited for.
            std::thread::yield_now();
            poll.poll(events, Some(Duration::ZERO))?;
            if !events.is_empty() {
                return Ok(false);
            }
            now = clock();
        }
        poll.poll(events, until.map(|until| until.saturating_duration_since(now)))?;
        self.adapt(clock().duration_since(start), !events.is_empty());
        Ok(true)
    }

    /// Learns from a sleep: `waited` is its time and that of the window before it. A timer that ended
    /// it says nothing about others.
    fn adapt(&mut self, waited: Duration, something_came: bool) {
        if waited > WINDOW_MAX {
            self.window /= 2;
            if self.window < WINDOW_FIRST {
                self.window = Duration::ZERO;
            }
        } else if something_came {
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
        for (waited, something_came) in waits {
            waiting.adapt(*waited, *something_came);
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
    fn a_timer_says_nothing_of_what_others_will_do() {
        assert_eq!(window_after(&[(SOON, false); 20]), Duration::ZERO);
    }
}

//! What became of flows, summed up until it is handed over.
//!
//! A short connection is two reports at each end. One by one they would cost the owner more time than all
//! packets of the connection cost the data plane, and say no more than their sum.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::event::{Event, FlowChange, FlowKind, FlowReport};
use crate::id::ConnectionHandle;

/// Reports wait this long, or until there are so many different ones.
const REPORT_DELAY: Duration = Duration::from_millis(50);
const REPORTS_MAX: usize = 4_096;

/// What is summed up. What became of the flows comes first: no sum tells of an end before its beginning.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Subject {
    pub(super) change: FlowChange,
    pub(super) tunnel: ConnectionHandle,
    pub(super) service: Rc<str>,
    pub(super) kind: FlowKind,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    count: u64,
    bytes_up: u64,
    bytes_down: u64,
}

/// The reports that wait.
#[derive(Default)]
pub(super) struct FlowReports {
    sums: BTreeMap<Subject, Sum>,
    /// When the first of them was seen to wait.
    since: Option<Instant>,
}

impl FlowReports {
    pub(super) fn add(&mut self, subject: Subject, bytes_up: u64, bytes_down: u64) {
        let sum = self.sums.entry(subject).or_default();
        sum.count += 1;
        sum.bytes_up += bytes_up;
        sum.bytes_down += bytes_down;
    }

    /// Returns whether they waited long enough; the wait begins with the first call that finds some.
    pub(super) fn are_due(&mut self, now: Instant) -> bool {
        if self.sums.is_empty() {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        self.are_full() || now >= since + REPORT_DELAY
    }

    /// Returns whether they cannot wait any longer.
    pub(super) fn are_full(&self) -> bool {
        self.sums.len() >= REPORTS_MAX
    }

    /// Has them wait once more.
    pub(super) fn postpone(&mut self, now: Instant) {
        self.since = (!self.sums.is_empty()).then_some(now);
    }

    /// Returns when they will have waited long enough.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.since.map(|since| since + REPORT_DELAY)
    }

    /// Moves them into `events`, those of flows that were opened first.
    pub(super) fn drain_into(&mut self, events: &mut Vec<Event>) {
        self.since = None;
        let reports = std::mem::take(&mut self.sums).into_iter().map(|(subject, sum)| {
            Event::Flow(FlowReport {
                tunnel: subject.tunnel,
                service: subject.service.to_string(),
                kind: subject.kind,
                change: subject.change,
                count: sum.count,
                bytes_up: sum.bytes_up,
                bytes_down: sum.bytes_down,
            })
        });
        events.extend(reports);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::plane::clock;

    fn subject(change: FlowChange, service: &str) -> Subject {
        Subject {
            change,
            tunnel: ConnectionHandle(7),
            service: service.into(),
            kind: FlowKind::Tcp,
        }
    }

    fn drained(reports: &mut FlowReports) -> Vec<(FlowChange, String, u64, u64, u64)> {
        let mut events = Vec::new();
        reports.drain_into(&mut events);
        let told = events.into_iter().map(|event| {
            let Event::Flow(it) = event else { panic!("{event:?} is no report") };
            (it.change, it.service, it.count, it.bytes_up, it.bytes_down)
        });
        told.collect()
    }

    #[test]
    fn alike_reports_are_summed_up_and_beginnings_come_before_ends() {
        let mut reports = FlowReports::default();
        for bytes in 1..=3 {
            reports.add(subject(FlowChange::Closed(None), "echo"), bytes, 10 * bytes);
            reports.add(subject(FlowChange::Opened, "echo"), 0, 0);
        }
        reports.add(subject(FlowChange::Closed(Some(0)), "echo"), 5, 0);
        reports.add(subject(FlowChange::Opened, "game"), 0, 0);

        assert_eq!(
            drained(&mut reports),
            [
                (FlowChange::Opened, "echo".to_owned(), 3, 0, 0),
                (FlowChange::Opened, "game".to_owned(), 1, 0, 0),
                (FlowChange::Closed(None), "echo".to_owned(), 3, 6, 60),
                (FlowChange::Closed(Some(0)), "echo".to_owned(), 1, 5, 0),
            ]
        );
        assert!(drained(&mut reports).is_empty());
    }

    #[test]
    fn reports_wait_50_ms_and_none_wait_for_nothing() {
        let mut reports = FlowReports::default();
        let start = clock();
        assert!(!reports.are_due(start));
        assert_eq!(reports.poll_timeout(), None);

        reports.add(subject(FlowChange::Opened, "echo"), 0, 0);

        assert!(!reports.are_due(start));
        assert_eq!(reports.poll_timeout(), Some(start + REPORT_DELAY));
        assert!(!reports.are_due(start + REPORT_DELAY - Duration::from_nanos(1)));
        assert!(reports.are_due(start + REPORT_DELAY));
        drained(&mut reports);
        assert!(!reports.are_due(start + REPORT_DELAY));
        assert_eq!(reports.poll_timeout(), None);
    }

    #[test]
    fn too_many_different_ones_do_not_wait() {
        let mut reports = FlowReports::default();
        let now = clock();
        for index in 1..REPORTS_MAX {
            reports.add(subject(FlowChange::Opened, &format!("s{index}")), 0, 0);
        }
        assert!(!reports.are_due(now));

        reports.add(subject(FlowChange::Opened, "one-more"), 0, 0);

        assert!(reports.are_due(now));
    }
}

//! `ztna ping`: a series of echo requests through a service's tunnel.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::event::{Event, FlowKind, PathName};
use crate::flow::answer::FlowAnswer;

use super::flows::{DatagramKey, Local};
use super::plane::Plane;

/// A request without an answer for this long is lost.
const REPLY_WAIT: Duration = Duration::from_secs(2);
/// Series under way at once.
const SERIES_MAX: usize = 64;
/// Requests of one series.
const COUNT_MAX: u16 = 10_000;
/// Octets of a request: its number, then a pattern.
const SIZE_MIN: u16 = 2;
const SIZE_MAX: u16 = 9_216;

/// One `Command::Ping` under way.
pub(super) struct PingSeries {
    request: u32,
    service: Rc<str>,
    count: u16,
    interval: Duration,
    size: u16,
    next: u16,
    pub(super) next_at: Instant,
    /// Sent and not answered: number, time, path.
    pending: Vec<(u16, Instant, Option<PathName>)>,
}

impl Plane {
    pub(super) fn start_ping(
        &mut self,
        request: u32,
        service: &str,
        count: u16,
        interval: Duration,
        size: u16,
        now: Instant,
    ) {
        if self.agent.pings.len() >= SERIES_MAX {
            return self.tell_ping_refused(request, 0, FlowAnswer::LimitExceeded);
        }
        if !self.agent.services.contains_key(service) {
            return self.tell_ping_refused(request, 0, FlowAnswer::NotAvailable);
        }
        self.agent.pings.insert(PingSeries {
            request,
            service: Rc::from(service),
            count: count.min(COUNT_MAX),
            interval,
            size: size.clamp(SIZE_MIN, SIZE_MAX),
            next: 0,
            next_at: now,
            pending: Vec::new(),
        });
        self.serve_pings(now);
    }

    /// Sends what is due and gives up what is overdue.
    pub(super) fn serve_pings(&mut self, now: Instant) {
        let due: Vec<usize> = self
            .agent
            .pings
            .iter()
            .filter(|(_, series)| series.timeout() <= now)
            .map(|(index, _)| index)
            .collect();
        for index in due {
            self.serve_ping(index, now);
        }
    }

    pub(super) fn ping_timeout(&self) -> Option<Instant> {
        self.agent.pings.iter().map(|(_, series)| series.timeout()).min()
    }

    fn serve_ping(&mut self, index: usize, now: Instant) {
        let Some(series) = self.agent.pings.get_mut(index) else { return };
        let request = series.request;
        let events = &mut self.events;
        series.pending.retain(|(sequence, sent, path)| {
            let is_lost = *sent + REPLY_WAIT <= now;
            if is_lost {
                let (sequence, path) = (*sequence, path.clone());
                events.push(Event::PingReply {
                    request,
                    sequence,
                    rtt_us: None,
                    path,
                    refused: None,
                });
            }
            !is_lost
        });
        if series.next >= series.count {
            if series.pending.is_empty() {
                self.agent.pings.remove(index);
                // Its flow may have ended before, and its place may be another's.
                let key = DatagramKey::Ping { series: index };
                if let Some(flow) = self.agent.by_key.get(&key).copied() {
                    self.finish_datagram_flow(flow);
                }
            }
            return;
        }
        if series.next_at > now {
            return;
        }
        let (sequence, size, service) = (series.next, series.size, Rc::clone(&series.service));
        series.next += 1;
        series.next_at = now + series.interval;

        let key = DatagramKey::Ping { series: index };
        let local = Local::Ping { series: index };
        let flow = self.datagram_flow(key, FlowKind::Echo, &service, 0, local, now);
        let path = flow.and_then(|flow| self.path_of_flow(flow));
        let Some(series) = self.agent.pings.get_mut(index) else { return };
        series.pending.push((sequence, now, path));
        if let Some(flow) = flow {
            let mut octets = sequence.to_be_bytes().to_vec();
            octets.resize(usize::from(size), 0xa5);
            self.send_or_hold(flow, &octets, now);
        }
    }

    fn path_of_flow(&self, flow: usize) -> Option<PathName> {
        let tunnel = self.flows.slab.get(flow)?.tunnel?;
        let tunnel = self.connections.get(tunnel)?.tunnel()?;
        tunnel.path_name(tunnel.paths.selected()?)
    }

    pub(super) fn note_ping_reply(&mut self, index: usize, octets: &[u8], now: Instant) {
        let Some(sequence) = octets.first_chunk().map(|it| u16::from_be_bytes(*it)) else { return };
        let Some(series) = self.agent.pings.get_mut(index) else { return };
        let position = series.pending.iter().position(|(number, ..)| *number == sequence);
        let Some(position) = position else { return };
        let (_, sent, path) = series.pending.swap_remove(position);
        let rtt = now.saturating_duration_since(sent);
        let rtt_us = Some(u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
        let request = series.request;
        self.events.push(Event::PingReply { request, sequence, rtt_us, path, refused: None });
        if series.next >= series.count && series.pending.is_empty() {
            series.next_at = now;
        }
    }

    /// The connector, or the policy, refused the series' flow: it ends here.
    pub(super) fn note_ping_refused(&mut self, index: usize, answer: FlowAnswer) {
        let Some(series) = self.agent.pings.try_remove(index) else { return };
        let sequence = series.pending.first().map_or(0, |(sequence, ..)| *sequence);
        self.tell_ping_refused(series.request, sequence, answer);
    }

    fn tell_ping_refused(&mut self, request: u32, sequence: u16, answer: FlowAnswer) {
        let refused = Some(answer.octet());
        self.events.push(Event::PingReply { request, sequence, rtt_us: None, path: None, refused });
    }
}

impl PingSeries {
    /// Returns when there is something to do.
    fn timeout(&self) -> Instant {
        let overdue = self.pending.first().map(|(_, sent, _)| *sent + REPLY_WAIT);
        if self.next < self.count {
            return overdue.map_or(self.next_at, |at| at.min(self.next_at));
        }
        overdue.unwrap_or(self.next_at)
    }
}

//! Figures of the moment, for metrics and `ztna status`.

use crate::config::Role;
use crate::connection::{Connection, Kind};
use crate::event::{ConnectionSnapshot, Event, PathName, PathSnapshot, Snapshot};

use super::packets::Link;
use super::plane::{Counters, Plane};

/// Connections that a snapshot lists; a relay has more, and nobody reads them one by one.
const LISTED_MAX: usize = 1_024;

impl Plane {
    pub(super) fn tell_snapshot(&mut self, request: u32) {
        let connections =
            self.connections.iter().take(LISTED_MAX).map(|(_, it)| describe(it)).collect();
        let snapshot = Snapshot {
            counters: self.all_counters(),
            connections,
            services: self.flows.services(self.config.role == Role::Connector),
            channels: self.channels.len() as u64,
            connections_total: self.connections.len() as u64,
            flows: self.flows.slab.len() as u64,
        };
        self.events.push(Event::Snapshot { request, snapshot: Box::new(snapshot) });
    }

    fn all_counters(&self) -> Vec<(&'static str, u64)> {
        let mut all = own_counters(&self.counters);
        for port in &self.ports {
            let udp = &port.counters;
            for (name, value) in [
                ("udp_packets_sent", udp.sent_packets),
                ("udp_packets_received", udp.received_packets),
                ("udp_send_blocked", udp.send_blocked),
                ("udp_send_refused", udp.send_refused),
                ("udp_send_no_buffers", udp.send_no_buffers),
                ("udp_send_failed", udp.send_failed),
            ] {
                add(&mut all, name, value);
            }
        }
        let forwarded = self.channels.counters();
        add(&mut all, "channel_packets_forwarded", forwarded.packets);
        add(&mut all, "channel_bytes_forwarded", forwarded.bytes);
        for (reason, count) in forwarded.drops() {
            add(&mut all, reason.counter(), count);
        }
        for (reason, count) in self.flows.reassembly_drops() {
            add(&mut all, reason.counter(), count);
        }
        for (_, connection) in &self.connections {
            let Some(tunnel) = connection.tunnel() else { continue };
            for (reason, count) in tunnel.reassembler.drops() {
                add(&mut all, reason.counter(), count);
            }
        }
        for link in &self.agent.links {
            add_link(&mut all, link);
        }
        all
    }
}

/// Adds to a counter that several sockets share.
pub(super) fn add(all: &mut Vec<(&'static str, u64)>, name: &'static str, value: u64) {
    match all.iter_mut().find(|(known, _)| *known == name) {
        Some((_, total)) => *total += value,
        None => all.push((name, value)),
    }
}

fn add_link(all: &mut Vec<(&'static str, u64)>, link: &Link) {
    let counters = link.termination.counters();
    for (name, value) in [
        ("link_packets_in", counters.packets_in),
        ("link_bytes_in", counters.bytes_in),
        ("link_packets_out", counters.packets_out),
        ("link_bytes_out", counters.bytes_out),
        ("link_write_failures", link.write_failures),
        ("link_drops_malformed", counters.malformed),
        ("link_drops_martian", counters.martian),
        ("link_drops_bad_checksum", counters.bad_checksum),
        ("link_drops_unsupported", counters.unsupported),
        ("link_drops_fragments", counters.fragments_dropped),
        ("link_drops_replies", counters.replies_dropped),
        ("link_syns", counters.syns),
        ("link_syns_dropped", counters.syns_dropped),
        ("link_syns_timed_out", counters.syns_timed_out),
        ("link_flows_opened", counters.flows_opened),
        ("link_flows_refused", counters.flows_refused),
        ("link_flows_ended", counters.flows_ended),
        ("link_stray_segments", counters.stray_segments),
    ] {
        add(all, name, value);
    }
}

fn own_counters(it: &Counters) -> Vec<(&'static str, u64)> {
    vec![
        ("dropped_invalid", it.dropped_invalid),
        ("dropped_unknown_id", it.dropped_unknown_id),
        ("dropped_wrong_source", it.dropped_wrong_source),
        ("dropped_unproven_source", it.dropped_unproven_source),
        ("dropped_check", it.dropped_check),
        ("dropped_foreign_packet", it.dropped_foreign_packet),
        ("retries_sent", it.retries_sent),
        ("retry_tokens_validated", it.retry_tokens_validated),
        ("retry_tokens_refused", it.retry_tokens_refused),
        ("retries_limited", it.retries_limited),
        ("resets_sent", it.resets_sent),
        ("resets_limited", it.resets_limited),
        ("handshakes_limited", it.handshakes_limited),
        ("handshakes_refused", it.handshakes_refused),
        ("handshakes_done", it.handshakes_done),
        ("connections_closed", it.connections_closed),
        ("datagrams_dropped_queue", it.datagrams_dropped_queue),
        ("datagrams_dropped_unknown_flow", it.datagrams_dropped_unknown_flow),
        ("datagrams_dropped_early", it.datagrams_dropped_early),
        ("datagrams_dropped_malformed", it.datagrams_dropped_malformed),
        ("flows_refused_limit", it.flows_refused_limit),
        ("flows_refused_unknown", it.flows_refused_unknown),
        ("flows_reset_pressure", it.flows_reset_pressure),
        ("headers_invalid", it.headers_invalid),
        ("packets_via_direct", it.packets_via_direct),
        ("packets_via_relay", it.packets_via_relay),
    ]
}

fn describe(connection: &Connection) -> ConnectionSnapshot {
    let stats = connection.quic.stats();
    let rtt = connection.quic.path_stats().next().map(|stats| stats.rtt).unwrap_or_default();
    let (remote, flows, paths) = match &connection.kind {
        Kind::Leg(leg) => (Some(leg.remote), 0, Vec::new()),
        Kind::Tunnel(tunnel) => (None, tunnel.flows.len(), paths_of(tunnel)),
    };
    ConnectionSnapshot {
        connection: connection.handle,
        kind: connection.event_kind(),
        remote,
        rtt_us: u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX),
        sent_bytes: stats.sent_bytes,
        received_bytes: stats.recv_bytes,
        lost_packets: stats.lost as u64,
        flows: u32::try_from(flows).unwrap_or(u32::MAX),
        paths,
    }
}

fn paths_of(tunnel: &crate::connection::Tunnel) -> Vec<PathSnapshot> {
    tunnel.paths.snapshot()
}

impl crate::connection::Tunnel {
    /// Returns how people see a path.
    pub(super) fn path_name(&self, path: crate::path::PathId) -> Option<PathName> {
        let route = self.route(path)?;
        Some(match route.channel {
            Some(_) => PathName::Relayed(route.remote),
            None => PathName::Direct(route.remote),
        })
    }
}

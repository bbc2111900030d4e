//! `Event` as JavaScript reads it; `src/transport/endpoint.ts` has the same shapes.

use std::collections::HashMap;

use napi::bindgen_prelude::Buffer;
use napi_derive::napi;
use ztna_dataplane::event as native;

use crate::convert::number;

#[napi(object)]
pub struct BindingLeaf {
    pub spki_sha256: String,
    pub issuer: String,
    pub serial: String,
    pub uris: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<String>,
    pub client_auth: bool,
    pub server_auth: bool,
    pub not_after: f64,
}

#[napi(object)]
pub struct BindingPathName {
    /// `relayed` or `direct`.
    pub kind: String,
    pub address: String,
}

#[napi(object)]
pub struct BindingPathSnapshot {
    pub path: BindingPathName,
    pub selected: bool,
    pub state: String,
    pub rtt_us: u32,
    pub jitter_us: u32,
    pub mtu: u32,
    pub sent_bytes: f64,
    pub received_bytes: f64,
}

#[napi(object)]
pub struct BindingConnectionSnapshot {
    pub connection: u32,
    pub kind: String,
    pub remote: Option<String>,
    pub rtt_us: u32,
    pub sent_bytes: f64,
    pub received_bytes: f64,
    pub lost_packets: f64,
    pub flows: u32,
    pub paths: Vec<BindingPathSnapshot>,
}

#[napi(object)]
pub struct BindingServiceSnapshot {
    pub service: String,
    pub bytes_up: f64,
    pub bytes_down: f64,
    pub flows_opened: f64,
    pub flows_refused: f64,
    pub flows: u32,
}

#[napi(object)]
pub struct BindingSnapshot {
    pub counters: HashMap<String, f64>,
    pub connections: Vec<BindingConnectionSnapshot>,
    pub services: Vec<BindingServiceSnapshot>,
    pub channels: f64,
    pub connections_total: f64,
    pub flows: f64,
}

#[napi(discriminant = "type", discriminant_case = "kebab-case")]
pub enum BindingEvent {
    Handshake {
        connection: u32,
        kind: String,
        accepted: bool,
        remote: Option<String>,
        pair: Option<u32>,
        leaf: BindingLeaf,
        chain: Vec<Buffer>,
    },
    Control {
        connection: u32,
        frame: Buffer,
        rtt_us: Option<u32>,
    },
    Closed {
        connection: u32,
        kind: String,
        by: String,
        code: f64,
        application: bool,
        reason: String,
    },
    HandshakeRefused {
        remote: Option<String>,
        reason: String,
        detail: String,
    },
    LegSilent {
        connection: u32,
    },
    Path {
        tunnel: u32,
        path: BindingPathName,
        change: String,
        reason: Option<String>,
        mtu: Option<u32>,
        rtt_us: u32,
    },
    Flow {
        tunnel: u32,
        service: String,
        kind: String,
        change: String,
        code: Option<f64>,
        count: f64,
        bytes_up: f64,
        bytes_down: f64,
    },
    Wanted {
        service: String,
    },
    TunnelSilent {
        tunnel: u32,
        silent: bool,
    },
    PingReply {
        request: u32,
        sequence: u32,
        rtt_us: Option<u32>,
        path: Option<BindingPathName>,
        refused: Option<u32>,
    },
    Snapshot {
        request: u32,
        snapshot: BindingSnapshot,
    },
    CommandFailed {
        code: String,
        message: String,
    },
    TunOpened {
        name: String,
    },
    Warning {
        what: String,
        detail: String,
    },
    Overflow {
        dropped: f64,
    },
    Stopped {
        fatal: Option<String>,
    },
}

impl From<native::Event> for BindingEvent {
    fn from(event: native::Event) -> Self {
        use native::Event;
        match event {
            Event::Handshake { connection, kind, accepted, remote, pair, leaf, chain } => {
                Self::Handshake {
                    connection: connection.0,
                    kind: kind_text(kind),
                    accepted,
                    remote: remote.map(|it| it.to_string()),
                    pair: pair.map(|it| it.0),
                    leaf: leaf.into(),
                    chain: chain.into_iter().map(Buffer::from).collect(),
                }
            }
            Event::Control { connection, frame, rtt } => Self::Control {
                connection: connection.0,
                frame: frame.into(),
                rtt_us: rtt.map(|it| u32::try_from(it.as_micros()).unwrap_or(u32::MAX)),
            },
            Event::Closed { connection, kind, by, code, application, reason } => Self::Closed {
                connection: connection.0,
                kind: kind_text(kind),
                by: by_text(by),
                code: number(code),
                application,
                reason,
            },
            Event::HandshakeRefused { remote, reason, detail } => Self::HandshakeRefused {
                remote: remote.map(|it| it.to_string()),
                reason: reason.to_owned(),
                detail,
            },
            Event::LegSilent { connection } => Self::LegSilent { connection: connection.0 },
            Event::Path { tunnel, path, change, rtt_us } => {
                let (change, reason, mtu) = change_parts(&change);
                Self::Path { tunnel: tunnel.0, path: path.into(), change, reason, mtu, rtt_us }
            }
            Event::Flow(report) => flow_event(report),
            Event::Wanted { service } => Self::Wanted { service },
            Event::TunnelSilent { tunnel, silent } => {
                Self::TunnelSilent { tunnel: tunnel.0, silent }
            }
            Event::PingReply { request, sequence, rtt_us, path, refused } => Self::PingReply {
                request,
                sequence: sequence.into(),
                rtt_us,
                path: path.map(Into::into),
                refused: refused.map(Into::into),
            },
            Event::Snapshot { request, snapshot } => {
                Self::Snapshot { request, snapshot: (*snapshot).into() }
            }
            Event::CommandFailed { code, message } => {
                Self::CommandFailed { code: code.to_owned(), message }
            }
            Event::TunOpened { name } => Self::TunOpened { name },
            Event::Warning { what, detail } => Self::Warning { what: what.to_owned(), detail },
            Event::Overflow { dropped } => Self::Overflow { dropped: number(dropped) },
            Event::Stopped { fatal } => Self::Stopped { fatal },
        }
    }
}

fn kind_text(kind: native::ConnectionKind) -> String {
    match kind {
        native::ConnectionKind::Leg => "leg",
        native::ConnectionKind::Tunnel => "tunnel",
    }
    .to_owned()
}

fn by_text(by: native::ClosedBy) -> String {
    match by {
        native::ClosedBy::Local => "local",
        native::ClosedBy::Peer => "peer",
        native::ClosedBy::IdleTimeout => "idle-timeout",
        native::ClosedBy::StatelessReset => "stateless-reset",
    }
    .to_owned()
}

fn change_parts(change: &native::PathChange) -> (String, Option<String>, Option<u32>) {
    use native::PathChange;
    let (name, reason, mtu) = match change {
        PathChange::Proven => ("proven", None, None),
        PathChange::Selected(reason) => ("selected", Some((*reason).to_owned()), None),
        PathChange::Suspect => ("suspect", None, None),
        PathChange::Recovered => ("recovered", None, None),
        PathChange::Lost => ("lost", None, None),
        PathChange::Mtu(size) => ("mtu", None, Some((*size).into())),
    };
    (name.to_owned(), reason, mtu)
}

fn flow_event(report: native::FlowReport) -> BindingEvent {
    use native::{FlowChange, FlowKind};
    let kind = match report.kind {
        FlowKind::Tcp => "tcp",
        FlowKind::Udp => "udp",
        FlowKind::Echo => "echo",
    };
    let (change, code) = match report.change {
        FlowChange::Opened => ("opened", None),
        FlowChange::Refused(answer) => ("refused", Some(f64::from(answer))),
        FlowChange::Closed(code) => ("closed", code.map(number)),
    };
    BindingEvent::Flow {
        tunnel: report.tunnel.0,
        service: report.service,
        kind: kind.to_owned(),
        change: change.to_owned(),
        code,
        count: number(report.count),
        bytes_up: number(report.bytes_up),
        bytes_down: number(report.bytes_down),
    }
}

impl From<native::LeafInfo> for BindingLeaf {
    fn from(it: native::LeafInfo) -> Self {
        Self {
            spki_sha256: it.spki_sha256,
            issuer: it.issuer,
            serial: it.serial,
            uris: it.uris,
            dns_names: it.dns_names,
            ip_addresses: it.ip_addresses,
            client_auth: it.client_auth,
            server_auth: it.server_auth,
            // Seconds since 1970 stay exact for 285 million years.
            not_after: it.not_after as f64,
        }
    }
}

impl From<native::PathName> for BindingPathName {
    fn from(it: native::PathName) -> Self {
        let (kind, address) = match it {
            native::PathName::Relayed(relay) => ("relayed", relay),
            native::PathName::Direct(peer) => ("direct", peer),
        };
        Self { kind: kind.to_owned(), address: address.to_string() }
    }
}

impl From<native::Snapshot> for BindingSnapshot {
    fn from(it: native::Snapshot) -> Self {
        Self {
            counters: it
                .counters
                .into_iter()
                .map(|(name, value)| (name.to_owned(), number(value)))
                .collect(),
            connections: it.connections.into_iter().map(Into::into).collect(),
            services: it.services.into_iter().map(Into::into).collect(),
            channels: number(it.channels),
            connections_total: number(it.connections_total),
            flows: number(it.flows),
        }
    }
}

impl From<native::ConnectionSnapshot> for BindingConnectionSnapshot {
    fn from(it: native::ConnectionSnapshot) -> Self {
        Self {
            connection: it.connection.0,
            kind: kind_text(it.kind),
            remote: it.remote.map(|it| it.to_string()),
            rtt_us: it.rtt_us,
            sent_bytes: number(it.sent_bytes),
            received_bytes: number(it.received_bytes),
            lost_packets: number(it.lost_packets),
            flows: it.flows,
            paths: it.paths.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<native::PathSnapshot> for BindingPathSnapshot {
    fn from(it: native::PathSnapshot) -> Self {
        Self {
            path: it.name.into(),
            selected: it.selected,
            state: it.state.to_owned(),
            rtt_us: it.rtt_us,
            jitter_us: it.jitter_us,
            mtu: it.mtu.into(),
            sent_bytes: number(it.sent_bytes),
            received_bytes: number(it.received_bytes),
        }
    }
}

impl From<native::ServiceSnapshot> for BindingServiceSnapshot {
    fn from(it: native::ServiceSnapshot) -> Self {
        Self {
            service: it.service,
            bytes_up: number(it.bytes_up),
            bytes_down: number(it.bytes_down),
            flows_opened: number(it.flows_opened),
            flows_refused: number(it.flows_refused),
            flows: it.flows,
        }
    }
}

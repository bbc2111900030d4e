//! `Command` as JavaScript writes it; `src/transport/endpoint.ts` has the same shapes.

use std::time::Duration;

use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use ztna_dataplane::command as native;
use ztna_dataplane::config::{PathPolicy, PathPreference};
use ztna_dataplane::id::{ConnectionHandle, PairId};

use crate::convert::{address, addresses, invalid, parse, port, prefix, whole, wire_id};

#[napi(object)]
pub struct BindingRevocation {
    /// `spki` or `certificate`.
    pub r#type: String,
    pub spki_sha256: Option<String>,
    pub issuer: Option<String>,
    pub serial: Option<String>,
}

#[napi(object)]
pub struct BindingChannelSide {
    pub leg: u32,
    pub relay_id: String,
    pub client_id: String,
}

#[napi(object)]
pub struct BindingCredentials {
    pub ufrag: String,
    pub password: String,
}

#[napi(object)]
pub struct BindingPathPolicy {
    pub preference: String,
    pub silence_min_ms: u32,
    pub active_check_interval_ms: u32,
    pub standby_check_interval_ms: u32,
    pub idle_check_interval_ms: u32,
}

#[napi(object)]
pub struct BindingServicePort {
    pub protocol: String,
    pub port: u32,
}

#[napi(object)]
pub struct BindingAgentService {
    pub name: String,
    pub ipv4: Option<String>,
    pub ipv6: Option<String>,
    pub ports: Vec<BindingServicePort>,
}

#[napi(object)]
pub struct BindingLocalListener {
    /// `forward` or `socks`.
    pub r#type: String,
    pub protocol: Option<String>,
    pub bind: String,
    pub service: Option<String>,
    pub port: Option<u32>,
}

#[napi(object)]
pub struct BindingBackendPort {
    pub protocol: String,
    pub port: u32,
    pub addresses: Vec<String>,
}

#[napi(object)]
pub struct BindingBackendService {
    pub name: String,
    pub ports: Vec<BindingBackendPort>,
    pub healthy: bool,
    pub idle_ms: u32,
}

#[napi(object)]
pub struct BindingTunSource {
    pub name: Option<String>,
    pub descriptor: Option<i32>,
}

#[napi(discriminant = "type", discriminant_case = "kebab-case")]
pub enum BindingCommand {
    SetTls {
        chain_pem: Uint8Array,
        key_pem: Uint8Array,
        roots_pem: Uint8Array,
        revoked: Vec<BindingRevocation>,
    },
    ConnectLeg {
        connection: u32,
        remote: String,
        server_name: Option<String>,
    },
    ConnectTunnel {
        connection: u32,
        pair: u32,
    },
    Admit {
        connection: u32,
    },
    CloseConnection {
        connection: u32,
        code: u32,
        reason: String,
    },
    PingLeg {
        connection: u32,
    },
    SendControl {
        connection: u32,
        frame: Uint8Array,
    },
    OpenChannel {
        a: BindingChannelSide,
        b: BindingChannelSide,
        rate_bps: f64,
    },
    MoveChannels {
        from: u32,
        to: u32,
    },
    OpenRelayedPath {
        pair: u32,
        leg: u32,
        send_id: String,
        receive_id: String,
    },
    CloseChannel {
        channel: String,
    },
    SetLocalCredentials {
        tunnel: u32,
        credentials: BindingCredentials,
    },
    SetCandidates {
        tunnel: u32,
        generation: u32,
        credentials: BindingCredentials,
        candidates: Vec<String>,
    },
    SetPathPolicy {
        tunnel: u32,
        policy: BindingPathPolicy,
    },
    SetServices {
        services: Vec<BindingAgentService>,
        listeners: Vec<BindingLocalListener>,
    },
    SetBackends {
        services: Vec<BindingBackendService>,
    },
    Grant {
        tunnel: u32,
        service: String,
    },
    Revoke {
        tunnel: u32,
        service: String,
        code: u32,
    },
    RefuseService {
        service: String,
        answer: u32,
    },
    OpenTun {
        source: BindingTunSource,
        mtu: u32,
        addresses: Vec<String>,
    },
    AttachPackets {
        path: String,
        mtu: u32,
    },
    Ping {
        request: u32,
        service: String,
        count: u32,
        interval_ms: u32,
        size: u32,
    },
    Snapshot {
        request: u32,
    },
}

impl BindingCommand {
    /// Converts a command whose values TypeScript has judged; an error is a bug of the caller.
    pub(crate) fn into_native(self) -> napi::Result<native::Command> {
        use native::Command;
        Ok(match self {
            Self::SetTls { chain_pem, key_pem, roots_pem, revoked } => {
                Command::SetTls(native::TlsMaterial {
                    chain_pem: chain_pem.to_vec(),
                    key_pem: key_pem.to_vec(),
                    roots_pem: roots_pem.to_vec(),
                    revoked: convert_all(revoked)?,
                })
            }
            Self::ConnectLeg { connection, remote, server_name } => Command::ConnectLeg {
                connection: ConnectionHandle(connection),
                remote: address(&remote)?,
                server_name,
            },
            Self::ConnectTunnel { connection, pair } => Command::ConnectTunnel {
                connection: ConnectionHandle(connection),
                pair: PairId(pair),
            },
            Self::Admit { connection } => {
                Command::Admit { connection: ConnectionHandle(connection) }
            }
            Self::CloseConnection { connection, code, reason } => Command::CloseConnection {
                connection: ConnectionHandle(connection),
                code: code.into(),
                reason,
            },
            Self::PingLeg { connection } => {
                Command::PingLeg { connection: ConnectionHandle(connection) }
            }
            Self::SendControl { connection, frame } => Command::SendControl {
                connection: ConnectionHandle(connection),
                frame: frame.to_vec(),
            },
            Self::OpenChannel { a, b, rate_bps } => Command::OpenChannel {
                a: a.try_into()?,
                b: b.try_into()?,
                rate_bps: whole("rate", rate_bps)?,
            },
            Self::MoveChannels { from, to } => {
                Command::MoveChannels { from: ConnectionHandle(from), to: ConnectionHandle(to) }
            }
            Self::OpenRelayedPath { pair, leg, send_id, receive_id } => Command::OpenRelayedPath {
                pair: PairId(pair),
                leg: ConnectionHandle(leg),
                send_id: wire_id(&send_id)?,
                receive_id: wire_id(&receive_id)?,
            },
            Self::CloseChannel { channel } => Command::CloseChannel { channel: wire_id(&channel)? },
            Self::SetLocalCredentials { tunnel, credentials } => Command::SetLocalCredentials {
                tunnel: ConnectionHandle(tunnel),
                credentials: credentials.into(),
            },
            Self::SetCandidates { tunnel, generation, credentials, candidates } => {
                Command::SetCandidates {
                    tunnel: ConnectionHandle(tunnel),
                    generation,
                    credentials: credentials.into(),
                    candidates: addresses(&candidates)?,
                }
            }
            Self::SetPathPolicy { tunnel, policy } => Command::SetPathPolicy {
                tunnel: ConnectionHandle(tunnel),
                policy: policy.try_into()?,
            },
            Self::SetServices { services, listeners } => Command::SetServices {
                services: convert_all(services)?,
                listeners: convert_all(listeners)?,
            },
            Self::SetBackends { services } => {
                Command::SetBackends { services: convert_all(services)? }
            }
            Self::Grant { tunnel, service } => {
                Command::Grant { tunnel: ConnectionHandle(tunnel), service }
            }
            Self::Revoke { tunnel, service, code } => {
                Command::Revoke { tunnel: ConnectionHandle(tunnel), service, code: code.into() }
            }
            Self::RefuseService { service, answer } => Command::RefuseService {
                service,
                answer: u8::try_from(answer).map_err(|_| invalid("answer", answer))?,
            },
            Self::OpenTun { source, mtu, addresses } => Command::OpenTun(native::TunConfig {
                source: source.try_into()?,
                mtu: size("mtu", mtu)?,
                addresses: addresses.iter().map(|text| prefix(text)).collect::<Result<_, _>>()?,
            }),
            Self::AttachPackets { path, mtu } => {
                Command::AttachPackets { path, mtu: size("mtu", mtu)? }
            }
            Self::Ping { request, service, count, interval_ms, size: octets } => Command::Ping {
                request,
                service,
                count: size("count", count)?,
                interval: millis(interval_ms),
                size: size("size", octets)?,
            },
            Self::Snapshot { request } => Command::Snapshot { request },
        })
    }
}

fn convert_all<A: TryInto<B, Error = napi::Error>, B>(items: Vec<A>) -> napi::Result<Vec<B>> {
    items.into_iter().map(TryInto::try_into).collect()
}

fn millis(value: u32) -> Duration {
    Duration::from_millis(value.into())
}

fn size(what: &str, value: u32) -> napi::Result<u16> {
    u16::try_from(value).map_err(|_| invalid(what, value))
}

fn protocol(text: &str) -> napi::Result<native::Protocol> {
    match text {
        "tcp" => Ok(native::Protocol::Tcp),
        "udp" => Ok(native::Protocol::Udp),
        other => Err(invalid("protocol", other)),
    }
}

impl From<BindingCredentials> for native::Credentials {
    fn from(it: BindingCredentials) -> Self {
        Self { ufrag: it.ufrag, password: it.password }
    }
}

impl TryFrom<BindingRevocation> for native::Revocation {
    type Error = napi::Error;

    fn try_from(it: BindingRevocation) -> napi::Result<Self> {
        match (it.r#type.as_str(), it.spki_sha256, it.issuer, it.serial) {
            ("spki", Some(spki), _, _) => Ok(Self::Spki(spki)),
            ("certificate", _, Some(issuer), Some(serial)) => {
                Ok(Self::Certificate { issuer, serial })
            }
            (other, ..) => Err(invalid("revocation", other)),
        }
    }
}

impl TryFrom<BindingChannelSide> for native::ChannelSide {
    type Error = napi::Error;

    fn try_from(it: BindingChannelSide) -> napi::Result<Self> {
        Ok(Self {
            leg: ConnectionHandle(it.leg),
            relay_id: wire_id(&it.relay_id)?,
            client_id: wire_id(&it.client_id)?,
        })
    }
}

impl TryFrom<BindingPathPolicy> for PathPolicy {
    type Error = napi::Error;

    fn try_from(it: BindingPathPolicy) -> napi::Result<Self> {
        let preference = match it.preference.as_str() {
            "prefer-direct" => PathPreference::PreferDirect,
            "require-direct" => PathPreference::RequireDirect,
            "relay-only" => PathPreference::RelayOnly,
            other => return Err(invalid("preference", other)),
        };
        Ok(Self {
            preference,
            silence_min: millis(it.silence_min_ms),
            active_check_interval: millis(it.active_check_interval_ms),
            standby_check_interval: millis(it.standby_check_interval_ms),
            idle_check_interval: millis(it.idle_check_interval_ms),
        })
    }
}

impl TryFrom<BindingServicePort> for native::ServicePort {
    type Error = napi::Error;

    fn try_from(it: BindingServicePort) -> napi::Result<Self> {
        Ok(Self { protocol: protocol(&it.protocol)?, port: port(it.port)? })
    }
}

impl TryFrom<BindingAgentService> for native::AgentService {
    type Error = napi::Error;

    fn try_from(it: BindingAgentService) -> napi::Result<Self> {
        Ok(Self {
            name: it.name,
            ipv4: it.ipv4.map(|text| parse("address", &text)).transpose()?,
            ipv6: it.ipv6.map(|text| parse("address", &text)).transpose()?,
            ports: convert_all(it.ports)?,
        })
    }
}

impl TryFrom<BindingLocalListener> for native::LocalListener {
    type Error = napi::Error;

    fn try_from(it: BindingLocalListener) -> napi::Result<Self> {
        let bind = address(&it.bind)?;
        match (it.r#type.as_str(), it.protocol, it.service, it.port) {
            ("forward", Some(transport), Some(service), Some(number)) => Ok(Self::Forward {
                protocol: protocol(&transport)?,
                bind,
                service,
                port: port(number)?,
            }),
            ("socks", ..) => Ok(Self::Socks { bind }),
            (other, ..) => Err(invalid("listener", other)),
        }
    }
}

impl TryFrom<BindingBackendPort> for native::BackendPort {
    type Error = napi::Error;

    fn try_from(it: BindingBackendPort) -> napi::Result<Self> {
        let port = native::ServicePort { protocol: protocol(&it.protocol)?, port: port(it.port)? };
        Ok(Self { port, addresses: addresses(&it.addresses)? })
    }
}

impl TryFrom<BindingBackendService> for native::BackendService {
    type Error = napi::Error;

    fn try_from(it: BindingBackendService) -> napi::Result<Self> {
        Ok(Self {
            name: it.name,
            ports: convert_all(it.ports)?,
            healthy: it.healthy,
            idle: millis(it.idle_ms),
        })
    }
}

impl TryFrom<BindingTunSource> for native::TunSource {
    type Error = napi::Error;

    fn try_from(it: BindingTunSource) -> napi::Result<Self> {
        match (it.name, it.descriptor) {
            (Some(name), None) => Ok(Self::Name(name)),
            (None, Some(descriptor)) => Ok(Self::Descriptor(descriptor)),
            _ => Err(invalid("TUN source", "with neither or both of name and descriptor")),
        }
    }
}

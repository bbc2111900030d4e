//! `Command` as JavaScript writes it; `src/transport/endpoint.ts` has the same shapes.

use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use ztna_dataplane::command as native;
use ztna_dataplane::id::{ConnectionHandle, PairId};

use crate::convert::{address, addresses, convert_all, invalid, millis, prefix, whole, wire_id};
use crate::values::{
    BindingAgentService, BindingBackendService, BindingChannelSide, BindingCredentials,
    BindingLocalListener, BindingPathPolicy, BindingRevocation, BindingTunSource,
};

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
        near: bool,
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
            Self::OpenRelayedPath { pair, leg, send_id, receive_id, near } => {
                Command::OpenRelayedPath {
                    pair: PairId(pair),
                    leg: ConnectionHandle(leg),
                    send_id: wire_id(&send_id)?,
                    receive_id: wire_id(&receive_id)?,
                    near,
                }
            }
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

fn size(what: &str, value: u32) -> napi::Result<u16> {
    u16::try_from(value).map_err(|_| invalid(what, value))
}

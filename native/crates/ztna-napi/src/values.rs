//! What commands are made of, as JavaScript writes it.

use napi_derive::napi;
use ztna_dataplane::command as native;
use ztna_dataplane::config::{PathPolicy, PathPreference};
use ztna_dataplane::id::ConnectionHandle;

use crate::convert::{address, addresses, convert_all, invalid, millis, parse, port, wire_id};

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

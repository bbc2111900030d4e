//! The endpoint's life: opened, fed, drained, closed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use napi::bindgen_prelude::{Function, Uint8Array};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi_derive::napi;
use ztna_dataplane::Endpoint;
use ztna_dataplane::command::Command;
use ztna_dataplane::config::{EndpointConfig, Limits, Role};

use crate::commands::BindingCommand;
use crate::convert::{addresses, from_endpoint, invalid, refuse, whole, wire_id_text};
use crate::events::BindingEvent;

/// How long close frames may take to leave.
const CLOSE_GRACE: Duration = Duration::from_millis(500);

#[napi(object)]
#[derive(Default)]
pub struct BindingLimits {
    pub flows_per_tunnel_max: Option<f64>,
    pub datagram_flows_per_tunnel_max: Option<f64>,
    pub flows_max: Option<f64>,
    pub handshakes_max: Option<f64>,
    pub tunnel_buffer_bytes_max: Option<f64>,
    pub tunnel_buffers_max: Option<f64>,
    pub process_buffer_bytes_max: Option<f64>,
    pub legs_max: Option<f64>,
    pub retries_per_source: Option<f64>,
    pub held_syns_max: Option<f64>,
    pub events_max: Option<f64>,
}

#[napi(object)]
pub struct BindingOptions {
    pub role: String,
    pub listen: Vec<String>,
    pub reset_key: Uint8Array,
    pub allow_loopback: bool,
    pub limits: BindingLimits,
}

/// A running data plane.
#[napi]
pub struct BindingEndpoint {
    endpoint: Mutex<Endpoint>,
}

#[napi]
impl BindingEndpoint {
    /// Binds the sockets and starts the thread; `wake` is called when events wait.
    #[napi(constructor, catch_unwind)]
    pub fn new(options: BindingOptions, wake: Function<'_, (), ()>) -> napi::Result<Self> {
        let config = options.into_config()?;
        let wake = wake
            .build_threadsafe_function::<()>()
            .callee_handled::<false>()
            .weak::<false>()
            .max_queue_size::<1>()
            .build()?;
        let wake = Box::new(move || {
            // A full queue holds a wake-up already.
            let _ = wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        });
        let endpoint = Endpoint::open(config, wake).map_err(|error| from_endpoint(&error))?;
        Ok(Self { endpoint: Mutex::new(endpoint) })
    }

    #[napi(catch_unwind)]
    pub fn send(&self, command: BindingCommand) -> napi::Result<()> {
        let command = command.into_native()?;
        self.lock().send(command);
        Ok(())
    }

    #[napi(catch_unwind)]
    pub fn drain(&self) -> Vec<BindingEvent> {
        self.lock().drain().into_iter().map(Into::into).collect()
    }

    #[napi(catch_unwind)]
    pub fn issue_connection_handle(&self) -> u32 {
        self.lock().issue_handle().0
    }

    #[napi(catch_unwind)]
    pub fn issue_channel_id(&self) -> String {
        wire_id_text(self.lock().issue_channel_id())
    }

    #[napi(catch_unwind)]
    pub fn local_addresses(&self) -> Vec<String> {
        self.lock().local_addresses().iter().map(ToString::to_string).collect()
    }

    /// Asks the thread to end; `stopped` is its last event.
    #[napi(catch_unwind)]
    pub fn shut_down(&self, code: u32, reason: String) {
        self.lock().send(Command::Shutdown { code: code.into(), reason, grace: CLOSE_GRACE });
    }

    /// Waits for the thread, which is short after `stopped`.
    #[napi(catch_unwind)]
    pub fn join(&self) {
        self.lock().join();
    }

    fn lock(&self) -> MutexGuard<'_, Endpoint> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BindingOptions {
    fn into_config(self) -> napi::Result<EndpointConfig> {
        let role = match self.role.as_str() {
            "agent" => Role::Agent,
            "connector" => Role::Connector,
            "relay" => Role::Relay,
            other => return Err(invalid("role", other)),
        };
        let reset_key = <[u8; 32]>::try_from(&self.reset_key[..])
            .map_err(|_| refuse("BINDING_INVALID", "the reset key has 32 octets"))?;
        Ok(EndpointConfig {
            role,
            listen: addresses(&self.listen)?,
            reset_key,
            allow_loopback: self.allow_loopback,
            limits: self.limits.into_native()?,
        })
    }
}

impl BindingLimits {
    fn into_native(self) -> napi::Result<Limits> {
        let default = Limits::default();
        let or = |value: Option<f64>, default: usize| match value {
            Some(value) => whole("limit", value)
                .and_then(|value| usize::try_from(value).map_err(|_| invalid("limit", value))),
            None => Ok(default),
        };
        Ok(Limits {
            flows_per_tunnel_max: or(self.flows_per_tunnel_max, default.flows_per_tunnel_max)?,
            datagram_flows_per_tunnel_max: or(
                self.datagram_flows_per_tunnel_max,
                default.datagram_flows_per_tunnel_max,
            )?,
            flows_max: or(self.flows_max, default.flows_max)?,
            handshakes_max: or(self.handshakes_max, default.handshakes_max)?,
            tunnel_buffer_bytes_max: or(
                self.tunnel_buffer_bytes_max,
                default.tunnel_buffer_bytes_max,
            )?,
            tunnel_buffers_max: or(self.tunnel_buffers_max, default.tunnel_buffers_max)?,
            process_buffer_bytes_max: or(
                self.process_buffer_bytes_max,
                default.process_buffer_bytes_max,
            )?,
            legs_max: or(self.legs_max, default.legs_max)?,
            retries_per_source: match self.retries_per_source {
                Some(value) => {
                    u32::try_from(whole("limit", value)?).map_err(|_| invalid("limit", value))?
                }
                None => default.retries_per_source,
            },
            held_syns_max: or(self.held_syns_max, default.held_syns_max)?,
            events_max: or(self.events_max, default.events_max)?,
        })
    }
}

//! The endpoint: one thread that owns every socket, and the handle that its owner holds.
//!
//! This is the only module that reads the clock. Each turn of the loop reads the sockets empty, carries
//! out commands, serves due timers, moves what flows have, sends, and only then judges silence: a path
//! is never suspected for what this process had not read yet.

mod accept;
mod agent;
mod commands;
mod connector;
mod control;
mod datagrams;
mod device;
mod drive;
mod early_datagrams;
mod ending_streams;
mod flow_life;
mod flow_reports;
mod flows;
mod forwarding;
mod local;
mod opening;
mod packets;
mod ping;
mod plane;
mod pressure;
mod pump;
mod queue;
mod receive;
mod rest_order;
mod snapshot;
mod staging;
mod timers;
mod transmit;
mod turn;
mod waiting;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use mio::{Poll, Waker};

use crate::command::Command;
use crate::config::EndpointConfig;
use crate::error::EndpointError;
use crate::event::Event;
use crate::id::{ConnectionHandle, WireId};
pub(crate) use early_datagrams::EarlyDatagrams;
pub(crate) use ending_streams::EndingStreams;
use plane::{Plane, WAKE};
use queue::Shared;
pub(crate) use rest_order::RestOrder;

/// A running data plane.
pub struct Endpoint {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    local_addresses: Vec<SocketAddr>,
}

impl Endpoint {
    /// Binds the sockets and starts the thread.
    ///
    /// `wake` is called from that thread when events wait; it must not block.
    ///
    /// # Errors
    ///
    /// Any [`EndpointError`] of binding a socket or starting a thread.
    pub fn open(
        config: EndpointConfig,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Self, EndpointError> {
        let poll = Poll::new().map_err(|error| system("create a poll", &error))?;
        let waker =
            Waker::new(poll.registry(), WAKE).map_err(|error| system("create a waker", &error))?;
        let shared = Shared::new(waker, wake);
        let ports = Plane::bind(&config, &poll)?;
        let local_addresses = ports.iter().map(|port| port.local).collect();

        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("ztna-dataplane".to_owned())
            .spawn(move || run(config, poll, ports, &for_thread))
            .map_err(|error| system("start the data-plane thread", &error))?;

        Ok(Self { shared, thread: Some(thread), local_addresses })
    }

    /// Returns the addresses of the primary sockets, with the ports that the system chose.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local_addresses
    }

    /// Asks for something; every command is carried out in order.
    pub fn send(&self, command: Command) {
        self.shared.send(command);
    }

    /// Returns everything that happened since the last call.
    pub fn drain(&self) -> Vec<Event> {
        self.shared.drain()
    }

    /// Returns a handle for a connection that this side dials.
    pub fn issue_handle(&self) -> ConnectionHandle {
        self.shared.issue_handle()
    }

    /// Returns a channel id that is not in use in this process.
    pub fn issue_channel_id(&self) -> WireId {
        self.shared.issue_channel_id()
    }

    /// Waits for the thread, which ends after `Command::Shutdown`. May be called twice.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic was reported as `Event::Stopped`.
            let _ = thread.join();
        }
    }
}

fn run(config: EndpointConfig, poll: Poll, ports: Vec<crate::udp::UdpPort>, shared: &Arc<Shared>) {
    let for_plane = Arc::clone(shared);
    let outcome =
        catch_unwind(AssertUnwindSafe(|| Plane::new(config, poll, ports, for_plane).run()));
    let fatal = match outcome {
        Ok(()) => None,
        Err(panic) => Some(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "panic without a message".to_owned()),
        ),
    };
    shared.push(&mut vec![Event::Stopped { fatal }], usize::MAX);
}

/// Fills `octets` with unpredictable bits.
#[expect(clippy::expect_used, reason = "BoringSSL aborts before it reports a failure here")]
fn fill_random(octets: &mut [u8]) {
    boring::rand::rand_bytes(octets).expect("the system has random bits");
}

fn system(what: &'static str, error: &std::io::Error) -> EndpointError {
    EndpointError::System { what, detail: error.to_string() }
}

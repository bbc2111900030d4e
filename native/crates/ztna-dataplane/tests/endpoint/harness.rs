//! Endpoints of every role in one process, and the part of their owner.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ztna_dataplane::Endpoint;
use ztna_dataplane::command::{Command, TlsMaterial};
use ztna_dataplane::config::{EndpointConfig, Limits, Role};
use ztna_dataplane::event::{ConnectionKind, Event, FlowChange, Snapshot};
use ztna_dataplane::id::ConnectionHandle;

/// What is waited for comes within this, or never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[expect(clippy::disallowed_methods, reason = "endpoints run on the real clock")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "certificates are judged by the real clock")]
pub(crate) fn unix_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    i64::try_from(since.as_secs()).expect("it is before the end of time")
}

/// An endpoint with what it told so far.
pub(crate) struct Node {
    pub(crate) endpoint: Endpoint,
    seen: Vec<Event>,
    wake: Receiver<()>,
    requests: u32,
}

impl Node {
    pub(crate) fn open(role: Role, listen: SocketAddr, tls: TlsMaterial, limits: Limits) -> Self {
        let (sender, wake) = sync_channel(1);
        let config = EndpointConfig {
            role,
            listen: vec![listen],
            reset_key: [7; 32],
            allow_loopback: true,
            limits,
        };
        // Full: the owner has not looked since the last one.
        let wake_owner = Box::new(move || sender.try_send(()).unwrap_or_default());
        let endpoint = Endpoint::open(config, wake_owner).expect("loopback has room");
        endpoint.send(Command::SetTls(tls));
        Self { endpoint, seen: Vec::new(), wake, requests: 0 }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        *self.endpoint.local_addresses().first().expect("it has a socket")
    }

    pub(crate) fn send(&self, command: Command) {
        self.endpoint.send(command);
    }

    /// Waits for an event, takes it out of what was seen and returns what `pick` made of it.
    pub(crate) fn wait<T>(&mut self, what: &str, pick: impl FnMut(&Event) -> Option<T>) -> T {
        match self.wait_for(PATIENCE, pick) {
            Some(found) => found,
            None => panic!("waited for {what}, got {:#?}", self.seen),
        }
    }

    pub(crate) fn wait_for<T>(
        &mut self,
        patience: Duration,
        mut pick: impl FnMut(&Event) -> Option<T>,
    ) -> Option<T> {
        let deadline = clock() + patience;
        loop {
            self.seen.extend(self.endpoint.drain());
            let found =
                self.seen.iter().enumerate().find_map(|(at, event)| Some((at, pick(event)?)));
            if let Some((at, found)) = found {
                self.seen.remove(at);
                return Some(found);
            }
            let left = deadline.saturating_duration_since(clock());
            if left.is_zero() {
                return None;
            }
            // A wake-up, or time to look at the clock again.
            let _ = self.wake.recv_timeout(left.min(Duration::from_millis(20)));
        }
    }

    /// Waits until every command so far was carried out.
    pub(crate) fn sync(&mut self) -> Snapshot {
        self.requests += 1;
        let mine = self.requests;
        self.send(Command::Snapshot { request: mine });
        self.wait("a snapshot", |event| match event {
            Event::Snapshot { request, snapshot } if *request == mine => {
                Some(snapshot.as_ref().clone())
            }
            _ => None,
        })
    }

    pub(crate) fn counter(&mut self, name: &str) -> u64 {
        let counters = self.sync().counters;
        let found = counters.iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no counter {name}")).1
    }

    /// Waits until a counter has reached a value.
    pub(crate) fn wait_counter(&mut self, name: &str, least: u64) {
        let deadline = clock() + PATIENCE;
        while self.counter(name) < least {
            assert!(clock() < deadline, "{name} is {}", self.counter(name));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn wait_handshake(&mut self, of: ConnectionKind) -> ConnectionHandle {
        self.wait("a handshake", |event| match event {
            Event::Handshake { connection, kind, .. } if *kind == of => Some(*connection),
            _ => None,
        })
    }

    /// Waits for the end of a connection; returns code and reason.
    pub(crate) fn wait_closed(&mut self, of: ConnectionHandle) -> (u64, String) {
        self.wait("the end of a connection", |event| match event {
            Event::Closed { connection, code, reason, .. } if *connection == of => {
                Some((*code, reason.clone()))
            }
            _ => None,
        })
    }

    pub(crate) fn wait_frame(&mut self, of: ConnectionHandle) -> Vec<u8> {
        self.wait("a control frame", |event| match event {
            Event::Control { connection, frame, .. } if *connection == of => Some(frame.clone()),
            _ => None,
        })
    }

    pub(crate) fn wait_flow(&mut self, wanted: FlowChange) -> (u64, u64) {
        self.wait(&format!("a flow {wanted:?}"), |event| match event {
            Event::Flow(report) if report.change == wanted => {
                Some((report.bytes_up, report.bytes_down))
            }
            _ => None,
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.send(Command::Shutdown { code: 0, reason: String::new(), grace: Duration::ZERO });
        self.endpoint.join();
    }
}

//! One QUIC connection with any certificate, and how it ended.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use quiche::{Connection, ConnectionId, RecvInfo};
use serde_json::{Value, json};

use crate::options::Options;
use crate::{Outcome, client};

pub(crate) const CONTROL_STREAM: u64 = 0;

/// Dials, writes the octets it was given to stream 0, and waits for the end or until time is up.
pub(crate) fn dial(options: &Options) -> Outcome<Value> {
    let socket = UdpSocket::bind(local_for(options.remote))?;
    socket.connect(options.remote)?;
    let local = socket.local_addr()?;
    let mut id = [0; 16];
    fastrand::fill(&mut id);
    let mut config = client::config(options)?;
    let id = ConnectionId::from_ref(&id);
    let mut quic = quiche::connect(None, &id, local, options.remote, &mut config)?;
    if options.early {
        quic.set_session(&client::ticket(options)?)?;
    }

    let mut writer = Writer::new(options);
    let mut received: u64 = 0;
    let mut early_offered = false;
    let mut established = false;
    let deadline = Instant::now() + options.hold;
    let mut buffer = vec![0; 65_536];
    while !quic.is_closed() && Instant::now() < deadline {
        if quic.is_in_early_data() && !quic.is_established() {
            early_offered = true;
            writer.write(&mut quic);
        }
        established |= quic.is_established();
        if quic.is_established() {
            writer.write(&mut quic);
            if options.reads {
                while let Ok((length, _)) = quic.stream_recv(CONTROL_STREAM, &mut buffer) {
                    received += length as u64;
                }
            }
        }
        flush(&mut quic, &socket, &mut buffer);
        receive(&mut quic, &socket, local, &mut buffer)?;
    }

    Ok(json!({
        "established": established,
        "resumed": quic.is_resumed(),
        "earlyOffered": early_offered,
        "written": writer.written,
        "received": received,
        "end": end_of(&quic),
    }))
}

/// Writes the octets `repeat` times, as flow control lets it.
struct Writer<'a> {
    options: &'a Options,
    written: usize,
}

impl<'a> Writer<'a> {
    fn new(options: &'a Options) -> Self {
        Self { options, written: 0 }
    }

    fn write(&mut self, quic: &mut Connection) {
        let Options { stream, repeat, .. } = self.options;
        while self.written < stream.len().saturating_mul(*repeat) {
            let rest = stream.get(self.written % stream.len()..).unwrap_or_default();
            match quic.stream_send(CONTROL_STREAM, rest, false) {
                Ok(length) if length > 0 => self.written += length,
                _ => return,
            }
        }
    }
}

fn flush(quic: &mut Connection, socket: &UdpSocket, buffer: &mut [u8]) {
    while let Ok((length, _)) = quic.send(buffer) {
        // What the system does not take is lost on the way.
        let _lost = socket.send(buffer.get(..length).unwrap_or_default());
    }
}

fn receive(
    quic: &mut Connection,
    socket: &UdpSocket,
    local: SocketAddr,
    buffer: &mut [u8],
) -> Outcome<()> {
    let wait = quic.timeout().unwrap_or(WAIT_MAX).clamp(Duration::from_millis(1), WAIT_MAX);
    socket.set_read_timeout(Some(wait))?;
    match socket.recv_from(buffer) {
        Ok((length, from)) => {
            let info = RecvInfo { from, to: local };
            // A refused packet ends in a close, which is what is told.
            let _refused = quic.recv(buffer.get_mut(..length).unwrap_or_default(), info);
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            quic.on_timeout();
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

pub(crate) fn end_of(quic: &Connection) -> Value {
    let (by, error) = match (quic.peer_error(), quic.local_error()) {
        (Some(error), _) => ("peer", error),
        (None, Some(error)) => ("local", error),
        (None, None) => {
            return if quic.is_timed_out() {
                json!({"by": "timeout"})
            } else {
                json!({"by": "nobody"})
            };
        }
    };
    json!({
        "by": by,
        "code": error.error_code,
        "application": error.is_app,
        "reason": String::from_utf8_lossy(&error.reason),
    })
}

pub(crate) fn local_for(remote: SocketAddr) -> SocketAddr {
    if remote.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() }
}

/// So that the deadline is met.
const WAIT_MAX: Duration = Duration::from_millis(20);

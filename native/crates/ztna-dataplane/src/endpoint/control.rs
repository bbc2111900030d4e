//! Control frames from stream 0 to the owner, no faster than he takes them.

use crate::connection::{CONTROL_STREAM, Stage};
use crate::event::Event;

use super::drive::close;
use super::plane::Plane;
use super::queue::BACKLOG_MAX;

/// Octets of control frames that one connection is read for in one turn.
const CONTROL_READ_BYTES: usize = 65_536;

impl Plane {
    pub(super) fn read_control(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.stage != Stage::Admitted || !connection.quic.stream_readable(CONTROL_STREAM) {
            return;
        }
        // Back-pressure: what is not read keeps its flow control credit.
        if self.shared.backlog() + self.events.len() > BACKLOG_MAX {
            self.postpone_control(key);
            return;
        }
        let mut buffer = [0; 4_096];
        let mut read = 0;
        while read < CONTROL_READ_BYTES {
            let (length, finished) = match connection.quic.stream_recv(CONTROL_STREAM, &mut buffer)
            {
                Ok(it) => it,
                Err(quiche::Error::Done) => return,
                Err(_) => {
                    connection.close(close::PROTOCOL_VIOLATION, "control stream reset");
                    return;
                }
            };
            read += length;
            let mut octets = buffer.get(..length).unwrap_or_default();
            loop {
                match connection.control_in.read(&mut octets) {
                    Ok(Some(frame)) => {
                        let rtt = connection.quic.path_stats().next().and_then(|path| path.min_rtt);
                        let connection = connection.handle;
                        self.events.push(Event::Control { connection, frame, rtt });
                    }
                    Ok(None) => break,
                    Err(error) => {
                        connection.close(close::PROTOCOL_VIOLATION, &error.to_string());
                        return;
                    }
                }
            }
            if finished {
                connection.close(close::PROTOCOL_VIOLATION, "control stream finished");
                return;
            }
        }
        self.postpone_control(key);
    }

    fn postpone_control(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !std::mem::replace(&mut connection.unread, true) {
            self.unread_control.push(key);
        }
    }

    /// Has connections read again whose frames waited for the owner, or for their next turn.
    pub(super) fn resume_control(&mut self) {
        if self.control_waits() {
            return;
        }
        for key in std::mem::take(&mut self.unread_control) {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.unread = false;
            }
            self.mark_dirty(key);
        }
    }

    /// Returns whether reading frames waits for the owner, who wakes this thread when he drained.
    pub(super) fn control_waits(&self) -> bool {
        self.unread_control.is_empty() || self.shared.backlog() > BACKLOG_MAX / 2
    }
}

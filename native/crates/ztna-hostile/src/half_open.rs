//! Handshakes that are begun from many sources of 127.0.0.0/8 and finished from none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use quiche::{Config, Connection, ConnectionId, RecvInfo};
use serde_json::{Value, json};

use crate::options::Options;
use crate::{Outcome, client};

/// Sockets open at a time.
const BATCH: u64 = 64;
/// For answers to come over loopback.
const ANSWER_WAIT: Duration = Duration::from_millis(10);

/// Sends `count` first flights, each from an address of its own, and counts what comes back.
pub(crate) fn half_open(options: &Options) -> Outcome<Value> {
    let mut config = client::config(options)?;
    let mut tally = Tally::default();
    let mut index = 0;
    while index < options.count {
        let end = options.count.min(index + BATCH);
        let mut batch = Vec::new();
        for it in index..end {
            batch.push(Stranger::new(it, options.remote, &mut config)?);
        }
        let rounds = if options.retried { 2 } else { 1 };
        for _ in 0..rounds {
            for stranger in &mut batch {
                stranger.send(&mut tally);
            }
            thread::sleep(ANSWER_WAIT);
            for stranger in &mut batch {
                stranger.receive(&mut tally);
            }
        }
        index = end;
    }
    let Tally { sent, sent_octets, answers, answered_octets } = tally;
    Ok(json!({
        "sources": options.count,
        "sent": sent,
        "sentOctets": sent_octets,
        "answers": answers,
        "answeredOctets": answered_octets,
    }))
}

#[derive(Default)]
struct Tally {
    sent: u64,
    sent_octets: usize,
    answers: u64,
    answered_octets: usize,
}

struct Stranger {
    socket: UdpSocket,
    local: SocketAddr,
    remote: SocketAddr,
    quic: Connection,
}

impl Stranger {
    fn new(index: u64, remote: SocketAddr, config: &mut Config) -> Outcome<Self> {
        let [.., b, c, d] = (index + 0x0100).to_be_bytes();
        let source = IpAddr::V4(Ipv4Addr::new(127, b.wrapping_add(64), c, d));
        let socket = UdpSocket::bind((source, 0))?;
        socket.set_nonblocking(true)?;
        let local = socket.local_addr()?;
        let mut id = [0; 16];
        fastrand::fill(&mut id);
        let quic = quiche::connect(None, &ConnectionId::from_ref(&id), local, remote, config)?;
        Ok(Self { socket, local, remote, quic })
    }

    fn send(&mut self, tally: &mut Tally) {
        let mut buffer = [0; 1_500];
        while let Ok((length, _)) = self.quic.send(&mut buffer) {
            let packet = buffer.get(..length).unwrap_or_default();
            if self.socket.send_to(packet, self.remote).is_ok() {
                tally.sent += 1;
                tally.sent_octets += length;
            }
        }
    }

    fn receive(&mut self, tally: &mut Tally) {
        let mut buffer = [0; 1_500];
        while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
            tally.answers += 1;
            tally.answered_octets += length;
            let info = RecvInfo { from, to: self.local };
            // Whatever it is, nobody goes on from here.
            let _ignored = self.quic.recv(buffer.get_mut(..length).unwrap_or_default(), info);
        }
    }
}

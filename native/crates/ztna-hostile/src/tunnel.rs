//! Flow headers, datagrams and control frames that no agent sends, inside a tunnel that any may have.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use fastrand::Rng;
use quiche::{Connection, Shutdown};
use serde_json::{Value, json};

use crate::Outcome;
use crate::dial::{CONTROL_STREAM, end_of};
use crate::garbage::random;
use crate::options::Options;
use crate::session::{PATIENCE, Session};

/// Flows that are left open until more are begun.
const OPEN_MAX: usize = 256;
const ECHOED: &[u8] = b"still here";
const TCP: u8 = 1;
const ECHO: u8 = 3;

/// Does `count` hostile deeds, asks for an echo, and ends with the octets that it was given for
/// stream 0.
pub(crate) fn tunnel(options: &Options) -> Outcome<Value> {
    let mut session = Session::open(options)?;
    let mut flows = Flows::default();
    let mut rng = Rng::with_seed(options.seed);
    let mut datagrams: u64 = 0;
    for _ in 0..options.count {
        if session.tunnel.is_closed() {
            break;
        }
        if rng.u8(0..4) == 0 {
            flows.begin(&mut session.tunnel, &header(&mut rng, &options.service), &mut rng);
        } else {
            let payload = datagram(&mut rng, flows.next_stream / 4);
            datagrams += u64::from(session.tunnel.dgram_send(&payload).is_ok());
        }
        if rng.u8(0..8) == 0 {
            session.turn()?;
            flows.read(&mut session.tunnel);
        }
    }

    let echoed = echoes(&mut session, &mut flows, options)?;
    if !options.stream.is_empty() {
        session.tunnel.stream_send(CONTROL_STREAM, &options.stream, false)?;
        let deadline = Instant::now() + PATIENCE;
        while session.tunnel.peer_error().is_none() && Instant::now() < deadline {
            session.turn()?;
        }
    }
    Ok(json!({
        "flows": flows.next_stream / 4 - 1,
        "datagrams": datagrams,
        "answers": flows.answers,
        "resets": flows.resets,
        "echoed": echoed,
        "end": end_of(&session.tunnel),
    }))
}

/// Returns whether the tunnel still serves: a packet of an honest echo flow comes back.
fn echoes(session: &mut Session, flows: &mut Flows, options: &Options) -> Outcome<bool> {
    let mut payload = vec![0];
    payload.extend(varint(flows.next_stream / 4));
    payload.extend_from_slice(ECHOED);
    let honest = header_of(ECHO, 0, options.service.as_bytes());
    flows.write(&mut session.tunnel, &honest);

    let deadline = Instant::now() + PATIENCE;
    let mut buffer = [0; 2_000];
    while Instant::now() < deadline && !session.tunnel.is_closed() {
        // Datagrams may be lost; no room for one is as good.
        let _lost = session.tunnel.dgram_send(&payload);
        session.turn()?;
        while let Ok(length) = session.tunnel.dgram_recv(&mut buffer) {
            // The flow's number comes back in a shorter form.
            if buffer.get(..length).is_some_and(|it| it.ends_with(ECHOED)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The streams that were begun, and what was said to them.
struct Flows {
    next_stream: u64,
    open: VecDeque<u64>,
    answers: BTreeMap<String, u64>,
    resets: u64,
}

impl Default for Flows {
    fn default() -> Self {
        Self { next_stream: 4, open: VecDeque::new(), answers: BTreeMap::new(), resets: 0 }
    }
}

impl Flows {
    /// Writes a header and what an agent might do next, in any order.
    fn begin(&mut self, quic: &mut Connection, header: &[u8], rng: &mut Rng) {
        let Some(stream) = self.write(quic, header) else { return };
        // What the connector has refused by then is refused here too.
        let _refused = match rng.u8(0..6) {
            0 => quic.stream_send(stream, b"", true).map(drop),
            1 => quic.stream_send(stream, &random(rng, 1..600), true).map(drop),
            2 => quic.stream_shutdown(stream, Shutdown::Write, rng.u64(0..20)),
            3 => quic.stream_shutdown(stream, Shutdown::Read, rng.u64(0..1 << 40)),
            _ => Ok(()),
        };
        if self.open.len() > OPEN_MAX
            && let Some(oldest) = self.open.pop_front()
        {
            leave(quic, oldest);
        }
    }

    /// Writes a header; returns its stream if there was room for it.
    fn write(&mut self, quic: &mut Connection, header: &[u8]) -> Option<u64> {
        let stream = self.next_stream;
        quic.stream_send(stream, header, false).ok()?;
        self.next_stream += 4;
        self.open.push_back(stream);
        Some(stream)
    }

    /// Counts answers and ends the streams that got one.
    fn read(&mut self, quic: &mut Connection) {
        let mut octet = [0];
        for stream in quic.readable().filter(|stream| *stream != CONTROL_STREAM) {
            match quic.stream_recv(stream, &mut octet) {
                Ok((1, _)) => *self.answers.entry(octet[0].to_string()).or_default() += 1,
                Err(quiche::Error::StreamReset(_)) => self.resets += 1,
                Ok(_) | Err(_) => {}
            }
            leave(quic, stream);
            self.open.retain(|open| *open != stream);
        }
    }
}

fn leave(quic: &mut Connection, stream: u64) {
    // Done: that direction is over.
    let _over = quic.stream_shutdown(stream, Shutdown::Write, 0);
    let _over = quic.stream_shutdown(stream, Shutdown::Read, 0);
}

/// Octets where a flow header should be.
fn header(rng: &mut Rng, service: &str) -> Vec<u8> {
    let name = service.as_bytes();
    let port = rng.choice([7, 80, 7_001]).unwrap_or(7);
    let mut header = header_of(rng.u8(TCP..=ECHO), port, name);
    match rng.u8(0..8) {
        0 => return random(rng, 1..80),
        1 => return header_of(rng.u8(4..), port, name),
        2 => return header_of(TCP, 0, name),
        3 => return header_of(ECHO, port, name),
        4 => return header_of(TCP, port, &name.to_ascii_uppercase()),
        5 => return header_of(TCP, port, &random(rng, 0..80)),
        // Its deadline ends it.
        6 => header.truncate(rng.usize(1..header.len())),
        _ => {
            let place = rng.usize(0..header.len());
            if let Some(octet) = header.get_mut(place) {
                *octet ^= 1 << rng.u8(0..8);
            }
        }
    }
    header
}

fn header_of(kind: u8, port: u16, name: &[u8]) -> Vec<u8> {
    let mut header = vec![kind];
    header.extend(port.to_be_bytes());
    header.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    header.extend_from_slice(name);
    header
}

/// A DATAGRAM payload of some flow, or of none.
fn datagram(rng: &mut Rng, flows: u64) -> Vec<u8> {
    let flow = match rng.u8(0..4) {
        0 => rng.u64(0..1 << 62),
        1 => flows + rng.u64(0..8),
        _ => rng.u64(0..=flows),
    };
    let mut payload = vec![rng.u8(0..2)];
    payload.extend(varint(flow));
    match rng.u8(0..6) {
        0 => return random(rng, 0..100),
        1 => payload.truncate(rng.usize(0..payload.len())),
        2 => payload = [&[rng.u8(2..)], &random(rng, 0..100)[..]].concat(),
        3 => payload.extend(random(rng, 0..1_000)),
        _ => {
            // Pieces of few packets, so that they meet: overlaps, gaps, changed totals, ends too far.
            if let Some(kind) = payload.first_mut() {
                *kind = 1;
            }
            let total = if rng.bool() { 1_000 } else { rng.u16(..) };
            for field in [rng.u16(0..4), rng.u16(0..1_200), total] {
                payload.extend(field.to_be_bytes());
            }
            payload.extend(random(rng, 0..300));
        }
    }
    payload
}

/// RFC 9000 §16, in the longest form.
fn varint(value: u64) -> [u8; 8] {
    (value | 0xc000_0000_0000_0000).to_be_bytes()
}

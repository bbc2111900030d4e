//! A leg, a session and its tunnel, opened over one socket as an agent opens them.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use quiche::{Connection, ConnectionId, RecvInfo};
use serde_json::{Value, json};

use crate::dial::{CONTROL_STREAM, local_for};
use crate::options::Options;
use crate::{Outcome, client};

/// What is answered at all is answered within this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
const ID_BYTES: usize = 8;
/// A first octet and the channel's id.
const PREFIX_BYTES: usize = 1 + ID_BYTES;

/// A leg on which nothing comes for half a minute is lost.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// An open session.
pub(crate) struct Session {
    wire: Wire,
    pub(crate) tunnel: Connection,
}

/// The socket, the leg and the channel.
struct Wire {
    socket: UdpSocket,
    local: SocketAddr,
    relay: SocketAddr,
    leg: Connection,
    /// The channel's id as the relay knows it: goes out.
    send_id: [u8; ID_BYTES],
    /// The channel's id as it was chosen here: comes in.
    receive_id: [u8; ID_BYTES],
    /// When the relay was last shown that the leg lives: all else may go through the tunnel.
    pinged: Instant,
}

impl Session {
    /// Says hello, asks for a session, makes the tunnel and opens the service in it.
    pub(crate) fn open(options: &Options) -> Outcome<Self> {
        let mut wire = Wire::open(options)?;
        let mut config = client::tunnel_config(options)?;
        let id = random_id(0);
        let mut tunnel = quiche::connect(
            None,
            &ConnectionId::from_ref(&id),
            wire.local,
            wire.relay,
            &mut config,
        )?;

        let hello = json!({
            "type": "hello", "instance": hex(&[random_id(0), random_id(0)].concat()), "attempt": 1,
            "features": [], "nonce": "ab".repeat(32), "software": "hostile",
        });
        let mut frames = Frames::default();
        wire.wait(None, |leg, _| leg.is_established())?;
        send_frame(&mut wire.leg, &hello)?;
        wire.wait_frame(&mut frames, "welcome")?;
        let ask = json!({
            "type": "session-open", "request": 1, "service": options.service, "avoid": [],
            "channelId": hex(&wire.receive_id),
        });
        send_frame(&mut wire.leg, &ask)?;
        let opened = wire.wait_frame(&mut frames, "session-open-ok")?;
        wire.send_id = opened
            .pointer("/paths/0/channel")
            .and_then(Value::as_str)
            .and_then(id_of)
            .ok_or("the session has no path")?;

        wire.wait(Some(&mut tunnel), |_, tunnel| tunnel.is_some_and(|it| it.is_established()))?;
        let open = json!({
            "type": "open", "request": 1, "service": options.service, "features": [],
            "session": opened.get("session"), "nonce": "cd".repeat(32),
        });
        send_frame(&mut tunnel, &open)?;
        let mut session = Self { wire, tunnel };
        session.wait_open()?;
        Ok(session)
    }

    /// Sends what waits and takes what came.
    pub(crate) fn turn(&mut self) -> Outcome<()> {
        self.wire.turn(Some(&mut self.tunnel))
    }

    fn wait_open(&mut self) -> Outcome<()> {
        let mut frames = Frames::default();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.turn()?;
            while let Some(frame) = frames.next(&mut self.tunnel)? {
                match frame.get("type").and_then(Value::as_str) {
                    Some("open-ok") => return Ok(()),
                    Some("failed") => return Err(format!("not opened: {frame}").into()),
                    _ => {}
                }
            }
        }
        Err("the connector does not open the service".into())
    }
}

impl Wire {
    fn open(options: &Options) -> Outcome<Self> {
        let relay = options.remote;
        let socket = UdpSocket::bind(local_for(relay))?;
        socket.connect(relay)?;
        let local = socket.local_addr()?;
        let mut config = client::config(options)?;
        let id = random_id(0);
        let leg = quiche::connect(None, &ConnectionId::from_ref(&id), local, relay, &mut config)?;
        let (send_id, receive_id) = ([0; ID_BYTES], random_id(1));
        Ok(Self { socket, local, relay, leg, send_id, receive_id, pinged: Instant::now() })
    }

    fn turn(&mut self, mut tunnel: Option<&mut Connection>) -> Outcome<()> {
        if self.pinged.elapsed() > PING_INTERVAL {
            self.pinged = Instant::now();
            // A leg that is over is told by what comes next.
            let _over = self.leg.send_ack_eliciting();
        }
        let mut buffer = [0; 2_000];
        while let Ok((length, _)) = self.leg.send(&mut buffer) {
            // What the system does not take is lost on the way.
            let _lost = self.socket.send(buffer.get(..length).unwrap_or_default());
        }
        if let Some(tunnel) = tunnel.as_deref_mut() {
            self.send_tunnel(tunnel, &mut buffer);
        }

        self.socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        loop {
            let length = match self.socket.recv(&mut buffer) {
                Ok(length) => length,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    break;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => break,
                Err(error) => return Err(error.into()),
            };
            self.take(buffer.get_mut(..length).unwrap_or_default(), tunnel.as_deref_mut());
        }
        self.leg.on_timeout();
        if let Some(tunnel) = tunnel {
            tunnel.on_timeout();
        }
        Ok(())
    }

    fn send_tunnel(&self, tunnel: &mut Connection, buffer: &mut [u8]) {
        while let Some(room) = buffer.get_mut(PREFIX_BYTES..) {
            let Ok((length, _)) = tunnel.send(room) else { return };
            if let Some((first, rest)) = buffer.split_first_mut() {
                *first = 0x40 | fastrand::u8(0..0x40);
                if let Some(id) = rest.first_chunk_mut() {
                    *id = self.send_id;
                }
            }
            let _lost = self.socket.send(buffer.get(..PREFIX_BYTES + length).unwrap_or_default());
        }
    }

    fn take(&mut self, packet: &mut [u8], tunnel: Option<&mut Connection>) {
        let info = RecvInfo { from: self.relay, to: self.local };
        let is_channel = packet.get(1..PREFIX_BYTES) == Some(&self.receive_id[..]);
        // A refused packet ends in a close, which is what is told; checks are nobody's business here.
        let _refused = match (is_channel, tunnel) {
            (true, Some(tunnel)) => {
                tunnel.recv(packet.get_mut(PREFIX_BYTES..).unwrap_or_default(), info)
            }
            (true, None) => return,
            (false, _) => self.leg.recv(packet, info),
        };
    }

    fn wait(
        &mut self,
        mut tunnel: Option<&mut Connection>,
        is_so: impl Fn(&Connection, Option<&Connection>) -> bool,
    ) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(&self.leg, tunnel.as_deref()) {
            if Instant::now() > deadline {
                return Err("the handshake does not finish".into());
            }
            self.turn(tunnel.as_deref_mut())?;
        }
        Ok(())
    }

    fn wait_frame(&mut self, frames: &mut Frames, wanted: &str) -> Outcome<Value> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.turn(None)?;
            while let Some(frame) = frames.next(&mut self.leg)? {
                match frame.get("type").and_then(Value::as_str) {
                    Some(found) if found == wanted => return Ok(frame),
                    Some("failed") => return Err(format!("no {wanted}: {frame}").into()),
                    _ => {}
                }
            }
        }
        Err(format!("no {wanted} came").into())
    }
}

/// The control frames that came so far.
#[derive(Default)]
struct Frames {
    octets: Vec<u8>,
}

impl Frames {
    fn next(&mut self, quic: &mut Connection) -> Outcome<Option<Value>> {
        let mut buffer = [0; 4_096];
        while let Ok((length, _)) = quic.stream_recv(CONTROL_STREAM, &mut buffer) {
            self.octets.extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
        let Some((head, rest)) = self.octets.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*head))?;
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = serde_json::from_slice(body)?;
        self.octets.drain(..4 + length);
        Ok(Some(frame))
    }
}

fn send_frame(quic: &mut Connection, body: &Value) -> Outcome<()> {
    let body = body.to_string();
    let mut frame = u32::try_from(body.len())?.to_be_bytes().to_vec();
    frame.extend_from_slice(body.as_bytes());
    quic.stream_send(CONTROL_STREAM, &frame, false)?;
    Ok(())
}

/// Connection ids end in 0, channel ids in 1.
fn random_id(lowest_bit: u8) -> [u8; ID_BYTES] {
    let mut id = [0; ID_BYTES];
    fastrand::fill(&mut id);
    if let Some(last) = id.last_mut() {
        *last = *last & 0xfe | lowest_bit;
    }
    id
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn id_of(text: &str) -> Option<[u8; ID_BYTES]> {
    Some(u64::from_str_radix(text, 16).ok()?.to_be_bytes())
}

//! Load on a relay's channels: datagrams of the channel frame format from the legs' own addresses.
//!
//! Standard input lists the channels, a line each: `FROM TO ID`, the addresses of the two legs and the
//! id that the relay issued to the first. The legs' process has to be gone: their addresses are bound
//! here. `packets` counts what arrived at the far legs.
//!
//! `train` frames of one channel leave in one GSO send. Neighbouring sends differ in channel, source
//! and destination, so with `train=1` nothing on the way can be merged.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::udp::enlarge_buffers;

/// Frames on their way at once: enough to keep the relay busy, little enough for its socket buffer.
const WINDOW: usize = 1_024;

/// What has not arrived by then is lost.
const PATIENCE: Duration = Duration::from_millis(20);

/// Prefix of a channel frame and the smallest payload.
const FRAME_MIN: usize = 9 + 20;

/// `UDP_SEGMENT` and `UDP_GRO` of `linux/udp.h`.
const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;

pub(crate) fn run(options: &Options) -> io::Result<String> {
    let relay = options.address_of_relay();
    let size = options.size.max(FRAME_MIN);
    let mut load = Load::read(relay, size, options.train)?;

    let started = Instant::now();
    let (mut sent, mut received, mut under_way) = (0, 0, 0);
    let mut heard = started;
    while started.elapsed() < options.duration {
        while under_way + options.train <= WINDOW {
            load.send_next()?;
            under_way += options.train;
            sent += options.train;
        }
        let arrived = load.receive();
        received += arrived;
        under_way = under_way.saturating_sub(arrived);
        if arrived > 0 {
            heard = Instant::now();
        } else if heard.elapsed() > PATIENCE {
            under_way = 0;
        } else {
            // The relay may be waiting for this core.
            std::thread::yield_now();
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(format!(
        r#"{{"packets":{received},"packetsPerSecond":{:.0},"sent":{sent},"seconds":{seconds:.3}}}"#,
        received as f64 / seconds,
    ))
}

/// The least that forwards: what a relay's figures are compared with. One call takes a datagram or a
/// train, one sends it on; nothing is checked, limited or counted. Runs until it is killed.
pub(crate) fn forward(options: &Options) -> io::Result<String> {
    let mut destinations = HashMap::new();
    for line in io::stdin().lock().lines() {
        let (_, to, id) = parse(&line?).ok_or(io::ErrorKind::InvalidInput)?;
        destinations.insert(id.to_be_bytes(), to);
    }
    let socket = UdpSocket::bind(options.address_of_relay())?;
    enlarge_buffers(&socket);
    set(&socket, UDP_GRO, 1)?;
    set(&socket, UDP_SEGMENT, options.size.max(FRAME_MIN) as libc::c_int)?;
    println!("ready");

    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (length, _) = socket.recv_from(&mut buffer)?;
        let Some(train) = buffer.get(..length) else { continue };
        let id = train.get(1..9).and_then(|it| it.first_chunk::<8>());
        if let Some(to) = id.and_then(|it| destinations.get(it)) {
            // A full buffer is a lost datagram, as everywhere.
            let _ = socket.send_to(train, to);
        }
    }
}

struct Load {
    channels: Vec<Channel>,
    next: usize,
    senders: Vec<UdpSocket>,
    receivers: Vec<UdpSocket>,
    /// Octets of one frame.
    size: usize,
    buffer: Vec<u8>,
}

struct Channel {
    /// Index of its sender.
    sender: usize,
    /// The frames of one send.
    train: Vec<u8>,
}

impl Load {
    fn read(relay: SocketAddr, size: usize, train: usize) -> io::Result<Self> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        let mut cells = Vec::new();
        for line in io::stdin().lock().lines() {
            let (near, far, id) = parse(&line?).ok_or(io::ErrorKind::InvalidInput)?;
            let (row, column) = (index_of(&mut from, near), index_of(&mut to, far));
            cells.push((row, column, Channel { sender: row, train: frames(id, size, train) }));
        }
        // Diagonals of the table: neighbours share neither row nor column.
        let columns = to.len().max(1);
        cells.sort_by_key(|(row, column, _)| ((column + columns - row % columns) % columns, *row));

        let senders: Vec<_> = from.iter().map(|it| open(*it, relay)).collect::<io::Result<_>>()?;
        for socket in &senders {
            set(socket, UDP_SEGMENT, if train > 1 { size as libc::c_int } else { 0 })?;
        }
        let receivers: Vec<_> = to.iter().map(|it| open(*it, relay)).collect::<io::Result<_>>()?;
        for socket in &receivers {
            set(socket, UDP_GRO, 1)?;
        }
        let channels = cells.into_iter().map(|(_, _, channel)| channel).collect();
        let buffer = vec![0; usize::from(u16::MAX)];
        Ok(Self { channels, next: 0, senders, receivers, size, buffer })
    }

    fn send_next(&mut self) -> io::Result<()> {
        let channel = self.channels.get(self.next).ok_or(io::ErrorKind::InvalidInput)?;
        self.next = (self.next + 1) % self.channels.len();
        let socket = self.senders.get(channel.sender).ok_or(io::ErrorKind::InvalidInput)?;
        match socket.send(&channel.train) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Returns how many frames have arrived since the last call.
    fn receive(&mut self) -> usize {
        let mut frames = 0;
        for socket in &self.receivers {
            while let Ok(length) = socket.recv(&mut self.buffer) {
                // What else a relay says to its legs is shorter.
                if length >= self.size {
                    frames += length / self.size;
                }
            }
        }
        frames
    }
}

fn parse(line: &str) -> Option<(SocketAddr, SocketAddr, u64)> {
    let mut words = line.split(' ');
    let (from, to) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((from, to, u64::from_str_radix(words.next()?, 16).ok()?))
}

fn index_of(known: &mut Vec<SocketAddr>, address: SocketAddr) -> usize {
    known.iter().position(|it| *it == address).unwrap_or_else(|| {
        known.push(address);
        known.len() - 1
    })
}

/// The payload looks like a QUIC packet of a tunnel; a relay reads no more of it.
fn frames(id: u64, size: usize, count: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; size];
    if let Some(prefix) = frame.get_mut(1..9) {
        prefix.copy_from_slice(&id.to_be_bytes());
    }
    frame.repeat(count)
}

fn open(address: SocketAddr, relay: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    socket.connect(relay)?;
    socket.set_nonblocking(true)?;
    enlarge_buffers(&socket);
    Ok(socket)
}

fn set(socket: &UdpSocket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `socket` lives, and the pointer and the size are
    // those of an integer, which the call only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_the_shape_of_a_short_header_with_the_id_in_its_place() {
        let train = frames(0x0102_0304_0506_0709, FRAME_MIN, 2);

        assert_eq!(train.len(), 2 * FRAME_MIN);
        assert_eq!(train.get(..10), Some([0x5a, 1, 2, 3, 4, 5, 6, 7, 9, 0x5a].as_slice()));
    }

    #[test]
    fn a_line_names_both_legs_and_the_id() {
        let parsed = parse("127.0.1.1:9 127.0.2.1:10 00000000000000ff");

        let (from, to) = (([127, 0, 1, 1], 9).into(), ([127, 0, 2, 1], 10).into());
        assert_eq!(parsed, Some((from, to, 255)));
        assert_eq!(parse("127.0.1.1:9 127.0.2.1"), None);
    }
}

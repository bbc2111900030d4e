//! The near end over UDP, and batches of datagrams for both ends.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::options::{HEADER, Options};
use crate::server::Port;
use crate::summary::latency;

/// Loss that a rate may have and still count.
const LOSS_MAX: f64 = 0.01;

/// Datagrams handed to the system at once; as many as fit a tick at a million a second are several.
const BATCH: usize = 32;

/// Sends at a given rate, or searches the highest rate that loses less than 1 %.
pub(crate) fn rate(options: &Options) -> io::Result<String> {
    let (mut best, mut steps) = (Step::default(), 0);
    if options.rate > 0 {
        best = step(options, options.rate)?;
        steps = 1;
    } else {
        // By halves between what is known to pass and what is known to fail, to 3 %.
        let (mut low, mut high) = (0, options.rate_max);
        let mut next = options.rate_max / 4;
        while high - low > high / 32 && steps < 16 {
            let it = step(options, next)?;
            steps += 1;
            if it.loss() < LOSS_MAX && it.sent_per_second > f64::from(next) * 0.97 {
                low = next;
                best = it;
            } else {
                high = next;
            }
            next = low + (high - low) / 2;
        }
    }
    Ok(format!(
        r#"{{"packetsPerSecond":{:.0},"loss":{:.5},"sent":{},"received":{},"steps":{steps}}}"#,
        best.received as f64 / best.seconds.max(f64::MIN_POSITIVE),
        best.loss(),
        best.sent,
        best.received,
    ))
}

pub(crate) fn round_trips(options: &Options) -> io::Result<String> {
    let socket = connected(options.address(Port::UdpEcho))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let payload = vec![0x5a; options.size];
    let mut answer = vec![0; usize::from(u16::MAX)];
    let (mut samples, mut lost) = (Vec::new(), 0);
    let end = Instant::now() + options.duration;
    while Instant::now() < end {
        let sent = Instant::now();
        socket.send(&payload)?;
        match socket.recv(&mut answer) {
            Ok(_) => samples.push(sent.elapsed()),
            Err(_) => lost += 1,
        }
    }
    Ok(latency(&mut samples, lost))
}

#[derive(Default)]
struct Step {
    sent: u64,
    received: u64,
    seconds: f64,
    sent_per_second: f64,
}

impl Step {
    fn loss(&self) -> f64 {
        if self.sent == 0 { 1.0 } else { 1.0 - self.received as f64 / self.sent as f64 }
    }
}

fn step(options: &Options, rate: u32) -> io::Result<Step> {
    let socket = connected(options.address(Port::UdpSink))?;
    enlarge_buffers(&socket);
    let run = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_nanos() as u64);

    // The first datagram opens what has to be opened on the way.
    warm_up(options)?;
    let started = Instant::now();
    let sent = paced(&socket, rate, options, run)?;
    let seconds = started.elapsed().as_secs_f64();
    // What is under way arrives, or is lost.
    thread::sleep(Duration::from_millis(300));

    let mut control = TcpStream::connect(options.address(Port::UdpCount))?;
    control.write_all(&run.to_be_bytes())?;
    let mut count = [0; 8];
    control.read_exact(&mut count)?;
    let received = u64::from_be_bytes(count);
    Ok(Step { sent, received, seconds, sent_per_second: sent as f64 / seconds })
}

fn warm_up(options: &Options) -> io::Result<()> {
    let socket = connected(options.address(Port::UdpEcho))?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    for _ in 0..10 {
        socket.send(&[0; HEADER])?;
        if socket.recv(&mut [0; HEADER]).is_ok() {
            return Ok(());
        }
    }
    Err(io::Error::other("nothing came back"))
}

fn paced(socket: &UdpSocket, rate: u32, options: &Options, run: u64) -> io::Result<u64> {
    let mut batch = Batch::new(BATCH);
    let mut payload = vec![0x5a; options.size];
    let mut sent: u64 = 0;
    let started = Instant::now();
    loop {
        let elapsed = started.elapsed();
        if elapsed >= options.duration {
            return Ok(sent);
        }
        let due = (elapsed.as_secs_f64() * f64::from(rate)) as u64;
        let count = due.saturating_sub(sent).min(BATCH as u64) as usize;
        if count == 0 {
            thread::sleep(Duration::from_micros(100));
            continue;
        }
        if let Some((head, rest)) = payload.split_at_mut_checked(8) {
            head.copy_from_slice(&run.to_be_bytes());
            if let Some(sequence) = rest.first_chunk_mut::<8>() {
                *sequence = sent.to_be_bytes();
            }
        }
        sent += batch.send(socket, &payload, count)? as u64;
    }
}

fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let unspecified: SocketAddr =
        if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(unspecified)?;
    socket.connect(address)?;
    Ok(socket)
}

/// Best effort: as root the system's maximum does not hold.
pub(crate) fn enlarge_buffers(socket: &UdpSocket) {
    let size: libc::c_int = 8 << 20;
    for option in [libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF] {
        // SAFETY: the descriptor is open for as long as `socket` lives, and the pointer and the size
        // are those of an integer, which the call only reads.
        let _ = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                (&raw const size).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
    }
}

/// Room for several datagrams that cross to the system in one call.
pub(crate) struct Batch {
    buffers: Vec<Vec<u8>>,
    lengths: Vec<usize>,
}

impl Batch {
    pub(crate) fn new(count: usize) -> Self {
        Self { buffers: vec![vec![0; 2048]; count], lengths: vec![0; count] }
    }

    /// Waits for at least one datagram and returns how many came.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let mut slices: Vec<libc::iovec> = self
            .buffers
            .iter_mut()
            .map(|it| libc::iovec { iov_base: it.as_mut_ptr().cast(), iov_len: it.len() })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = slices.iter_mut().map(header).collect();
        // SAFETY: each header points to one slice, each slice to one buffer of its length; all live
        // and are not touched until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as libc::c_uint,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(received) {
            *length = header.msg_len as usize;
        }
        Ok(received)
    }

    pub(crate) fn payloads(&self, received: usize) -> impl Iterator<Item = &[u8]> {
        let pairs = self.buffers.iter().zip(&self.lengths).take(received);
        pairs.filter_map(|(buffer, length)| buffer.get(..*length))
    }

    /// Sends `payload` `count` times and returns how many the system took.
    pub(crate) fn send(
        &mut self,
        socket: &UdpSocket,
        payload: &[u8],
        count: usize,
    ) -> io::Result<usize> {
        let mut slice =
            libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
        let mut headers: Vec<libc::mmsghdr> = (0..count).map(|_| header(&mut slice)).collect();
        // SAFETY: every header points to the one slice, which points to `payload`; the call only
        // reads it, and all live until it returns.
        let sent = unsafe {
            libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count as libc::c_uint, 0)
        };
        match usize::try_from(sent) {
            Ok(sent) => Ok(sent),
            // Refused because of an earlier datagram, or no room: lost on the way out.
            Err(_) => match io::Error::last_os_error().raw_os_error() {
                Some(libc::ECONNREFUSED | libc::ENOBUFS | libc::EAGAIN) => Ok(count),
                _ => Err(io::Error::last_os_error()),
            },
        }
    }
}

fn header(slice: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all of its fields are integers and pointers, for which zero is a valid value.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = slice;
    header.msg_hdr.msg_iovlen = 1;
    header
}

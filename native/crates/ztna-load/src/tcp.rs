//! The near end over TCP.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::server::{CHUNK, Port, REQUEST};
use crate::summary::latency;

/// No test waits longer for one answer; that of the kernel to who does nothing but open is its own.
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts what the server has read, not what was written into a buffer on the way.
pub(crate) fn send(options: &Options) -> io::Result<String> {
    let address = options.address(Port::Sink);
    let (duration, cubic) = (options.duration, options.cubic);
    bulk(options, move || {
        let mut stream = open(address)?;
        if cubic {
            use_cubic(&stream)?;
        }
        let buffer = vec![0x5a; CHUNK];
        let end = Instant::now() + duration;
        while Instant::now() < end {
            stream.write_all(&buffer)?;
        }
        stream.shutdown(Shutdown::Write)?;
        let mut count = [0; 8];
        stream.read_exact(&mut count)?;
        Ok(u64::from_be_bytes(count))
    })
}

pub(crate) fn receive(options: &Options) -> io::Result<String> {
    let address = options.address(Port::Source);
    let (duration, cubic) = (options.duration, options.cubic);
    bulk(options, move || {
        let mut stream = open(address)?;
        if cubic {
            use_cubic(&stream)?;
        }
        let mut buffer = vec![0; CHUNK];
        let mut total = 0;
        let end = Instant::now() + duration;
        while Instant::now() < end {
            total += stream.read(&mut buffer)? as u64;
        }
        Ok(total)
    })
}

/// Opens and closes, as often as possible. The kernel's own patience: another takes three calls more.
pub(crate) fn connect(options: &Options) -> io::Result<String> {
    let address = options.address(Port::Connect);
    repeat(options, move || {
        linger_not(&TcpStream::connect(address)?);
        Ok(())
    })
}

/// Opens, exchanges one octet and closes, as often as possible.
pub(crate) fn connect_and_ask(options: &Options) -> io::Result<String> {
    let address = options.address(Port::Connect);
    repeat(options, move || {
        let mut stream = open(address)?;
        linger_not(&stream);
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])
    })
}

pub(crate) fn http(options: &Options) -> io::Result<String> {
    let address = options.address(Port::Http);
    let duration = options.duration;
    let started = Instant::now();
    let total = on_threads(options.connections, move || {
        let mut stream = open(address)?;
        let mut response = vec![0; HTTP_RESPONSE];
        let mut count = 0;
        let end = Instant::now() + duration;
        while Instant::now() < end {
            stream.write_all(REQUEST)?;
            stream.read_exact(&mut response)?;
            count += 1;
        }
        Ok(count)
    })?;
    Ok(rate(total, started.elapsed()))
}

/// Opens one connection and waits for its first octet: what a user waits for.
pub(crate) fn first_octet(options: &Options) -> io::Result<String> {
    let started = Instant::now();
    let mut stream = open(options.address(Port::Connect))?;
    stream.write_all(&[1])?;
    stream.read_exact(&mut [0])?;
    Ok(format!(r#"{{"ms":{:.3}}}"#, started.elapsed().as_secs_f64() * 1e3))
}

pub(crate) fn round_trips(options: &Options) -> io::Result<String> {
    let mut stream = open(options.address(Port::Echo))?;
    let mut samples = Vec::new();
    let end = Instant::now() + options.duration;
    while Instant::now() < end {
        let sent = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        samples.push(sent.elapsed());
    }
    Ok(latency(&mut samples, 0))
}

fn bulk(
    options: &Options,
    transfer: impl Fn() -> io::Result<u64> + Clone + Send + 'static,
) -> io::Result<String> {
    let started = Instant::now();
    let octets = on_threads(options.connections, transfer)?;
    let elapsed = started.elapsed().as_secs_f64();
    Ok(format!(
        r#"{{"mbitPerSecond":{:.1},"bytes":{octets},"seconds":{elapsed:.3}}}"#,
        octets as f64 * 8.0 / 1e6 / elapsed,
    ))
}

fn repeat(
    options: &Options,
    once: impl Fn() -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<String> {
    let duration = options.duration;
    let started = Instant::now();
    let count = on_threads(options.connections, move || {
        let mut count = 0;
        let end = Instant::now() + duration;
        while Instant::now() < end {
            once()?;
            count += 1;
        }
        Ok(count)
    })?;
    Ok(rate(count, started.elapsed()))
}

fn rate(count: u64, elapsed: Duration) -> String {
    format!(r#"{{"perSecond":{:.1},"count":{count}}}"#, count as f64 / elapsed.as_secs_f64())
}

/// Runs `work` on `count` threads at once and returns the sum of what they say.
fn on_threads(
    count: usize,
    work: impl Fn() -> io::Result<u64> + Clone + Send + 'static,
) -> io::Result<u64> {
    let threads: Vec<_> = (0..count).map(|_| thread::spawn(work.clone())).collect();
    let mut total = 0;
    for it in threads {
        total += it.join().map_err(|_| io::Error::other("a thread panicked"))??;
    }
    Ok(total)
}

fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Fails where the kernel has none. What is accepted on a listener takes it from there.
pub(crate) fn use_cubic(socket: &impl AsRawFd) -> io::Result<()> {
    let name = c"cubic";
    // SAFETY: the descriptor is open for as long as `socket` lives, and the pointer and the size are
    // those of a string, which the call only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.count_bytes() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has it closed by RST: ports in TIME_WAIT would run out before a test ends.
fn linger_not(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the descriptor is open for as long as `stream` lives, and the pointer and the size are
    // those of a `linger`, which the call only reads.
    let _ = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
}

/// Head and body of what the server answers.
const HTTP_RESPONSE: usize = 40 + 128;

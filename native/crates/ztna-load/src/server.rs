//! The far end: what a service would be.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::options::{HEADER, Options};
use crate::tcp::use_cubic;
use crate::udp::{Batch, enlarge_buffers};

/// Ports, counted from the base.
#[derive(Clone, Copy)]
pub(crate) enum Port {
    /// TCP: reads to the end, then answers with the count (u64).
    Sink = 0,
    /// TCP: sends until it is closed.
    Source = 1,
    /// TCP: sends back what comes, on one connection after another.
    Echo = 2,
    /// TCP: answers each request with 128 octets of body.
    Http = 3,
    /// TCP: answers one octet, if it comes, and closes.
    Connect = 4,
    /// UDP: sends back what comes.
    UdpEcho = 5,
    /// UDP: counts by run.
    UdpSink = 6,
    /// TCP: takes the number of a run (u64), answers how many datagrams of it came (u64).
    UdpCount = 7,
}

/// Octets of one write or read of bulk data.
pub(crate) const CHUNK: usize = 128 * 1024;

/// The request of the HTTP test, and what ends it.
pub(crate) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: load.example\r\n\r\n";

type Counts = Arc<Mutex<HashMap<u64, u64>>>;

pub(crate) fn serve(options: &Options) -> io::Result<String> {
    let counts = Counts::default();
    let counted = Arc::clone(&counts);

    per_connection(options, Port::Sink, sink)?;
    per_connection(options, Port::Source, source)?;
    per_connection(options, Port::Echo, echo)?;
    per_connection(options, Port::Http, http)?;
    per_connection(options, Port::UdpCount, move |stream| report(stream, &counted))?;
    accept_and_answer(options)?;

    let echo_socket = UdpSocket::bind(options.address(Port::UdpEcho))?;
    thread::spawn(move || udp_echo(&echo_socket));
    let sink_socket = UdpSocket::bind(options.address(Port::UdpSink))?;
    enlarge_buffers(&sink_socket);
    println!("ready");
    udp_sink(&sink_socket, &counts)?;
    Ok("{}".to_owned())
}

fn per_connection(
    options: &Options,
    port: Port,
    handle: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind(options.address(port))?;
    if options.cubic {
        use_cubic(&listener)?;
    }
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = handle.clone();
            // A connection that breaks off is the client's to notice.
            thread::spawn(move || stream.set_nodelay(true).and_then(|()| handle(stream)));
        }
    });
    Ok(())
}

/// A fixed number of threads: making one for each connection would be what is measured.
fn accept_and_answer(options: &Options) -> io::Result<()> {
    let listener = Arc::new(TcpListener::bind(options.address(Port::Connect))?);
    lengthen_backlog(&listener)?;
    for _ in 0..16 {
        let listener = Arc::clone(&listener);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut octet = [0];
                let _ = stream
                    .set_read_timeout(Some(Duration::from_secs(2)))
                    .and_then(|()| stream.read_exact(&mut octet))
                    .and_then(|()| stream.write_all(&octet));
            }
        });
    }
    Ok(())
}

/// The standard library's is 128: what clients open in the slice of a thread. A SYN beyond it waits for a
/// second.
fn lengthen_backlog(listener: &TcpListener) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `listener` lives, and the call takes no pointer.
    let result = unsafe { libc::listen(listener.as_raw_fd(), 4096) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn sink(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut total: u64 = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.write_all(&total.to_be_bytes()),
            count => total += count as u64,
        }
    }
}

fn source(mut stream: TcpStream) -> io::Result<()> {
    let buffer = vec![0x5a; CHUNK];
    loop {
        stream.write_all(&buffer)?;
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = stream.read(&mut buffer)?;
        match buffer.get(..count) {
            Some(octets) if count > 0 => stream.write_all(octets)?,
            _ => return Ok(()),
        }
    }
}

fn http(mut stream: TcpStream) -> io::Result<()> {
    let response =
        [b"HTTP/1.1 200 OK\r\ncontent-length: 128\r\n\r\n".as_slice(), &[b'x'; 128]].concat();
    let mut request = [0; REQUEST.len()];
    while stream.read_exact(&mut request).is_ok() {
        stream.write_all(&response)?;
    }
    Ok(())
}

fn report(mut stream: TcpStream, counts: &Counts) -> io::Result<()> {
    let mut run = [0; 8];
    stream.read_exact(&mut run)?;
    let count = {
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked once: the table holds the runs under way only.
        counts.remove(&u64::from_be_bytes(run)).unwrap_or(0)
    };
    stream.write_all(&count.to_be_bytes())
}

fn udp_echo(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let (count, from) = socket.recv_from(&mut buffer)?;
        if let Some(octets) = buffer.get(..count) {
            // A full buffer is a lost datagram, as everywhere.
            let _ = socket.send_to(octets, from);
        }
    }
}

fn udp_sink(socket: &UdpSocket, counts: &Counts) -> io::Result<()> {
    let mut batch = Batch::new(64);
    loop {
        let received = batch.receive(socket)?;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        for octets in batch.payloads(received).filter(|it| it.len() >= HEADER) {
            if let Some(run) = octets.first_chunk::<8>() {
                *counts.entry(u64::from_be_bytes(*run)).or_default() += 1;
            }
        }
    }
}

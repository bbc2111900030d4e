//! UDP sockets towards applications and backends.
//!
//! - **Datagrams pass as they are.** Unlike the tunnel's own packets they may be fragmented: their sizes
//!   are the application's choice, not ours.
//! - **Many datagrams a system call**: receiving fills a batch of GRO trains, sending joins neighbours
//!   of equal size by GSO.
//! - **Nothing that fails is repeated later.** A full socket buffer or a refusing host drops datagrams,
//!   as any network may; the count says how many left.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

use crate::socket_option;

/// Trains that one call receives.
const TRAINS: usize = 16;

/// Largest train: an IP packet's length has 16 bits.
const TRAIN_BYTES: usize = 65_536;

/// Largest train sent: with its headers it is still an IP packet.
const SEND_TRAIN_BYTES: usize = 64_000;

/// What one call received. Made once and used for every socket: it is large.
#[derive(Debug)]
pub(crate) struct UdpBatch {
    storage: Box<[u8]>,
    metas: [RecvMeta; TRAINS],
    filled: usize,
}

/// One datagram of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct UserDatagram<'a> {
    /// Who sent it.
    pub source: SocketAddr,
    /// The local address it was sent to: answers leave by it.
    pub local: Option<IpAddr>,
    /// Its payload, which may be empty.
    pub octets: &'a [u8],
}

impl UdpBatch {
    /// Creates an empty batch.
    pub(crate) fn new() -> Self {
        Self {
            storage: vec![0; TRAINS * TRAIN_BYTES].into_boxed_slice(),
            metas: [RecvMeta::default(); TRAINS],
            filled: 0,
        }
    }

    /// Returns the datagrams of the last receive call, in the order of their arrival.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = UserDatagram<'_>> {
        let trains = self.storage.chunks(TRAIN_BYTES).zip(&self.metas).take(self.filled);
        trains.flat_map(|(storage, meta)| {
            let train = storage.get(..meta.len).unwrap_or_default();
            // `chunks` gives nothing for an empty train, which is an empty datagram.
            let empty = train.is_empty().then_some(train);
            train.chunks(meta.stride.max(1)).chain(empty).map(|octets| UserDatagram {
                source: meta.addr,
                local: meta.dst_ip,
                octets,
            })
        })
    }
}

impl Default for UdpBatch {
    fn default() -> Self {
        Self::new()
    }
}

/// A registered socket.
#[derive(Debug)]
pub(crate) struct UserUdp {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl UserUdp {
    pub(crate) fn open(
        socket: std::net::UdpSocket,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        allow_fragments(&socket)?;
        let mut socket = UdpSocket::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { socket, state })
    }

    pub(crate) const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Fills `batch` and returns whether anything arrived; if so there may be more.
    pub(crate) fn receive(&self, batch: &mut UdpBatch) -> io::Result<bool> {
        batch.filled = 0;
        let mut slices = batch.storage.chunks_mut(TRAIN_BYTES);
        let mut slices: [IoSliceMut<'_>; TRAINS] =
            std::array::from_fn(|_| IoSliceMut::new(slices.next().unwrap_or_default()));
        match self.state.recv((&self.socket).into(), &mut slices, &mut batch.metas) {
            Ok(filled) => {
                batch.filled = filled;
                Ok(filled > 0)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends datagrams to one destination and returns how many left, and what stopped the next one.
    pub(crate) fn send(
        &self,
        datagrams: &[&[u8]],
        destination: SocketAddr,
        local: Option<IpAddr>,
        scratch: &mut Vec<u8>,
    ) -> (usize, io::Result<()>) {
        let mut sent = 0;
        while let Some(rest) = datagrams.get(sent..)
            && let Some(first) = rest.first()
        {
            let count = train_length(rest, self.state.max_gso_segments());
            let contents = if count > 1 {
                scratch.clear();
                for datagram in rest.iter().take(count) {
                    scratch.extend_from_slice(datagram);
                }
                scratch.as_slice()
            } else {
                first
            };
            let transmit = Transmit {
                destination,
                ecn: None,
                contents,
                segment_size: (count > 1).then_some(first.len()),
                src_ip: local,
            };
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => sent += count,
                // The way out cannot do GSO for this size: one by one, and so from here on if it is
                // the device and not the size.
                Err(error) if count > 1 && is_gso_error(&error) => {
                    for datagram in rest.iter().take(count) {
                        let single =
                            Transmit { contents: datagram, segment_size: None, ..transmit.clone() };
                        if let Err(error) = self.state.try_send((&self.socket).into(), &single) {
                            return (sent, Err(error));
                        }
                        sent += 1;
                    }
                }
                Err(error) => return (sent, Err(error)),
            }
        }
        (sent, Ok(()))
    }
}

/// Returns how many of the first datagrams may leave as one train: equal sizes, of which the last may
/// be smaller.
fn train_length(datagrams: &[&[u8]], segments_max: usize) -> usize {
    let size = datagrams.first().map_or(0, |first| first.len());
    if size == 0 {
        return 1;
    }
    let mut count = 0;
    for datagram in datagrams.iter().take(segments_max.min(SEND_TRAIN_BYTES / size)) {
        if datagram.is_empty() || datagram.len() > size {
            break;
        }
        count += 1;
        if datagram.len() < size {
            break;
        }
    }
    count.max(1)
}

fn is_gso_error(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL | libc::EMSGSIZE))
}

/// Takes back what `UdpSocketState` sets for QUIC's sake: no fragments, and a time-stamp a packet.
fn allow_fragments(socket: &std::net::UdpSocket) -> io::Result<()> {
    // Best effort: not every kernel has time-stamps.
    let _ = socket_option::set(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 0);
    if socket.local_addr()?.is_ipv4() {
        return socket_option::set(
            socket,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_WANT,
        );
    }
    socket_option::set(
        socket,
        libc::IPPROTO_IPV6,
        libc::IPV6_MTU_DISCOVER,
        libc::IPV6_PMTUDISC_WANT,
    )?;
    socket_option::set(socket, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_equal_size_make_a_train_and_a_smaller_one_ends_it() {
        let (large, small, empty): (&[u8], &[u8], &[u8]) = (&[0; 100], &[0; 60], &[]);
        for (datagrams, expected) in [
            (vec![large], 1),
            (vec![large, large, large], 3),
            (vec![large, large, small, large], 3),
            (vec![small, large], 1),
            (vec![large, empty], 1),
            (vec![empty, empty], 1),
        ] {
            assert_eq!(train_length(&datagrams, 64), expected, "{:?}", lengths(&datagrams));
        }
    }

    #[test]
    fn a_train_keeps_the_bounds_of_the_kernel() {
        let datagram: &[u8] = &[0; 1_200];
        assert_eq!(train_length(&[datagram; 80], 64), 53, "64,000 octets");
        assert_eq!(train_length(&[&[0; 10][..]; 80], 64), 64, "segments");
        assert_eq!(train_length(&[datagram; 80], 1), 1, "no GSO");
        assert_eq!(train_length(&[&[0; 65_000][..]; 2], 64), 1, "larger than any train");
    }

    #[test]
    fn datagrams_may_be_fragmented() {
        let poll = mio::Poll::new().unwrap();
        for (address, level, name, fragments) in [
            ("127.0.0.1:0", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_WANT),
            ("[::1]:0", libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_WANT),
            ("[::1]:0", libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 0),
        ] {
            let socket = std::net::UdpSocket::bind(address).unwrap();
            let socket = UserUdp::open(socket, poll.registry(), Token(0)).unwrap();

            assert_eq!(
                socket_option::get(socket.socket(), level, name),
                fragments,
                "{address} {name}"
            );
        }
    }

    fn lengths(datagrams: &[&[u8]]) -> Vec<usize> {
        datagrams.iter().map(|datagram| datagram.len()).collect()
    }
}

//! A wire between a client and a relay that can be cut.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::harness::loopback;

/// Carries datagrams both ways between one client and one server.
pub(crate) struct Wire {
    /// Where the client finds the server.
    pub(crate) address: SocketAddr,
    cut: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    pub(crate) fn to(server: SocketAddr) -> Self {
        let (near, far) = (bind(), bind());
        far.connect(server).expect("it is loopback");
        let address = near.local_addr().expect("it is bound");
        let (cut, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));

        // The first datagram tells where the client is; a second thread carries the answers.
        let (up, up_far, up_cut, up_stop) =
            (share(&near), share(&far), Arc::clone(&cut), Arc::clone(&stop));
        let forward = std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            let mut answers: Option<JoinHandle<()>> = None;
            while !up_stop.load(Ordering::Relaxed) {
                let Ok((length, client)) = up.recv_from(&mut buffer) else { continue };
                answers.get_or_insert_with(|| {
                    let (from, to) = (share(&up_far), share(&up));
                    let (cut, stop) = (Arc::clone(&up_cut), Arc::clone(&up_stop));
                    std::thread::spawn(move || carry_back(&from, &to, client, &cut, &stop))
                });
                if !up_cut.load(Ordering::Relaxed) {
                    // Refused while nobody listens: lost, like any datagram.
                    let _ = up_far.send(&buffer[..length]);
                }
            }
            answers.map(JoinHandle::join);
        });
        Self { address, cut, stop, threads: vec![forward] }
    }

    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn mend(&self) {
        self.cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic there was printed.
            let _ = thread.join();
        }
    }
}

fn carry_back(
    from: &UdpSocket,
    to: &UdpSocket,
    client: SocketAddr,
    cut: &AtomicBool,
    stop: &AtomicBool,
) {
    let mut buffer = [0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = from.recv(&mut buffer) else { continue };
        if !cut.load(Ordering::Relaxed) {
            let _ = to.send_to(&buffer[..length], client);
        }
    }
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind(loopback(0)).expect("loopback has room");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("it is not zero");
    socket
}

fn share(socket: &UdpSocket) -> UdpSocket {
    socket.try_clone().expect("descriptors are left")
}

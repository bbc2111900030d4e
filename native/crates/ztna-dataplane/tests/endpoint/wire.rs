//! A wire between a client and a relay that can be cut.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::harness::loopback;

/// Carries datagrams both ways between one client and one server.
pub(crate) struct Wire {
    /// Where the client finds the server.
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    stop: AtomicBool,
    up: Quiet,
    down: Quiet,
}

/// How often a direction waited for a datagram in vain.
#[derive(Default)]
struct Quiet(AtomicUsize);

impl Wire {
    pub(crate) fn to(server: SocketAddr) -> Self {
        let (near, far) = (bind(), bind());
        far.connect(server).expect("it is loopback");
        let address = near.local_addr().expect("it is bound");
        let state = Arc::new(State::default());

        // The first datagram tells where the client is; a second thread carries the answers.
        let shared = Arc::clone(&state);
        let forward = std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            let mut answers: Option<JoinHandle<()>> = None;
            while !shared.stop.load(Ordering::SeqCst) {
                let outcome = near.recv_from(&mut buffer);
                let Some((length, client)) = shared.up.note(outcome) else { continue };
                answers.get_or_insert_with(|| {
                    let (from, to, shared) = (share(&far), share(&near), Arc::clone(&shared));
                    std::thread::spawn(move || carry_back(&from, &to, client, &shared))
                });
                if !shared.cut.load(Ordering::SeqCst) {
                    // Refused while nobody listens: lost, like any datagram.
                    let _ = far.send(&buffer[..length]);
                }
            }
            answers.map(JoinHandle::join);
        });
        Self { address, state, threads: vec![forward] }
    }

    pub(crate) fn cut(&self) {
        self.state.cut.store(true, Ordering::SeqCst);
    }

    /// Carries datagrams again, but none that was sent before. The wire has carried some.
    pub(crate) fn mend(&self) {
        self.state.up.wait();
        self.state.down.wait();
        self.state.cut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            // A panic there was printed.
            let _ = thread.join();
        }
    }
}

impl Quiet {
    fn note<T>(&self, outcome: io::Result<T>) -> Option<T> {
        match outcome {
            Ok(received) => Some(received),
            Err(error) => {
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                    self.0.fetch_add(1, Ordering::SeqCst);
                }
                None
            }
        }
    }

    /// Returns when nothing that was sent before is still in the socket.
    fn wait(&self) {
        // The next time may tell of a wait that was over before the last datagram came.
        let enough = self.0.load(Ordering::SeqCst) + 2;
        while self.0.load(Ordering::SeqCst) < enough {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn carry_back(from: &UdpSocket, to: &UdpSocket, client: SocketAddr, state: &State) {
    let mut buffer = [0; 65_536];
    while !state.stop.load(Ordering::SeqCst) {
        let Some(length) = state.down.note(from.recv(&mut buffer)) else { continue };
        if !state.cut.load(Ordering::SeqCst) {
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

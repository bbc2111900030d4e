//! Connections that are closed before their handshake is confirmed.

use quiche::{ConnectionId, RecvInfo};

use crate::buffer_count::Meter;
use crate::connection::{Connection, Kind, Leg, Quic, VIRTUAL_LOCAL, VIRTUAL_PEER};
use crate::endpoint::plane::{clock, unix_time};
use crate::id::ConnectionHandle;
use crate::testing::pki::{Authority, LeafSpec};
use crate::tls::TlsContext;

const PACKETS_MAX: usize = 10;

#[test]
fn a_client_that_closes_when_its_handshake_wants_a_probe_says_so_and_is_silent() {
    let mut pair = unconfirmed();
    pair.wait_for_probe();

    pair.client.close(2, "not you");

    let packets = pair.packets();
    assert!(packets.len() < PACKETS_MAX, "{} packets", packets.len());
    pair.deliver(packets);
    assert_eq!(pair.server.peer_error().map(|it| it.error_code), Some(2));
}

#[test]
fn a_client_whose_close_is_lost_is_silent_when_its_handshake_wants_a_probe() {
    let mut pair = unconfirmed();
    // It has closed, and nothing of that was sent.
    pair.client.quic.close(true, 2, b"").unwrap();
    pair.wait_for_probe();

    assert!(pair.packets().len() < PACKETS_MAX);
}

struct Pair {
    client: Connection,
    server: Quic,
}

impl Pair {
    /// Waits until the client's handshake was not answered for long enough.
    fn wait_for_probe(&mut self) {
        let due = self.client.quic.timeout_instant().unwrap();
        std::thread::sleep(due.saturating_duration_since(clock()));
        self.client.quic.on_timeout();
    }

    fn packets(&mut self) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut packet = [0; 1_500];
        while packets.len() < PACKETS_MAX
            && let Some(length) = self.client.poll_packet(&mut packet)
        {
            packets.push(packet[..length].to_vec());
        }
        packets
    }

    fn deliver(&mut self, packets: Vec<Vec<u8>>) {
        for mut packet in packets {
            let info = RecvInfo { from: VIRTUAL_LOCAL, to: VIRTUAL_PEER };
            let _ = self.server.recv(&mut packet, info);
        }
    }
}

/// A client that has all of the server's handshake, and a server that has not said that it has the
/// client's.
fn unconfirmed() -> Pair {
    let ca = Authority::new("test");
    let unix = unix_time();
    let (not_before, not_after) = (unix - 3_600, unix + 3_600);
    let issue = |spec: LeafSpec| ca.issue(&LeafSpec { not_before, not_after, ..spec });
    let context = |spec| TlsContext::new(&issue(spec).material(&[&ca], &[]), unix).unwrap();
    let mut agent = context(LeafSpec::agent("alice"));
    let mut rack = context(LeafSpec::connector("rack"));
    let id = ConnectionId::from_ref(&[1; 8]);
    let quic =
        quiche::connect(None, &id, VIRTUAL_LOCAL, VIRTUAL_PEER, agent.tunnel_client(true)).unwrap();
    let id = ConnectionId::from_ref(&[2; 8]);
    let mut server =
        quiche::accept(&id, None, VIRTUAL_PEER, VIRTUAL_LOCAL, rack.tunnel_server(true)).unwrap();
    let leg = Leg { remote: VIRTUAL_PEER, port: 0, src_ip: None, ping_deadline: None };
    let handle = ConnectionHandle(1);
    let mut client = Connection::new(handle, quic, false, Kind::Leg(leg), Meter::new());

    let mut buffer = [0; 1_500];
    while !client.quic.is_established() {
        while let Ok((length, _)) = client.quic.send(&mut buffer) {
            let info = RecvInfo { from: VIRTUAL_LOCAL, to: VIRTUAL_PEER };
            server.recv(&mut buffer[..length], info).unwrap();
        }
        while let Ok((length, _)) = server.send(&mut buffer) {
            let info = RecvInfo { from: VIRTUAL_PEER, to: VIRTUAL_LOCAL };
            client.quic.recv(&mut buffer[..length], info).unwrap();
        }
    }
    let mut pair = Pair { client, server };
    let packets = pair.packets();
    pair.deliver(packets);
    assert!(pair.server.is_established());
    pair
}

//! Two QUIC connections that exchange their packets in memory, without loss or delay.

use std::net::{Ipv4Addr, SocketAddr};

use quiche::{Config, Connection, ConnectionId, RecvInfo};

/// Where the client seems to be.
pub const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1_000);

/// Where the server seems to be.
pub const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4_433);

/// A client and a server.
pub struct Pair {
    /// Who dialled.
    pub client: Connection,
    /// Who accepted.
    pub server: Connection,
}

impl Pair {
    /// Makes two connections that have not exchanged anything yet.
    pub fn new(client: &mut Config, server: &mut Config) -> Self {
        Self::with_ids([2; 8], [4; 8], client, server)
    }

    /// Makes two connections with connection ids of the caller's choice.
    pub fn with_ids(
        client_id: [u8; 8],
        server_id: [u8; 8],
        client: &mut Config,
        server: &mut Config,
    ) -> Self {
        let client_id = ConnectionId::from_ref(&client_id);
        let server_id = ConnectionId::from_ref(&server_id);
        Self {
            client: quiche::connect(None, &client_id, CLIENT, SERVER, client)
                .expect("the configuration is sane"),
            server: quiche::accept(&server_id, None, SERVER, CLIENT, server)
                .expect("the configuration is sane"),
        }
    }

    /// Delivers packets both ways until neither side has one, and returns whether both sides are
    /// established and open.
    pub fn run(&mut self) -> bool {
        while self.deliver() {}
        let up = |connection: &Connection| {
            connection.is_established() && connection.local_error().is_none()
        };
        up(&self.client) && up(&self.server) && self.client.peer_error().is_none()
    }

    /// Delivers what both sides have to send at this moment, and returns whether that was anything.
    pub fn deliver(&mut self) -> bool {
        let up = flush(&mut self.client, &mut self.server, CLIENT, SERVER);
        let down = flush(&mut self.server, &mut self.client, SERVER, CLIENT);
        up || down
    }
}

fn flush(
    from: &mut Connection,
    to: &mut Connection,
    source: SocketAddr,
    target: SocketAddr,
) -> bool {
    let mut buffer = [0; 1_500];
    let mut any = false;
    while let Ok((length, _)) = from.send(&mut buffer) {
        any = true;
        let packet = buffer.get_mut(..length).expect("quiche stays inside the buffer");
        // A refused handshake is an error here and a close frame in the next packets.
        let _refused = to.recv(packet, RecvInfo { from: source, to: target });
    }
    any
}

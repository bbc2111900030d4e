//! A client that brings a ticket, and early data with it, from a server that hands them out and
//! shares the relay's ticket key: everything that could make resumption succeed, does.

use boring::ssl::SslOptions;
use quiche::RecvInfo;

use super::*;
use crate::testing::quic::{CLIENT, Pair, SERVER};
use crate::tls::refusal_of;

const TICKET_KEY: [u8; 48] = [9; 48];

#[test]
fn a_server_that_hands_out_tickets_would_read_early_data() {
    let world = World::new();
    let mut server = world.lenient_server();

    let readable = world.early_data_read_by(&mut server);

    assert!(readable, "the test below would prove nothing");
}

#[test]
fn early_data_of_a_client_with_a_ticket_are_never_read() {
    let world = World::new();
    let mut relay = world.relay(&[]);
    let server = relay.leg_server(1);
    server.set_ticket_key(&TICKET_KEY).unwrap();

    assert!(!world.early_data_read_by(server));
}

#[test]
fn a_ticket_leads_to_a_full_handshake_that_judges_the_certificate_again() {
    let world = World::new();
    let ticket = world.ticket();
    let mut relay = world.relay(&[]);
    relay.leg_server(1).set_ticket_key(&TICKET_KEY).unwrap();
    let mut revoking = world.relay(&[world.alice.revoked_key()]);
    revoking.leg_server(1).set_ticket_key(&TICKET_KEY).unwrap();

    let mut pair = Pair::new(&mut world.client(), relay.leg_server(1));
    pair.client.set_session(&ticket).unwrap();
    assert!(pair.run());
    assert!(!pair.server.is_resumed() && !pair.client.is_resumed());
    assert_eq!(pair.client.session(), None, "no ticket was handed out");

    let mut pair = Pair::new(&mut world.client(), revoking.leg_server(1));
    pair.client.set_session(&ticket).unwrap();
    assert!(!pair.run());
    assert_eq!(refusal_of(&mut pair.server).unwrap().reason, "revoked");
}

struct World {
    ca: Authority,
    alice: Identity,
    relay: Identity,
}

impl World {
    fn new() -> Self {
        let ca = Authority::new("ca");
        let (alice, relay) = (ca.issue(&LeafSpec::agent("a")), ca.issue(&LeafSpec::relay("r")));
        Self { ca, alice, relay }
    }

    fn relay(&self, revoked: &[crate::command::Revocation]) -> TlsContext {
        TlsContext::new(&self.relay.material(&[&self.ca], revoked), NOW).unwrap()
    }

    fn lenient_server(&self) -> Config {
        let mut config = self.lenient(&self.relay, End::Server);
        config.set_ticket_key(&TICKET_KEY).unwrap();
        config
    }

    fn client(&self) -> Config {
        self.lenient(&self.alice, End::Client)
    }

    fn lenient(&self, identity: &Identity, end: End) -> Config {
        let material = identity.material(&[&self.ca], &[]);
        let own = OwnIdentity::read(&material, NOW).unwrap();
        let roots = read_roots(&material.roots_pem).unwrap();
        let judge = Arc::new(Judge::new(&roots, &[], NOW).unwrap().unwrap());
        let mut builder = own.ssl_context(&judge, end).unwrap();
        builder.clear_options(SslOptions::NO_TICKET);
        let mut config = leg(builder, end);
        config.enable_early_data();
        config
    }

    fn ticket(&self) -> Vec<u8> {
        let mut pair = Pair::new(&mut self.client(), &mut self.lenient_server());
        assert!(pair.run());
        pair.client.session().unwrap().to_vec()
    }

    /// Sends a first flight with early data and returns whether `server` can read any of it.
    fn early_data_read_by(&self, server: &mut Config) -> bool {
        let mut pair = Pair::new(&mut self.client(), server);
        pair.client.set_session(&self.ticket()).unwrap();
        let mut packet = [0; 1_500];
        let mut datagrams = 0;
        loop {
            if pair.client.is_in_early_data() {
                let _full = pair.client.stream_send(0, b"GET", true);
            }
            let Ok((length, _)) = pair.client.send(&mut packet) else { break };
            datagrams += 1;
            let info = RecvInfo { from: CLIENT, to: SERVER };
            pair.server.recv(&mut packet[..length], info).unwrap();
        }
        assert!(pair.client.is_in_early_data() && datagrams > 0);
        let early = pair.server.is_in_early_data();
        assert!(!pair.server.is_established());
        early && pair.server.stream_recv(0, &mut packet).is_ok()
    }
}

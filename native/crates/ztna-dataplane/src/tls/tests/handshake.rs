use boring::ssl::{SslContextBuilder, SslMethod, SslRef, SslVerifyMode};
use quiche::Config;

use super::*;
use crate::command::Revocation;
use crate::testing::pki::KeyKind;
use crate::testing::quic::Pair;
use crate::tls::refusal::alert_name;
use crate::tls::{Refusal, refusal_of};

const DAY: i64 = 86_400;

#[test]
fn legs_and_tunnels_come_up_between_certificates_of_one_ca() {
    let ca = Authority::new("ca");
    let mut agent = context(&ca, &LeafSpec::agent("alice"));
    let mut connector = context(&ca, &LeafSpec::connector("c"));
    let mut relay = context(&ca, &LeafSpec::relay("r"));

    assert!(Pair::new(agent.leg_client(), relay.leg_server(1)).run());
    assert!(Pair::new(connector.leg_client(), relay.leg_server(1)).run());
    assert!(Pair::new(agent.tunnel_client(true), connector.tunnel_server(true)).run());
}

#[test]
fn neighbours_have_a_larger_window_and_every_tunnel_the_one_it_was_started_with() {
    let ca = Authority::new("ca");
    let mut agent = context(&ca, &LeafSpec::agent("alice"));
    let mut connector = context(&ca, &LeafSpec::connector("c"));
    let windows = |pair: &Pair| {
        [&pair.client, &pair.server].map(|it| it.path_stats().next().unwrap().cwnd / 1_200)
    };

    let near = Pair::new(agent.tunnel_client(true), connector.tunnel_server(true));
    let far = Pair::new(agent.tunnel_client(false), connector.tunnel_server(false));

    assert!(windows(&near).into_iter().all(|packets| packets >= 256), "{:?}", windows(&near));
    assert!(windows(&far).into_iter().all(|packets| packets <= 13), "{:?}", windows(&far));
}

#[test]
fn every_kind_of_key_that_the_protocol_takes_can_sign_at_both_ends() {
    let kinds = [KeyKind::P256, KeyKind::P384, KeyKind::Ed25519, KeyKind::Rsa(2_048)];
    for ca_kind in [KeyKind::P256, KeyKind::Ed25519, KeyKind::Rsa(2_048)] {
        let ca = Authority::with_key("ca", ca_kind);
        for kind in kinds {
            let mut agent = context(&ca, &LeafSpec::agent("alice").with_key(kind));
            let mut relay = context(&ca, &LeafSpec::relay("r").with_key(kind));

            assert!(
                Pair::new(agent.leg_client(), relay.leg_server(1)).run(),
                "{kind:?} under {ca_kind:?}"
            );
        }
    }
}

#[test]
fn a_leaf_as_cert_manager_makes_it_works_below_an_intermediate() {
    let root = Authority::with_key("root", KeyKind::Rsa(2_048));
    let issuing = root.intermediate("issuing", KeyKind::Rsa(2_048));
    let spec = LeafSpec::connector("web").with_key(KeyKind::Rsa(2_048)).dns("connector.web.ztna");
    let material = issuing.issue(&spec).material(&[&root], &[]);
    let mut connector = TlsContext::new(&material, NOW).unwrap();
    let mut relay = context(&root, &LeafSpec::relay("r"));

    let mut pair = Pair::new(connector.leg_client(), relay.leg_server(1));

    assert!(pair.run());
    let chain = pair.server.peer_cert_chain().unwrap();
    assert_eq!(chain.len(), 2);
    let leaf = relay.judge(&chain, true, NOW).unwrap();
    assert_eq!(leaf.dns_names, ["connector.web.ztna"]);
}

#[test]
fn a_client_without_a_certificate_fails_with_alert_116() {
    let ca = Authority::new("ca");
    let mut relay = context(&ca, &LeafSpec::relay("r"));
    let mut connector = context(&ca, &LeafSpec::connector("c"));

    let mut pair = Pair::new(&mut anonymous(profile::apply_leg), relay.leg_server(1));
    assert!(!pair.run());
    assert_eq!(refusal_of(&mut pair.server).unwrap().reason, "no-certificate");
    assert_eq!(pair.client.peer_error().unwrap().error_code, 0x100 + 116);
    assert!(!pair.server.is_established());

    let mut pair = Pair::new(&mut anonymous(profile::apply_tunnel), connector.tunnel_server(true));
    assert!(!pair.run());
    assert_eq!(refusal_of(&mut pair.server).unwrap().reason, "no-certificate");
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_at_both_ends_and_in_both_directions() {
    let ca = Authority::new("ca");
    let stranger = Authority::new("another ca");
    let usurper = Authority::new("ca");
    for (authority, change, reason, alert) in [
        (&stranger, (|_| ()) as fn(&mut LeafSpec), "unknown-ca", "unknown_ca"),
        (&usurper, |_| (), "bad-signature", "bad_certificate"),
        (&ca, |s| s.not_after = NOW, "expired", "certificate_expired"),
        (&ca, |s| s.not_before = NOW + 1, "not-yet-valid", "certificate_expired"),
        (&ca, swap_usage, "wrong-eku", "unsupported_certificate"),
        (&ca, |s| no_usage(s).code_signing = true, "wrong-eku", "unsupported_certificate"),
        (&ca, |s| _ = no_usage(s), "no-eku", "unsupported_certificate"),
        (&ca, |s| s.key = KeyKind::Rsa(1_024), "weak-key", "unsupported_certificate"),
        (
            &ca,
            |s| s.uris[0] = "ztna://t\u{e9}st".into(),
            "malformed-certificate",
            "bad_certificate",
        ),
    ] {
        let (mut client, mut server) = (LeafSpec::agent("alice"), LeafSpec::relay("r"));
        change(&mut client);
        change(&mut server);

        let mut agent = careless_leg(&ca, &authority.issue(&client), End::Client);
        let mut relay = context(&ca, &LeafSpec::relay("r"));
        let mut pair = Pair::new(&mut agent, relay.leg_server(1));
        assert!(!pair.run(), "{reason}: the relay took the agent");
        assert_refused(&mut pair.server, &pair.client, reason, alert);

        let mut agent = context(&ca, &LeafSpec::agent("alice"));
        let mut relay = careless_leg(&ca, &authority.issue(&server), End::Server);
        let mut pair = Pair::new(agent.leg_client(), &mut relay);
        assert!(!pair.run(), "{reason}: the agent took the relay");
        assert_refused(&mut pair.client, &pair.server, reason, alert);
    }
}

#[test]
fn a_p521_leaf_finds_no_signature_scheme_to_sign_with() {
    let ca = Authority::new("ca");
    let identity = ca.issue(&LeafSpec::agent("alice").with_key(KeyKind::P521));
    let mut agent = careless_leg(&ca, &identity, End::Client);
    let mut relay = context(&ca, &LeafSpec::relay("r"));

    let mut pair = Pair::new(&mut agent, relay.leg_server(1));

    assert!(!pair.run());
    let refusal = refusal_of(&mut pair.client).unwrap();
    assert_eq!(refusal.to_string(), "handshake-failed: TLS alert handshake_failure");
}

#[test]
fn a_revoked_key_or_certificate_is_refused_in_both_directions() {
    let ca = Authority::new("ca");
    let alice = ca.issue(&LeafSpec::agent("alice"));
    let relay = ca.issue(&LeafSpec::relay("r"));
    let reason = |client_revokes: &[Revocation], server_revokes: &[Revocation]| {
        let mut client = TlsContext::new(&alice.material(&[&ca], client_revokes), NOW).unwrap();
        let mut server = TlsContext::new(&relay.material(&[&ca], server_revokes), NOW).unwrap();
        let mut pair = Pair::new(client.leg_client(), server.leg_server(1));
        if pair.run() {
            return None;
        }
        refusal_of(&mut pair.server).or_else(|| refusal_of(&mut pair.client)).map(|r| r.reason)
    };

    assert_eq!(reason(&[], &[alice.revoked_key()]), Some("revoked"));
    assert_eq!(reason(&[relay.revoked_key()], &[]), Some("revoked"));
    let by_serial = |identity: &Identity, serial: &str| {
        let Revocation::Certificate { issuer, .. } = identity.revoked_certificate() else {
            panic!("revoked by issuer and serial");
        };
        [Revocation::Certificate { issuer, serial: serial.to_owned() }]
    };
    assert_eq!(reason(&[], &by_serial(&alice, "c0ffee")), Some("revoked"));
    assert_eq!(reason(&by_serial(&relay, "00C0FFEE"), &[]), Some("revoked"));
    assert_eq!(reason(&[relay.revoked_key()], &by_serial(&alice, "c0ffef")), Some("revoked"));
    assert_eq!(reason(&[], &by_serial(&alice, "c0ffef")), None);
    assert_eq!(reason(&[alice.revoked_key()], &[relay.revoked_key()]), None);
}

#[test]
fn the_time_that_was_set_last_judges_the_next_handshake() {
    let ca = Authority::new("ca");
    let mut agent = context(&ca, &LeafSpec::agent("alice"));
    let mut relay = context(&ca, &LeafSpec::relay("r"));

    relay.set_now(NOW + DAY);
    let mut pair = Pair::new(agent.leg_client(), relay.leg_server(1));
    assert!(!pair.run());
    assert_eq!(refusal_of(&mut pair.server).unwrap().reason, "expired");

    relay.set_now(NOW + DAY - 1);
    assert!(Pair::new(agent.leg_client(), relay.leg_server(1)).run());
}

#[test]
fn reloading_spares_live_connections_and_judges_the_next_by_the_other_roots() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let mut old_agent = context(&ca, &LeafSpec::agent("alice"));
    let mut new_agent = context(&other, &LeafSpec::agent("alice"));
    let mut before = context(&ca, &LeafSpec::relay("r"));
    let mut live = Pair::new(old_agent.leg_client(), before.leg_server(1));
    assert!(live.run());
    drop(before);

    let mut after = context(&other, &LeafSpec::relay("r"));
    live.client.stream_send(0, b"still here", true).unwrap();
    assert!(live.run());
    let mut octets = [0; 16];
    assert_eq!(live.server.stream_recv(0, &mut octets).unwrap(), (10, true));

    let chain = live.server.peer_cert_chain().unwrap();
    assert_eq!(after.judge(&chain, true, NOW).unwrap_err().reason, "unknown-ca");
    assert!(!Pair::new(old_agent.leg_client(), after.leg_server(1)).run());
    assert!(Pair::new(new_agent.leg_client(), after.leg_server(1)).run());
}

#[test]
fn the_key_exchange_is_post_quantum_unless_one_side_has_only_x25519() {
    let ca = Authority::new("ca");
    let mut agent = context(&ca, &LeafSpec::agent("alice"));
    let mut relay = context(&ca, &LeafSpec::relay("r"));
    let group = |pair: &mut Pair| {
        assert!(pair.run());
        let ssl: &mut SslRef = pair.server.as_mut();
        ssl.curve_name().unwrap()
    };

    assert_eq!(group(&mut Pair::new(agent.leg_client(), relay.leg_server(1))), "X25519MLKEM768");
    agent.leg_client().set_curves_list("X25519").unwrap();
    assert_eq!(group(&mut Pair::new(agent.leg_client(), relay.leg_server(1))), "X25519");
    agent.leg_client().set_curves_list("P-256").unwrap();
    assert!(!Pair::new(agent.leg_client(), relay.leg_server(1)).run());
}

#[test]
fn a_leg_does_not_come_up_with_a_tunnel() {
    let ca = Authority::new("ca");
    let mut agent = context(&ca, &LeafSpec::agent("alice"));
    let mut connector = context(&ca, &LeafSpec::connector("c"));

    let mut pair = Pair::new(agent.leg_client(), connector.tunnel_server(true));

    assert!(!pair.run());
    assert_eq!(refusal_of(&mut pair.server).unwrap().reason, "no-common-alpn");
}

#[test]
fn the_transport_profile_is_what_the_protocol_says() {
    let ca = Authority::new("ca");
    let mut agent = context(&ca, &LeafSpec::agent("alice"));
    let mut connector = context(&ca, &LeafSpec::connector("c"));
    let mut relay = context(&ca, &LeafSpec::relay("r"));
    let mut leg = Pair::new(agent.leg_client(), relay.leg_server(7));
    let mut tunnel = Pair::new(agent.tunnel_client(true), connector.tunnel_server(true));
    assert!(leg.run() && tunnel.run());

    let server = leg.client.peer_transport_params().unwrap();
    assert_eq!(server.max_idle_timeout, 30_000);
    assert_eq!(server.initial_max_streams_bidi, 1);
    assert_eq!(server.initial_max_streams_uni, 0);
    assert_eq!(server.initial_max_stream_data_bidi_remote, 128 << 10);
    assert_eq!(server.initial_max_data, 256 << 10);
    assert_eq!(server.max_datagram_frame_size, None);
    assert_eq!(server.active_conn_id_limit, 2);
    assert!(server.disable_active_migration);
    assert_eq!(server.stateless_reset_token, Some(7));
    let client = leg.server.peer_transport_params().unwrap();
    assert_eq!(client.initial_max_streams_bidi, 0);
    assert_eq!(client.initial_max_stream_data_bidi_local, 128 << 10);
    assert_eq!(client.stateless_reset_token, None);

    let server = tunnel.client.peer_transport_params().unwrap();
    assert_eq!(server.max_idle_timeout, 180_000);
    assert_eq!(server.initial_max_streams_bidi, 8_192);
    assert_eq!(server.initial_max_streams_uni, 0);
    assert_eq!(server.initial_max_stream_data_bidi_remote, 64 << 10);
    assert_eq!(server.initial_max_data, 256 << 20);
    assert_eq!(server.max_datagram_frame_size, Some(65_536));
    assert!(!server.disable_active_migration);
    assert_eq!(server.stateless_reset_token, None);
    assert_eq!(server.max_udp_payload_size, 65_527);
    let client = tunnel.server.peer_transport_params().unwrap();
    assert_eq!(client.initial_max_streams_bidi, 0);
    assert_eq!(client.max_datagram_frame_size, Some(65_536));
}

#[test]
fn a_ninth_datagram_does_not_fit_into_quiche() {
    let ca = Authority::new("ca");
    let mut agent = context(&ca, &LeafSpec::agent("alice"));
    let mut connector = context(&ca, &LeafSpec::connector("c"));
    let mut tunnel = Pair::new(agent.tunnel_client(true), connector.tunnel_server(true));
    assert!(tunnel.run());

    for _ in 0..profile::DATAGRAM_SEND_QUEUE_MAX {
        tunnel.client.dgram_send(b"datagram").unwrap();
    }

    assert_eq!(tunnel.client.dgram_send(b"datagram"), Err(quiche::Error::Done));
}

fn assert_refused(
    refuser: &mut quiche::Connection,
    refused: &quiche::Connection,
    reason: &str,
    alert: &str,
) {
    let refusal = refusal_of(refuser).unwrap();
    assert_eq!(refusal.reason, reason, "{refusal}");
    assert!(Refusal::REASONS.contains(&refusal.reason));
    let error = refused.peer_error().unwrap();
    assert_eq!(alert_name(error.error_code), Some(alert), "{refusal}");
}

fn swap_usage(spec: &mut LeafSpec) {
    (spec.client_auth, spec.server_auth) = (spec.server_auth, spec.client_auth);
}

fn no_usage(spec: &mut LeafSpec) -> &mut LeafSpec {
    (spec.client_auth, spec.server_auth) = (false, false);
    spec
}

fn anonymous(apply: fn(&mut Config, End) -> quiche::Result<()>) -> Config {
    let mut builder = SslContextBuilder::new(SslMethod::tls()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    let mut config =
        Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, builder).unwrap();
    apply(&mut config, End::Client).unwrap();
    config
}

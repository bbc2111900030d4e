use std::time::Duration;

use super::*;
use crate::testing::pki::{Authority, LeafSpec, NOW};
use crate::testing::quic::{CLIENT, Pair, SERVER};
use crate::tls::TlsContext;

const ID: WireId = WireId([0, 1, 2, 3, 4, 5, 6, 8]);

#[test]
fn the_answer_is_one_octet_shorter_between_21_and_42() {
    for (received, expected) in [
        (0, None),
        (1, None),
        (21, None),
        (22, Some(21)),
        (23, Some(22)),
        (42, Some(41)),
        (43, Some(42)),
        (44, Some(42)),
        (1_500, Some(42)),
    ] {
        let (mut reset, now) = reset([1; 32]);
        let mut packet = short_header(ID, received.max(9));
        packet.truncate(received);

        let answer = reset.answer(&packet, CLIENT, now, &mut [0; RESET_LENGTH_MAX]);

        assert_eq!(answer.ok(), expected, "{received} octets received");
    }
}

#[test]
fn nothing_but_a_short_header_with_a_connection_id_is_reset() {
    let (mut reset, now) = reset([1; 32]);
    let mut unfit = |packet: &[u8]| {
        reset.answer(packet, CLIENT, now, &mut [0; RESET_LENGTH_MAX]) == Err(NotReset::Unfit)
    };
    let channel = WireId([0, 1, 2, 3, 4, 5, 6, 9]);
    let with_first = |first: u8| {
        let mut packet = short_header(ID, 64);
        packet[0] = first;
        packet
    };

    assert!(unfit(&short_header(channel, 64)));
    assert!(unfit(&with_first(0xc0)));
    assert!(unfit(&with_first(0x00)));
    assert!(unfit(&with_first(0x80)));
    assert!(!unfit(&with_first(0x7f)));
}

#[test]
fn a_source_gets_ten_a_second_and_all_together_a_thousand() {
    let (mut reset, now) = reset([1; 32]);
    let packet = short_header(ID, 64);
    let mut ask = |host: u32, now| {
        let from = SocketAddr::new(std::net::IpAddr::V4(host.into()), 1);
        reset.answer(&packet, from, now, &mut [0; RESET_LENGTH_MAX])
    };

    assert_eq!((0..100).filter(|_| ask(1, now).is_ok()).count(), 10);
    assert_eq!(ask(1, now), Err(NotReset::Rate(RateExceeded::Source)));
    assert_eq!((10..2_000).filter(|host| ask(*host, now).is_ok()).count(), 990);
    assert_eq!(ask(3_000, now), Err(NotReset::Rate(RateExceeded::Total)));
    let later = now + Duration::from_millis(100);
    assert!(ask(1, later).is_ok());
    assert_eq!(ask(1, later), Err(NotReset::Rate(RateExceeded::Source)));
}

#[test]
fn tokens_follow_from_key_and_id_alone() {
    let (before, _) = reset([1; 32]);
    let (after_restart, _) = reset([1; 32]);
    let (stranger, _) = reset([2; 32]);

    assert_eq!(before.token(ID), after_restart.token(ID));
    assert_ne!(before.token(ID), stranger.token(ID));
    assert_ne!(before.token(ID), before.token(WireId([0, 1, 2, 3, 4, 5, 6, 10])));
}

#[test]
fn two_resets_of_one_id_share_the_token_and_nothing_else() {
    let (mut reset, now) = reset([1; 32]);
    let (mut a, mut b) = ([0; RESET_LENGTH_MAX], [0; RESET_LENGTH_MAX]);
    let (mut packet_a, mut packet_b) = (short_header(ID, 64), short_header(ID, 64));
    packet_a[40] = 1;
    packet_b[40] = 2;

    reset.answer(&packet_a, CLIENT, now, &mut a).unwrap();
    reset.answer(&packet_b, CLIENT, now, &mut b).unwrap();

    assert_eq!(a[26..], b[26..]);
    assert_eq!(a[26..], reset.token(ID).to_be_bytes());
    assert_ne!(a[1..26], b[1..26]);
    assert_eq!((a[0] & 0xc0, b[0] & 0xc0), (0x40, 0x40));
}

#[test]
fn a_client_whose_relay_restarted_learns_it_from_the_answer_to_its_next_packet() {
    let ca = Authority::new("ca");
    let context = |spec| TlsContext::new(&ca.issue(&spec).material(&[&ca], &[]), NOW).unwrap();
    let (mut agent, mut relay) = (context(LeafSpec::agent("alice")), context(LeafSpec::relay("r")));
    let (before, _) = reset([1; 32]);
    let config = relay.leg_server(before.token(ID));
    let mut pair = Pair::with_ids([2; 8], ID.0, agent.leg_client(), config);
    assert!(pair.run());
    let (mut after_restart, now) = reset([1; 32]);
    let (mut packet, mut answer) = ([0; 1_500], [0; RESET_LENGTH_MAX]);

    pair.client.send_ack_eliciting().unwrap();
    let (length, _) = pair.client.send(&mut packet).unwrap();
    let length = after_restart.answer(&packet[..length], CLIENT, now, &mut answer).unwrap();
    let info = quiche::RecvInfo { from: SERVER, to: CLIENT };
    let _ = pair.client.recv(&mut answer[..length], info);

    assert!(pair.client.is_closed());
}

fn short_header(id: WireId, length: usize) -> Vec<u8> {
    let mut packet = vec![0x55];
    packet.extend(id.0);
    packet.resize(length, 0xaa);
    packet
}

#[expect(clippy::disallowed_methods, reason = "any instant will do: only differences matter")]
fn reset(key: [u8; 32]) -> (StatelessReset, Instant) {
    let now = Instant::now();
    (StatelessReset::new(key, RESET_RATES, now), now)
}

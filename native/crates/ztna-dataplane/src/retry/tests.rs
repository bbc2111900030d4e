use std::time::Duration;

use super::fuzz::*;
use super::*;
use crate::testing::pki::{Authority, LeafSpec, NOW};
use crate::testing::quic::{CLIENT, SERVER};
use crate::tls::TlsContext;

const DCID: [u8; 16] = [7; 16];

#[test]
fn a_token_that_comes_back_at_once_names_the_first_dcid() {
    let retry = retry([1; 32]);
    let token = retry.token(&DCID, CLIENT, ID, NOW);

    assert_eq!(verify(&retry, &token, CLIENT, ID, NOW).as_deref(), Some(&DCID[..]));
}

#[test]
fn a_token_lives_ten_seconds_and_not_eleven() {
    let retry = retry([1; 32]);
    let token = retry.token(&DCID, CLIENT, ID, NOW);

    assert!(verify(&retry, &token, CLIENT, ID, NOW + TOKEN_LIFE_SECONDS).is_some());
    assert!(verify(&retry, &token, CLIENT, ID, NOW + TOKEN_LIFE_SECONDS + 1).is_none());
    assert!(verify(&retry, &token, CLIENT, ID, NOW - 1).is_none());
}

#[test]
fn a_token_is_bound_to_address_port_id_and_key() {
    let retry_a = retry([1; 32]);
    let retry_b = retry([2; 32]);
    let token = retry_a.token(&DCID, CLIENT, ID, NOW);
    let other_port = SocketAddr::new(CLIENT.ip(), CLIENT.port() + 1);
    let other_host = SocketAddr::new("127.0.0.2".parse().unwrap(), CLIENT.port());
    let mapped = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), CLIENT.port());

    assert!(verify(&retry_a, &token, other_port, ID, NOW).is_none());
    assert!(verify(&retry_a, &token, other_host, ID, NOW).is_none());
    assert!(verify(&retry_a, &token, CLIENT, WireId([9; 8]), NOW).is_none());
    assert!(verify(&retry_b, &token, CLIENT, ID, NOW).is_none());
    assert!(verify(&retry_a, &token, mapped, ID, NOW).is_some());
}

#[test]
fn changing_any_bit_or_the_length_makes_a_token_worthless() {
    let retry = retry([1; 32]);
    let token = retry.token(&DCID, CLIENT, ID, NOW);

    for bit in 0..token.len() * 8 {
        let mut forged = token.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&retry, &forged, CLIENT, ID, NOW).is_none(), "bit {bit}");
    }
    for length in 0..token.len() {
        assert!(verify(&retry, &token[..length], CLIENT, ID, NOW).is_none(), "length {length}");
    }
}

#[test]
fn only_a_whole_first_initial_of_version_1_is_answered() {
    let mut retry = retry([1; 32]);
    let mut refused = |header: &Header<'_>, received| {
        retry.answer(header, received, CLIENT, ID, clock(), &mut [0; 1_200])
            == Err(Unanswered::NotAnInitial)
    };
    let initial = || header(Type::Initial, quiche::PROTOCOL_VERSION, &DCID, &[]);

    assert!(!refused(&initial(), 1_200));
    assert!(refused(&initial(), 1_199));
    assert!(refused(&header(Type::Handshake, quiche::PROTOCOL_VERSION, &DCID, &[]), 1_200));
    assert!(refused(&header(Type::Initial, 0xff00_001d, &DCID, &[]), 1_200));
    assert!(refused(&header(Type::Initial, quiche::PROTOCOL_VERSION, &DCID[..7], &[]), 1_200));
    assert!(!refused(&header(Type::Initial, quiche::PROTOCOL_VERSION, &DCID[..8], &[]), 1_200));
    assert!(refused(&header(Type::Initial, quiche::PROTOCOL_VERSION, &DCID, &[1]), 1_200));
}

#[test]
fn the_answer_is_much_shorter_than_what_came() {
    let mut retry = retry([1; 32]);
    let initial = header(Type::Initial, quiche::PROTOCOL_VERSION, &[7; 20], &[]);

    let length = retry.answer(&initial, 1_200, CLIENT, ID, clock(), &mut [0; 1_200]).unwrap();

    assert!(length < 150, "{length}");
}

#[test]
fn a_source_that_keeps_asking_is_not_answered() {
    let mut retry = retry([1; 32]);
    let initial = header(Type::Initial, quiche::PROTOCOL_VERSION, &DCID, &[]);
    let clock = clock();
    let mut ask = |clock| retry.answer(&initial, 1_200, CLIENT, ID, clock, &mut [0; 1_200]);

    let answered = (0..100).filter(|_| ask(clock).is_ok()).count();

    assert_eq!(answered, 2 * PER_SOURCE as usize);
    assert_eq!(ask(clock), Err(Unanswered::Rate(RateExceeded::Source)));
    assert!(ask(Clock { now: clock.now + Duration::from_millis(334), ..clock }).is_ok());
}

#[test]
fn a_quic_client_comes_through_retry_into_an_established_leg() {
    let ca = Authority::new("ca");
    let context = |spec| TlsContext::new(&ca.issue(&spec).material(&[&ca], &[]), NOW).unwrap();
    let (mut agent, mut relay) = (context(LeafSpec::agent("alice")), context(LeafSpec::relay("r")));
    let mut retry = retry([1; 32]);
    let client_id = ConnectionId::from_ref(&[2; 8]);
    let mut client = quiche::connect(None, &client_id, CLIENT, SERVER, agent.leg_client()).unwrap();
    let (mut packet, mut answer) = ([0; 1_500], [0; 1_500]);

    let (length, _) = client.send(&mut packet).unwrap();
    let first = Header::from_slice(&mut packet[..length], 8).unwrap();
    let written = retry.answer(&first, length, CLIENT, ID, clock(), &mut answer).unwrap();
    let info = quiche::RecvInfo { from: SERVER, to: CLIENT };
    client.recv(&mut answer[..written], info).unwrap();

    let (length, _) = client.send(&mut packet).unwrap();
    let second = Header::from_slice(&mut packet[..length], 8).unwrap();
    let odcid = retry.verify(&second, CLIENT, NOW).unwrap();
    assert_eq!(second.dcid.as_ref(), ID.0);
    let mut server =
        quiche::accept(&second.dcid, Some(&odcid), SERVER, CLIENT, relay.leg_server(1)).unwrap();
    let info = quiche::RecvInfo { from: CLIENT, to: SERVER };
    server.recv(&mut packet[..length], info).unwrap();
    let mut pair = crate::testing::quic::Pair { client, server };

    assert!(pair.run());
}

#[test]
fn no_token_of_random_octets_is_taken_and_none_panics() {
    let seed = std::env::var("SEED").map_or(0x5eed, |seed| seed.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(seed);
    let retry = retry([1; 32]);
    let good = retry.token(&DCID, CLIENT, ID, NOW);

    for round in 0..200_000_u32 {
        let mut token = if round % 2 == 0 { good.clone() } else { vec![0; random.usize(..64)] };
        if round % 2 == 0 {
            let at = random.usize(..token.len());
            token[at] = token[at].wrapping_add(random.u8(1..));
            token.truncate(random.usize(at..=token.len()).max(at + 1));
        } else {
            random.fill(&mut token);
        }
        assert!(!check_one_token(&retry, &token), "seed={seed} round={round}");
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do: only differences matter")]
fn clock() -> Clock {
    Clock { now: Instant::now(), unix: NOW }
}

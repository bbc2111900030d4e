use super::fuzz::*;
use super::*;
use crate::test_support::{epoch, seeded};
use serde_json::Value;
use std::time::Duration;

const NEWER: ConnectionHandle = ConnectionHandle(3);

#[test]
fn a_frame_goes_to_the_other_leg_with_the_id_that_its_client_chose() {
    let mut table = open_table(0);
    let mut frame = frame(TO_RELAY_A, 0x41, 100);
    let before = frame.clone();

    assert_eq!(forward_one(&mut table, &mut frame, agent(), epoch()), Ok(connector()));

    assert_eq!(frame[1..9], TO_CONNECTOR.0);
    assert_eq!((frame[0], &frame[9..]), (before[0], &before[9..]));
}

#[test]
fn both_directions_are_forwarded() {
    let mut table = open_table(0);
    let mut frame = frame(TO_RELAY_B, 0xc3, 1_200);

    assert_eq!(forward_one(&mut table, &mut frame, connector(), epoch()), Ok(agent()));

    assert_eq!(frame[1..9], TO_AGENT.0);
}

#[test]
fn the_vectors_of_the_protocol_are_forwarded_as_they_say() {
    let text = include_str!("../../../../../test/vectors/channel.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let id = |text: &Value| WireId(hex(text).try_into().unwrap());
    for case in vectors["forward"].as_array().unwrap() {
        let mut table = ChannelTable::new();
        table.set_leg_address(AGENT, Some(agent()));
        table.set_leg_address(CONNECTOR, Some(connector()));
        let a = ChannelSide {
            leg: AGENT,
            relay_id: id(&vectors["agent"]["relayId"]),
            client_id: id(&vectors["agent"]["clientId"]),
        };
        let b = ChannelSide {
            leg: CONNECTOR,
            relay_id: id(&vectors["connector"]["relayId"]),
            client_id: id(&vectors["connector"]["clientId"]),
        };
        table.open(a, b, 0, epoch()).unwrap();
        let mut frame = hex(&case["wire"]);
        let source = if case["from"] == "agent" { agent() } else { connector() };

        let outcome = forward_one(&mut table, &mut frame, source, epoch());

        match case["drop"].as_str() {
            Some(reason) => {
                assert_eq!(outcome.unwrap_err().to_string(), reason, "{}", case["name"]);
            }
            None => {
                assert!(outcome.is_ok(), "{}", case["name"]);
                assert_eq!(frame, hex(&case["forwarded"]), "{}", case["name"]);
            }
        }
    }
}

#[test]
fn payloads_of_20_and_1500_pass_and_of_19_and_1501_do_not() {
    let mut table = open_table(0);
    let mut forward = |payload| {
        forward_one(&mut table, &mut frame(TO_RELAY_A, 0x40, payload), agent(), epoch()).map(|_| ())
    };

    assert_eq!(forward(20), Ok(()));
    assert_eq!(forward(1_500), Ok(()));
    assert_eq!(forward(19), Err(ChannelDrop::TooShort));
    assert_eq!(forward(1_501), Err(ChannelDrop::TooLong));
    assert_eq!(dropped(&table, ChannelDrop::TooShort), 1);
    assert_eq!(dropped(&table, ChannelDrop::TooLong), 1);
}

#[test]
fn only_payloads_that_begin_like_a_tunnel_packet_pass() {
    let mut table = open_table(0);
    for inner in 0..=u8::MAX {
        let outcome = forward_one(&mut table, &mut frame(TO_RELAY_A, inner, 20), agent(), epoch());

        let expected = if matches!(inner, 0x04..=0x3f) {
            Err(ChannelDrop::Malformed)
        } else {
            Ok(connector())
        };
        assert_eq!(outcome, expected, "payload begins {inner:#04x}");
    }
}

#[test]
fn a_frame_that_is_no_short_header_is_dropped() {
    let mut table = open_table(0);
    for first in [0x00, 0x3f, 0x80, 0xc0, 0xff] {
        let mut frame = frame(TO_RELAY_A, 0x40, 20);
        frame[0] = first;

        let outcome = forward_one(&mut table, &mut frame, agent(), epoch());

        assert_eq!(outcome, Err(ChannelDrop::Malformed), "frame begins {first:#04x}");
    }
}

#[test]
fn an_unknown_id_and_a_client_id_are_dropped() {
    let mut table = open_table(0);
    for id in [WireId([1; 8]), TO_AGENT, TO_CONNECTOR] {
        let mut frame = frame(id, 0x40, 20);
        let before = frame.clone();

        let outcome = forward_one(&mut table, &mut frame, agent(), epoch());

        assert_eq!(outcome, Err(ChannelDrop::UnknownChannel));
        assert_eq!(frame, before, "a dropped frame is left as it was");
    }
}

#[test]
fn another_address_cannot_use_a_channel_and_changes_nothing() {
    let mut table = open_table(0);
    let mut other_port = agent();
    other_port.set_port(1);

    for source in [other_port, connector()] {
        let outcome = forward_one(&mut table, &mut frame(TO_RELAY_A, 0x40, 20), source, epoch());
        assert_eq!(outcome, Err(ChannelDrop::WrongSource));
    }

    assert!(forward_one(&mut table, &mut frame(TO_RELAY_A, 0x40, 20), agent(), epoch()).is_ok());
    assert_eq!(dropped(&table, ChannelDrop::WrongSource), 2);
}

#[test]
fn a_lost_leg_suspends_its_channels_in_both_directions_until_it_is_back() {
    let mut table = open_table(0);
    table.set_leg_address(CONNECTOR, None);

    for (id, source) in [(TO_RELAY_A, agent()), (TO_RELAY_B, connector())] {
        let outcome = forward_one(&mut table, &mut frame(id, 0x40, 20), source, epoch());
        assert_eq!(outcome, Err(ChannelDrop::Suspended));
    }

    let elsewhere = "203.0.113.9:9".parse().unwrap();
    table.set_leg_address(CONNECTOR, Some(elsewhere));
    let outcome = forward_one(&mut table, &mut frame(TO_RELAY_A, 0x40, 20), agent(), epoch());
    assert_eq!(outcome, Ok(elsewhere));
    assert_eq!(dropped(&table, ChannelDrop::Suspended), 2);
}

#[test]
fn channels_opened_before_their_leg_has_an_address_wait_for_it() {
    let mut table = ChannelTable::new();
    table.open(side_a(), side_b(), 0, epoch()).unwrap();
    table.set_leg_address(AGENT, Some(agent()));
    assert_eq!(
        forward_one(&mut table, &mut frame(TO_RELAY_A, 0x40, 20), agent(), epoch()),
        Err(ChannelDrop::Suspended)
    );

    table.set_leg_address(CONNECTOR, Some(connector()));

    assert!(forward_one(&mut table, &mut frame(TO_RELAY_A, 0x40, 20), agent(), epoch()).is_ok());
}

#[test]
fn channels_move_with_their_ids_to_the_leg_that_supersedes() {
    let mut table = open_table(0);
    let elsewhere = "203.0.113.9:9".parse().unwrap();
    table.set_leg_address(NEWER, Some(elsewhere));

    table.move_leg(AGENT, NEWER);
    table.set_leg_address(AGENT, None);

    let outcome = forward_one(&mut table, &mut frame(TO_RELAY_A, 0x40, 20), elsewhere, epoch());
    assert_eq!(outcome, Ok(connector()));
    let outcome = forward_one(&mut table, &mut frame(TO_RELAY_B, 0x40, 20), connector(), epoch());
    assert_eq!(outcome, Ok(elsewhere));
    let outcome = forward_one(&mut table, &mut frame(TO_RELAY_A, 0x40, 20), agent(), epoch());
    assert_eq!(outcome, Err(ChannelDrop::WrongSource));
}

#[test]
fn opening_a_channel_again_replaces_legs_and_client_ids() {
    let mut table = open_table(0);
    assert!(forward_one(&mut table, &mut frame(TO_RELAY_A, 0x40, 20), agent(), epoch()).is_ok());
    let renamed = WireId([7; 8]);

    let side_b = ChannelSide { client_id: renamed, ..side_b() };
    table.open(side_a(), side_b, 0, epoch()).unwrap();

    let mut frame = frame(TO_RELAY_A, 0x40, 20);
    assert!(forward_one(&mut table, &mut frame, agent(), epoch()).is_ok());
    assert_eq!(frame[1..9], renamed.0);
    assert_eq!(table.len(), 1);
}

#[test]
fn an_id_of_another_channel_is_refused_and_harms_neither() {
    let with_id = |side, id| ChannelSide { relay_id: WireId([id; 8]), ..side };
    let mut table = open_table(0);
    table.open(with_id(side_a(), 11), with_id(side_b(), 13), 0, epoch()).unwrap();

    for (a, b, in_use) in [
        (side_a(), with_id(side_b(), 9), TO_RELAY_A),
        (with_id(side_a(), 9), side_b(), TO_RELAY_B),
        (side_a(), with_id(side_b(), 13), TO_RELAY_A),
        (with_id(side_a(), 11), side_b(), WireId([11; 8])),
    ] {
        assert_eq!(table.open(a, b, 0, epoch()), Err(ChannelOpenError::IdInUse(in_use)));
    }

    for id in [TO_RELAY_A, WireId([11; 8])] {
        assert!(forward_one(&mut table, &mut frame(id, 0x40, 20), agent(), epoch()).is_ok());
    }
    for id in [TO_RELAY_B, WireId([13; 8])] {
        assert!(forward_one(&mut table, &mut frame(id, 0x40, 20), connector(), epoch()).is_ok());
    }
    assert_eq!(table.close(WireId([9; 8])), None);
    assert_eq!(table.len(), 2);
}

#[test]
fn both_sides_of_a_channel_may_be_on_one_leg() {
    let mut table = ChannelTable::new();
    table.set_leg_address(AGENT, Some(agent()));
    let far = ChannelSide { leg: AGENT, ..side_b() };
    table.open(side_a(), far, 0, epoch()).unwrap();

    table.set_leg_address(CONNECTOR, Some(connector()));
    table.move_leg(AGENT, CONNECTOR);

    for id in [TO_RELAY_A, TO_RELAY_B] {
        let forwarded = forward_one(&mut table, &mut frame(id, 0x40, 20), connector(), epoch());
        assert_eq!(forwarded, Ok(connector()));
    }
    assert_eq!(table.close(TO_RELAY_B), Some([TO_RELAY_B, TO_RELAY_A]));
    assert_eq!(table.len(), 0);
}

#[test]
fn ids_that_are_no_channel_ids_or_equal_are_refused() {
    let mut table = ChannelTable::new();
    let even = ChannelSide { relay_id: WireId([2; 8]), ..side_a() };

    assert_eq!(
        table.open(even, side_b(), 0, epoch()),
        Err(ChannelOpenError::InvalidId(WireId([2; 8])))
    );
    assert_eq!(
        table.open(side_a(), side_a(), 0, epoch()),
        Err(ChannelOpenError::InvalidId(TO_RELAY_A))
    );
    assert_eq!(table.len(), 0);
}

#[test]
fn a_closed_channel_is_gone_on_both_sides() {
    for id in [TO_RELAY_A, TO_RELAY_B] {
        let mut table = open_table(0);
        assert!(
            forward_one(&mut table, &mut frame(TO_RELAY_A, 0x40, 30), agent(), epoch()).is_ok()
        );

        let other = if id == TO_RELAY_A { TO_RELAY_B } else { TO_RELAY_A };
        assert_eq!(table.close(id), Some([id, other]));

        assert_eq!(table.close(id), None);
        assert!(table.sides.is_empty());
        for leg in [AGENT, CONNECTOR] {
            assert!(table.legs.detach_all(leg).is_empty());
        }
    }
}

#[test]
fn a_rate_is_kept_to_the_octet_and_each_way_on_its_own() {
    // 8 Mbit/s: the burst is 64 KiB, one octet refills in a microsecond.
    let mut table = open_table(8_000_000);
    let now = epoch();
    let mut forward = |id, source, payload, now| {
        forward_one(&mut table, &mut frame(id, 0x40, payload), source, now).map(|_| ())
    };

    for _ in 0..64 {
        assert_eq!(forward(TO_RELAY_A, agent(), 1_024 - PREFIX_BYTES, now), Ok(()));
    }

    let limited = Err(ChannelDrop::RateExceeded);
    assert_eq!(forward(TO_RELAY_A, agent(), 91, now + Duration::from_micros(99)), limited);
    assert_eq!(forward(TO_RELAY_A, agent(), 91, now + Duration::from_micros(100)), Ok(()));
    assert_eq!(forward(TO_RELAY_B, connector(), 1_024, now), Ok(()));
}

#[test]
fn frames_of_one_channel_are_taken_together_and_end_where_another_begins() {
    let mut table = open_table(0);
    let mut train =
        [TO_RELAY_A, TO_RELAY_A, TO_RELAY_B, TO_RELAY_A].map(|id| frame(id, 0x40, 40)).concat();
    let stride = train.len() / 4;

    let forwarded = table.forward(&mut train, stride, agent(), epoch()).unwrap();

    assert_eq!(forwarded, Forwarded { destination: connector(), octets: 2 * stride });
    let ids: Vec<_> = train.chunks(stride).map(|frame| &frame[1..PREFIX_BYTES]).collect();
    assert_eq!(
        ids,
        [TO_CONNECTOR, TO_CONNECTOR, TO_RELAY_B, TO_RELAY_A].each_ref().map(|id| &id.0)
    );
    assert_eq!((table.counters().packets, table.counters().bytes), (2, 80));
    assert_eq!(table.counters().drops().map(|(_, count)| count).sum::<u64>(), 0);
}

#[test]
fn a_train_is_forwarded_as_its_frames_are() {
    seeded(20_000, |random| {
        let payload = random.usize(15..60);
        let mut train = Vec::new();
        for _ in 0..random.usize(0..12) {
            let id = if random.u8(..) < 220 { TO_RELAY_A } else { TO_RELAY_B };
            let mut frame = frame(id, if random.u8(..) < 240 { 0x40 } else { 0x10 }, payload);
            if random.u8(..) < 10 {
                frame[random.usize(0..PREFIX_BYTES)] ^= 1 << random.u8(0..8);
            }
            train.extend(frame);
        }
        train.truncate(train.len().saturating_sub(random.usize(0..PREFIX_BYTES + payload)));

        check_one_channel_train(&train, PREFIX_BYTES + payload);
    });
}

#[test]
fn a_rate_that_is_spent_ends_a_train() {
    let mut table = open_table(8_000_000);
    let now = epoch();
    let stride = PREFIX_BYTES + 1_015;
    let mut train = frame(TO_RELAY_A, 0x40, 1_015).repeat(70);

    let forwarded = table.forward(&mut train, stride, agent(), now).unwrap();
    let (_, rest) = train.split_at_mut(forwarded.octets);
    let refused = table.forward(rest, stride, agent(), now);

    assert_eq!(forwarded.octets, 64 * stride);
    assert_eq!(refused, Err(ChannelDrop::RateExceeded));
    assert_eq!(rest, frame(TO_RELAY_A, 0x40, 1_015).repeat(6));
    assert_eq!((table.counters().packets, table.counters().bytes), (64, 64 * 1_015));
    assert_eq!(dropped(&table, ChannelDrop::RateExceeded), 1);
}

#[test]
fn any_octets_are_forwarded_or_dropped_without_a_panic() {
    let mut table = open_table(1_000_000);
    let now = epoch();
    let valid = frame(TO_RELAY_A, 0x40, 24);
    seeded(200_000, |random| {
        let mut data = valid.clone();
        data.resize(random.usize(0..40), 0);
        for _ in 0..random.usize(0..3) {
            let length = data.len();
            if let Some(octet) = data.get_mut(random.usize(0..length.max(1))) {
                *octet = random.u8(..);
            }
        }
        check_one_channel_frame(&mut table, &mut data, now);
    });
}

fn dropped(table: &ChannelTable, reason: ChannelDrop) -> u64 {
    table.counters().drops().find(|(each, _)| *each == reason).unwrap().1
}

fn hex(text: &Value) -> Vec<u8> {
    crate::test_support::hex(text.as_str().unwrap())
}

//! What holds for any channel frame, at a table with one channel.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a panic is the finding")]

use std::net::SocketAddr;
use std::time::Instant;

use super::{BURST_BYTES_MIN, ChannelDrop, ChannelTable, PREFIX_BYTES};
use crate::command::ChannelSide;
use crate::fuzzing::epoch;
use crate::id::{ConnectionHandle, WireId};

pub(super) const AGENT: ConnectionHandle = ConnectionHandle(1);
pub(super) const CONNECTOR: ConnectionHandle = ConnectionHandle(2);

pub(super) const TO_RELAY_A: WireId = WireId(*b"relay-a\x01");
pub(super) const TO_RELAY_B: WireId = WireId(*b"relay-b\x01");
pub(super) const TO_AGENT: WireId = WireId(*b"agent-i\x01");
pub(super) const TO_CONNECTOR: WireId = WireId(*b"connect\x01");

pub(crate) fn check_one_channel_frame(table: &mut ChannelTable, data: &mut [u8], now: Instant) {
    let before = data.to_vec();
    let counted = total(table);

    let outcome = forward_one(table, data, agent(), now);

    assert_eq!(total(table), counted + 1, "every frame is counted once");
    assert_eq!(data.len(), before.len());
    match outcome {
        Ok(destination) => {
            assert_eq!(destination, connector());
            assert_eq!(data[1..9], TO_CONNECTOR.0);
            assert_eq!(data[9..], before[9..]);
        }
        Err(_) => assert_eq!(data, before),
    }
}

/// A train is forwarded as its frames are one by one, at a channel whose rate is spent after
/// [`TRAIN_BYTES`]; returns how many went on.
pub(crate) fn check_one_channel_train(data: &[u8], stride: usize) -> u64 {
    let now = epoch();
    let (mut by_train, mut by_frame) = (nearly_spent_table(now), nearly_spent_table(now));
    let (mut train, mut single) = (data.to_vec(), data.to_vec());

    let expected: Vec<_> = single
        .chunks_mut(stride)
        .map(|frame| forward_one(&mut by_frame, frame, agent(), now))
        .collect();
    let mut outcomes = Vec::new();
    let mut rest = train.as_mut_slice();
    while !rest.is_empty() {
        let outcome = by_train.forward(rest, stride, agent(), now);
        let served = outcome.map_or(stride.min(rest.len()), |it| it.octets);
        let (front, behind) = rest.split_at_mut(served);
        let frames = front.len().div_ceil(stride);
        outcomes.extend((0..frames).map(|_| outcome.map(|it| it.destination)));
        rest = behind;
    }

    assert_eq!(outcomes, expected);
    assert_eq!(train, single);
    assert_eq!(by_train.counters(), by_frame.counters());
    outcomes.iter().flatten().count() as u64
}

/// What a train may have before its channel's rate is spent.
const TRAIN_BYTES: u64 = 400;

fn nearly_spent_table(now: Instant) -> ChannelTable {
    let mut table = open_table_at(1, now);
    let mut octets = BURST_BYTES_MIN - TRAIN_BYTES;
    while octets > 0 {
        let length = octets.min(1_024);
        let mut frame = frame(TO_RELAY_A, 0x40, length as usize - PREFIX_BYTES);
        forward_one(&mut table, &mut frame, agent(), now).unwrap();
        octets -= length;
    }
    table
}

pub(super) fn forward_one(
    table: &mut ChannelTable,
    frame: &mut [u8],
    source: SocketAddr,
    now: Instant,
) -> Result<SocketAddr, ChannelDrop> {
    let length = frame.len();
    let forwarded = table.forward(frame, length, source, now)?;
    assert_eq!(forwarded.octets, length);
    Ok(forwarded.destination)
}

pub(super) fn total(table: &ChannelTable) -> u64 {
    table.counters().packets + table.counters().drops().map(|(_, count)| count).sum::<u64>()
}

pub(crate) fn open_table(rate_bps: u64) -> ChannelTable {
    open_table_at(rate_bps, epoch())
}

fn open_table_at(rate_bps: u64, now: Instant) -> ChannelTable {
    let mut table = ChannelTable::new();
    table.set_leg_address(AGENT, Some(agent()));
    table.set_leg_address(CONNECTOR, Some(connector()));
    table.open(side_a(), side_b(), rate_bps, now).unwrap();
    table
}

pub(super) fn frame(id: WireId, inner: u8, payload: usize) -> Vec<u8> {
    let mut frame = vec![0x40];
    frame.extend_from_slice(&id.0);
    frame.resize(PREFIX_BYTES + payload, 0xab);
    frame[PREFIX_BYTES] = inner;
    frame
}

pub(super) fn side_a() -> ChannelSide {
    ChannelSide { leg: AGENT, relay_id: TO_RELAY_A, client_id: TO_AGENT }
}

pub(super) fn side_b() -> ChannelSide {
    ChannelSide { leg: CONNECTOR, relay_id: TO_RELAY_B, client_id: TO_CONNECTOR }
}

pub(super) fn agent() -> SocketAddr {
    "198.51.100.1:1000".parse().unwrap()
}

pub(super) fn connector() -> SocketAddr {
    "[2001:db8::2]:4434".parse().unwrap()
}

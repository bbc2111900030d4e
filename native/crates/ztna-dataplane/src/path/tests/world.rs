//! A seeded network of links between an agent's path set and a connector's, with a stand-in for QUIC:
//! numbered packets, an acknowledgement each, and a window that losses fill until something newer is
//! acknowledged.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{credentials, t0};
use crate::config::PathPolicy;
use crate::path::{CheckBudget, CheckRefused, PathId, PathSet, PathSetEvent, PathSide};

pub(super) const AGENT: usize = 0;
pub(super) const CONNECTOR: usize = 1;

/// Octets of an acknowledgement.
const ACK_BYTES: usize = 40;
/// Octets of a channel frame before its payload.
const PREFIX_BYTES: usize = 9;
/// Packets that may be unacknowledged.
const WINDOW: usize = 256;

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) sides: [Side; 2],
    pub(super) links: Vec<Link>,
    pub(super) seed: u64,
    rng: fastrand::Rng,
    in_flight: BinaryHeap<Reverse<(Instant, u64, Flight)>>,
    sequence: u64,
}

pub(super) struct Side {
    pub(super) set: PathSet,
    pub(super) ids: Vec<Option<PathId>>,
    pub(super) events: Vec<(Instant, PathSetEvent)>,
    pub(super) data: Option<Data>,
    next_data_at: Instant,
    next_number: u32,
    unacknowledged: BTreeSet<u32>,
    /// Numbers that arrived, and when first.
    pub(super) arrived: BTreeMap<u32, Instant>,
    pub(super) checks_sent: u64,
    pub(super) data_sent: u32,
    pub(super) refused_as_forged: u64,
}

/// What an application sends.
#[derive(Clone, Copy)]
pub(super) struct Data {
    pub(super) every: Duration,
    /// Octets, or as large as the paths carry.
    pub(super) size: Option<usize>,
}

#[derive(Clone, Copy)]
pub(super) struct Link {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    /// Of a thousand packets.
    pub(super) loss: u32,
    /// From the agent, from the connector.
    pub(super) alive: [bool; 2],
    pub(super) mtu: usize,
    pub(super) direct: bool,
}

#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Flight {
    link: usize,
    to: usize,
    packet: Vec<u8>,
}

impl World {
    /// Two path sets that know each other's credentials, with a path for each link.
    pub(super) fn new(seed: u64, links: &[Link]) -> Self {
        let mut world = Self::without_credentials(seed, links);
        for side in [AGENT, CONNECTOR] {
            world.exchange_credentials(side);
        }
        world
    }

    pub(super) fn without_credentials(seed: u64, links: &[Link]) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        let sides = [PathSide::Agent, PathSide::Connector].map(|side| Side::new(side, &rng));
        let mut world = Self {
            now: t0(),
            sides,
            links: Vec::new(),
            seed,
            rng,
            in_flight: BinaryHeap::new(),
            sequence: 0,
        };
        links.iter().for_each(|link| world.add(*link));
        world
    }

    pub(super) fn exchange_credentials(&mut self, side: usize) {
        let (own, others) = (side as u32 + 1, 2 - side as u32);
        let now = self.now;
        self.sides[side].set.set_local(credentials(own), now);
        self.sides[side].set.set_remote(1, credentials(others), now);
    }

    pub(super) fn add(&mut self, link: Link) {
        let index = self.links.len() as u16;
        self.links.push(link);
        for side in &mut self.sides {
            let id = if link.direct {
                side.set.add_direct(SocketAddr::from(([198, 51, 100, 1], 4_434 + index)), self.now)
            } else {
                side.set.add_relayed(SocketAddr::from(([192, 0, 2, 1], 4_433 + index)), self.now)
            };
            side.ids.push(Some(id.expect("fewer than nine links")));
        }
    }

    pub(super) fn kill(&mut self, link: usize) {
        self.links[link].alive = [false; 2];
    }

    pub(super) fn repair(&mut self, link: usize) {
        self.links[link].alive = [true; 2];
    }

    pub(super) fn send_data(&mut self, side: usize, every_us: u64, size: Option<usize>) {
        let every = Duration::from_micros(every_us);
        self.sides[side].data = Some(Data { every, size });
        self.sides[side].next_data_at = self.now;
    }

    pub(super) fn run_ms(&mut self, millis: u64) {
        self.run_until(self.now + Duration::from_millis(millis));
    }

    pub(super) fn run_until(&mut self, end: Instant) {
        let mut turns_at_once = 0;
        loop {
            for side in [AGENT, CONNECTOR] {
                self.turn(side);
            }
            let next = self.next_at();
            if next > end {
                break;
            }
            turns_at_once = if next > self.now { 0 } else { turns_at_once + 1 };
            assert!(turns_at_once < 1_000, "seed={}: time stands still", self.seed);
            self.now = next.max(self.now);
            self.deliver();
            for side in &mut self.sides {
                if side.set.poll_timeout().is_some_and(|at| at <= self.now) {
                    side.set.handle_timeout(self.now);
                }
            }
        }
        self.now = end;
    }

    /// The link that a side's packets take.
    pub(super) fn selected(&self, side: usize) -> Option<usize> {
        let selected = self.sides[side].set.selected()?;
        self.sides[side].ids.iter().position(|id| *id == Some(selected))
    }

    pub(super) fn assert_selected(&self, link: usize) {
        for side in [AGENT, CONNECTOR] {
            assert_eq!(self.selected(side), Some(link), "side {side}, seed={}", self.seed);
        }
    }

    fn next_at(&self) -> Instant {
        let flight = self.in_flight.peek().map(|Reverse((at, ..))| *at);
        let sides = self.sides.iter().flat_map(|side| {
            let data = side.data.filter(|_| side.unacknowledged.len() < WINDOW);
            [side.set.poll_timeout(), data.map(|_| side.next_data_at)]
        });
        let far = self.now + Duration::from_secs(86_400);
        flight.into_iter().chain(sides.flatten()).min().unwrap_or(far)
    }

    fn deliver(&mut self) {
        while self.in_flight.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Some(Reverse((_, _, flight))) = self.in_flight.pop() else { break };
            let side = &mut self.sides[flight.to];
            let Some(id) = side.ids[flight.link] else { continue };
            if flight.packet[0] < 4 {
                let refused = side.set.handle_check(id, &flight.packet, self.now);
                // Late answers and spent budgets are the network's doing; these would be ours.
                side.refused_as_forged += u64::from(matches!(
                    refused,
                    Err(CheckRefused::Malformed(_)
                        | CheckRefused::UnknownUfrag
                        | CheckRefused::WrongIntegrity)
                ));
                continue;
            }
            if !side.set.may_receive(id, self.now) {
                continue;
            }
            side.set.on_quic_received(id, flight.packet.len(), 1, self.now);
            let number = u32::from_be_bytes(flight.packet[2..6].try_into().unwrap());
            if flight.packet[1] == 1 {
                // What is older and not acknowledged is declared lost: the window opens.
                side.unacknowledged = side.unacknowledged.split_off(&(number + 1));
                continue;
            }
            if side.arrived.contains_key(&number) {
                continue; // Duplicates are dropped without an acknowledgement, as quiche does.
            }
            side.arrived.insert(number, self.now);
            side.set.on_user_data(self.now);
            self.send_quic(flight.to, 1, number, ACK_BYTES);
        }
    }

    fn turn(&mut self, index: usize) {
        let mut out = [0; 1_500];
        while let Some((id, size)) = self.sides[index].set.poll_transmit(&mut out) {
            self.sides[index].checks_sent += u64::from(out[0] < 4);
            self.transmit(index, id, &out[..size]);
        }
        while let Some(event) = self.sides[index].set.poll_event() {
            if let PathSetEvent::Lost { path } = event {
                let gone = self.sides[index].set.name(path).is_none();
                let ids = self.sides[index].ids.iter_mut();
                ids.filter(|id| gone && **id == Some(path)).for_each(|id| *id = None);
            }
            self.sides[index].events.push((self.now, event));
        }
        while let Some(data) = self.sides[index].data {
            let side = &mut self.sides[index];
            if side.next_data_at > self.now || side.unacknowledged.len() >= WINDOW {
                break;
            }
            side.next_data_at = side.next_data_at.max(self.now) + data.every;
            let number = side.next_number;
            side.next_number += 1;
            side.data_sent += 1;
            side.unacknowledged.insert(number);
            side.set.on_user_data(self.now);
            let size = data.size.unwrap_or_else(|| side.set.datagram_size());
            self.send_quic(index, 0, number, size);
        }
    }

    fn send_quic(&mut self, from: usize, kind: u8, number: u32, size: usize) {
        // As the endpoint lays packets out: behind the prefix of the path they leave on.
        let mut train = vec![0xFF; PREFIX_BYTES + size];
        let packet = &mut train[PREFIX_BYTES..];
        packet.fill(0);
        packet[..2].copy_from_slice(&[0x40, kind]);
        packet[2..6].copy_from_slice(&number.to_be_bytes());
        let side = &mut self.sides[from];
        if let Some(id) = side.set.selected() {
            side.set.on_quic_sent(&train, train.len(), PREFIX_BYTES, self.now);
            self.transmit(from, id, &train[PREFIX_BYTES..]);
        }
    }

    fn transmit(&mut self, from: usize, id: PathId, packet: &[u8]) {
        let Some(link) = self.sides[from].ids.iter().position(|known| *known == Some(id)) else {
            return;
        };
        let Link { delay, jitter, loss, alive, mtu, .. } = self.links[link];
        let lost = self.rng.u32(..1_000) < loss;
        if !alive[from] || lost || packet.len() > mtu {
            return;
        }
        let extra = jitter.mul_f64(self.rng.f64());
        self.sequence += 1;
        let flight = Flight { link, to: 1 - from, packet: packet.to_vec() };
        self.in_flight.push(Reverse((self.now + delay + extra, self.sequence, flight)));
    }
}

impl Side {
    fn new(side: PathSide, rng: &fastrand::Rng) -> Self {
        let mut ids = fastrand::Rng::with_seed(rng.clone().u64(..) ^ side as u64);
        let transaction_ids = Box::new(move || std::array::from_fn(|_| ids.u8(..)));
        let budget = CheckBudget::new(false);
        Self {
            set: PathSet::new(side, PathPolicy::default(), transaction_ids, budget, t0()),
            ids: Vec::new(),
            events: Vec::new(),
            data: None,
            next_data_at: t0(),
            next_number: 0,
            unacknowledged: BTreeSet::new(),
            arrived: BTreeMap::new(),
            checks_sent: 0,
            data_sent: 0,
            refused_as_forged: 0,
        }
    }

    pub(super) fn count(&self, matches: impl Fn(&PathSetEvent) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| matches(event)).count()
    }

    pub(super) fn suspicions(&self) -> usize {
        self.count(|event| matches!(event, PathSetEvent::Suspect { .. }))
    }

    pub(super) fn first(&self, matches: impl Fn(&PathSetEvent) -> bool) -> Option<Instant> {
        self.events.iter().find(|(_, event)| matches(event)).map(|(at, _)| *at)
    }

    /// Numbers below the highest that arrived which never did.
    pub(super) fn missing(&self) -> usize {
        let highest = self.arrived.last_key_value().map_or(0, |(number, _)| *number as usize + 1);
        highest - self.arrived.len()
    }

    /// The longest time without an arrival within two instants.
    pub(super) fn gap(&self, from: Instant, to: Instant) -> Duration {
        let mut times: Vec<_> =
            self.arrived.values().copied().filter(|at| (from..=to).contains(at)).collect();
        times.extend([from, to]);
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}

/// A relayed path of this round-trip time.
pub(super) fn relayed(rtt_ms: u64) -> Link {
    let delay = Duration::from_millis(rtt_ms) / 2;
    let jitter = Duration::ZERO;
    Link { delay, jitter, loss: 0, alive: [true; 2], mtu: 1_491, direct: false }
}

/// A direct path of this round-trip time.
pub(super) fn direct(rtt_ms: u64) -> Link {
    Link { direct: true, ..relayed(rtt_ms) }
}

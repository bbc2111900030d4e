use super::*;

/// What was sent: destination, segment, octets.
type Sent = Vec<(u16, usize, Vec<u8>)>;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

/// Stages runs of (destination, segment, octets) and returns all that was sent, in order.
fn sent(runs: &[(u16, usize, Vec<u8>)]) -> Sent {
    let mut staging = Staging::default();
    let mut sent = Sent::new();
    let mut send = |train: &StagedTrain| {
        sent.push((train.destination.port(), train.segment, train.octets.clone()));
    };
    for (port, segment, octets) in runs {
        let (destination, segment) = (address(*port), *segment);
        staging.put(Run { destination, octets, segment, ecn: None }, &mut send);
    }
    staging.flush(&mut send);
    sent
}

fn single(port: u16, value: u8, length: usize) -> (u16, usize, Vec<u8>) {
    (port, length, vec![value; length])
}

#[test]
fn interleaved_packets_leave_in_a_train_for_each_destination() {
    let runs: Vec<_> = (0..6_u8).map(|i| single(u16::from(i % 2), i, 100)).collect();

    let trains = sent(&runs);

    let of = |values: [u8; 3]| values.into_iter().flat_map(|it| [it; 100]).collect::<Vec<_>>();
    assert_eq!(trains, [(0, 100, of([0, 2, 4])), (1, 100, of([1, 3, 5]))]);
}

#[test]
fn a_shorter_packet_ends_a_train_and_a_longer_one_starts_the_next() {
    let runs = [single(1, 1, 100), single(1, 2, 40), single(1, 3, 100), single(1, 4, 120)];

    let trains = sent(&runs);

    let first = [vec![1; 100], vec![2; 40]].concat();
    assert_eq!(trains, [(1, 100, first), (1, 100, vec![3; 100]), (1, 120, vec![4; 120])]);
}

#[test]
fn the_tail_of_a_received_train_can_start_one_but_not_be_followed() {
    let runs = [(1, 100, vec![1; 30]), single(1, 2, 30), (1, 100, vec![3; 230]), single(1, 4, 100)];

    let lengths: Vec<_> = sent(&runs).iter().map(|(_, _, octets)| octets.len()).collect();

    assert_eq!(lengths, [30, 30, 230, 100]);
}

#[test]
fn trains_keep_the_limits_of_the_kernel() {
    let many: Vec<_> = (0..130).map(|_| single(1, 7, 100)).collect();
    let packets: Vec<_> = sent(&many).iter().map(|(_, _, octets)| octets.len() / 100).collect();
    assert_eq!(packets, [64, 64, 2]);

    let large: Vec<_> = (0..50).map(|_| single(1, 7, 1_400)).collect();
    let packets: Vec<_> = sent(&large).iter().map(|(_, _, octets)| octets.len() / 1_400).collect();
    assert_eq!(packets, [46, 4]);
}

#[test]
fn packets_with_another_mark_of_congestion_leave_by_themselves() {
    let mut staging = Staging::default();
    let mut marks = Vec::new();
    let mut send = |train: &StagedTrain| marks.push(train.ecn);
    for ecn in [None, None, Some(EcnCodepoint::Ce), None] {
        let run = Run { destination: address(1), octets: &[0; 10], segment: 10, ecn };
        staging.put(run, &mut send);
    }
    staging.flush(&mut send);

    assert_eq!(marks, [None, Some(EcnCodepoint::Ce), None]);
}

#[test]
fn more_destinations_than_are_gathered_for_lose_nothing() {
    let runs: Vec<_> = (0..1_000).map(|i| single(i % 500, 1, 20)).collect();

    let trains = sent(&runs);

    assert_eq!(trains.iter().map(|(_, _, octets)| octets.len()).sum::<usize>(), 20_000);
}

#[test]
fn what_goes_another_way_follows_what_was_gathered() {
    let mut staging = Staging::default();
    let mut order = Vec::new();
    let mut send = |train: &StagedTrain| order.push(train.destination.port());
    for port in [1, 2] {
        let run = Run { destination: address(port), octets: &[0; 10], segment: 10, ecn: None };
        staging.put(run, &mut send);
    }

    staging.flush_to(address(2), &mut send);
    staging.flush_to(address(2), &mut send);
    staging.flush_to(address(3), &mut send);
    staging.flush(&mut send);

    assert_eq!(order, [2, 1]);
}

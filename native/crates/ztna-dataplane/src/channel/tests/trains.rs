use super::*;

#[test]
fn a_train_leaves_as_one_run_for_each_stretch_of_one_destination() {
    let mut table = open_table(0);
    let stride = PREFIX_BYTES + 100;
    let mut train = Vec::new();
    // Two to the connector, an unknown one, one to the connector, and a shorter last one.
    for id in [TO_RELAY_A, TO_RELAY_A, WireId([1; 8]), TO_RELAY_A] {
        train.extend(frame(id, 0x40, 100));
    }
    train.extend(frame(TO_RELAY_A, 0x40, 60));

    let mut runs = Vec::new();
    table.forward_train(&mut train, stride, agent(), epoch(), &mut |to, range, stride| {
        runs.push((to, range, stride));
    });

    assert_eq!(
        runs,
        [
            (connector(), 0..2 * stride, stride),
            (connector(), 3 * stride..4 * stride + PREFIX_BYTES + 60, stride),
        ]
    );
}

#[test]
fn a_train_to_two_destinations_is_cut_between_them() {
    let mut table = open_table(0);
    let third = "203.0.113.9:9".parse().unwrap();
    table.set_leg_address(NEWER, Some(third));
    let [id_a, id_c] = [WireId(*b"second-\x01"), WireId(*b"second-\x03")];
    let side = |leg, relay_id| ChannelSide { leg, relay_id, client_id: TO_AGENT };
    table.open(side(AGENT, id_a), side(NEWER, id_c), 0, epoch()).unwrap();
    let mut train = frame(TO_RELAY_A, 0x40, 20);
    train.extend(frame(id_a, 0x40, 20));

    let mut destinations = Vec::new();
    table.forward_train(&mut train, 29, agent(), epoch(), &mut |to, range, _| {
        destinations.push((to, range));
    });

    assert_eq!(destinations, [(connector(), 0..29), (third, 29..58)]);
}

#[test]
fn an_empty_train_and_one_without_a_stride_do_no_harm() {
    let mut table = open_table(0);
    let mut calls = 0;

    table.forward_train(&mut [], 0, agent(), epoch(), &mut |_, _, _| calls += 1);
    assert_eq!(calls, 0);

    let mut single = frame(TO_RELAY_A, 0x40, 20);
    table.forward_train(&mut single, 0, agent(), epoch(), &mut |_, _, _| calls += 1);
    assert_eq!(calls, 1);
}

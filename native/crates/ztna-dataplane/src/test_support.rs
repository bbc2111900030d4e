//! What the tests of several modules share: seeded randomness and an instant.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub(crate) use crate::fuzzing::epoch;

/// Runs `case` so many times with one seeded generator. A failure prints the seed; `SEED=` replays it.
pub(crate) fn seeded(runs: u32, mut case: impl FnMut(&mut fastrand::Rng)) {
    let seed = std::env::var("SEED")
        .map_or_else(|_| fastrand::u64(..), |seed| seed.parse().expect("SEED is a u64"));
    let mut random = fastrand::Rng::with_seed(seed);

    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..runs {
            case(&mut random);
        }
    }));

    if let Err(panic) = outcome {
        #[expect(clippy::print_stderr, reason = "the seed is what replays the failure")]
        {
            eprintln!("seed={seed}");
        }
        resume_unwind(panic);
    }
}

/// Reads spaced hex.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|octet| *octet != b' ').collect();
    digits
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hex is ASCII");
            u8::from_str_radix(pair, 16).expect("hex digits")
        })
        .collect()
}

/// Returns one table of the golden vectors of flows.
pub(crate) fn flow_vectors(table: &str) -> Vec<serde_json::Value> {
    let text = include_str!("../../../../test/vectors/flow.json");
    let vectors: serde_json::Value = serde_json::from_str(text).expect("the vectors are JSON");
    vectors[table].as_array().expect("the table exists").clone()
}

//! Percentiles, and JSON without a library.

use std::time::Duration;

/// Returns p50, p99 and the number of samples as JSON fields. Samples are sorted in place.
pub(crate) fn latency(samples: &mut [Duration], lost: usize) -> String {
    samples.sort_unstable();
    format!(
        r#"{{"p50Us":{:.1},"p99Us":{:.1},"samples":{},"lost":{lost}}}"#,
        percentile(samples, 50),
        percentile(samples, 99),
        samples.len(),
    )
}

/// Nearest rank; 0 without samples.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).map_or(0.0, |it| it.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples_and_never_between_them() {
        let mut samples: Vec<_> = (1..=100).rev().map(Duration::from_micros).collect();

        let json = latency(&mut samples, 2);

        assert_eq!(json, r#"{"p50Us":50.0,"p99Us":99.0,"samples":100,"lost":2}"#);
    }

    #[test]
    fn no_samples_are_zero_and_counted() {
        assert_eq!(latency(&mut [], 7), r#"{"p50Us":0.0,"p99Us":0.0,"samples":0,"lost":7}"#);
    }
}

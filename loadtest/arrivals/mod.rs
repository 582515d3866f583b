//! When requests leave. Pure: a load and a seed give the same instants every time, whatever the answers do.

mod rate;
mod trace;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use rate::Rate;
pub(crate) use trace::{Trace, TraceError, Unit};

/// How requests come in a phase.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Load {
    /// At a rate that may change over time.
    Rate(Rate, Spacing),
    /// All at once.
    Burst(u64),
    /// As they once came: offsets from the phase's beginning, in order.
    Trace(Arc<[Duration]>),
    /// Not at all.
    Nothing,
}

/// How requests of a rate are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spacing {
    /// As evenly as the rate allows.
    Even,
    /// As independent users send them: a Poisson process.
    Random,
}

/// The instants of one service's requests, as offsets from the phase's beginning, in order.
#[derive(Debug)]
pub(crate) struct Arrivals<'a> {
    load: &'a Load,
    rng: fastrand::Rng,
    /// Requests (of a rate: its integral) so far.
    position: f64,
    /// The next one's number.
    next: u64,
    cursor: rate::Cursor,
}

// === impl Load ===

impl Load {
    /// The instants for one of `of` services that share the load: at even spacing they take turns, so that a rate for
    /// twenty services is no burst of twenty.
    pub(crate) fn arrivals(&self, seed: u64, service: usize, of: usize) -> Arrivals<'_> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let position = match self {
            Load::Rate(_, Spacing::Even) => service as f64 / of.max(1) as f64,
            Load::Rate(_, Spacing::Random) => exponential(&mut rng),
            _ => 0.0,
        };
        Arrivals { load: self, rng, position, next: 0, cursor: rate::Cursor::default() }
    }

    /// How many requests to expect of each service.
    pub(crate) fn expected(&self) -> f64 {
        match self {
            Load::Rate(rate, _) => rate.requests(),
            Load::Burst(n) => *n as f64,
            Load::Trace(offsets) => offsets.len() as f64,
            Load::Nothing => 0.0,
        }
    }
}

/// A seed for one purpose of many, made of the scenario's: splitmix64's mixing.
pub(crate) fn seed(of: u64, purpose: u64, number: u64) -> u64 {
    let mut z = of
        .wrapping_add(purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(number.wrapping_mul(0xd1b5_4a32_d192_ed03));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Exponential with mean 1.
fn exponential(rng: &mut fastrand::Rng) -> f64 {
    // `f64` is in 0..1: its complement has a logarithm.
    -(1.0 - rng.f64()).ln()
}

// === impl Arrivals ===

impl Iterator for Arrivals<'_> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let at = match self.load {
            Load::Nothing => None,
            Load::Burst(n) => (self.next < *n).then_some(Duration::ZERO),
            Load::Trace(offsets) => offsets.get(usize::try_from(self.next).ok()?).copied(),
            // Times of a process with a changing rate: those of one with rate 1, sent through the inverse of the
            // rate's integral.
            Load::Rate(rate, spacing) => {
                let at = rate.when(self.position, &mut self.cursor)?;
                self.position += match spacing {
                    Spacing::Even => 1.0,
                    Spacing::Random => exponential(&mut self.rng),
                };
                Some(Duration::from_secs_f64(at))
            }
        };
        self.next += u64::from(at.is_some());
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn even(rate: Rate) -> Load {
        Load::Rate(rate, Spacing::Even)
    }

    fn all(load: &Load, seed: u64) -> Vec<f64> {
        load.arrivals(seed, 0, 1).map(|d| d.as_secs_f64()).collect()
    }

    #[test]
    fn constant_is_evenly_spaced_from_the_beginning() {
        let times = all(&even(Rate::constant(10.0, Duration::from_secs(2))), 1);
        assert_eq!(times.len(), 20);
        for (i, t) in times.iter().enumerate() {
            assert!((t - i as f64 / 10.0).abs() < 1e-6, "{i}: {t}");
        }
    }

    #[test]
    fn steps_and_on_off_send_what_they_say() {
        let second = Duration::from_secs(1);
        let times = all(&even(Rate::steps(&[1.0, 5.0, 0.0, 2.0], second)), 1);
        let per_second: Vec<usize> =
            (0..4).map(|s| times.iter().filter(|t| t.floor() as i32 == s).count()).collect();
        assert_eq!(per_second, [1, 5, 0, 2]);

        let load = even(Rate::on_off(4.0, second, 2 * second, Duration::from_secs(6)));
        let times = all(&load, 1);
        assert_eq!(times.len(), 8);
        assert!(times.iter().all(|t| (0.0..1.0).contains(t) || (3.0..4.0).contains(t)), "{times:?}");
    }

    #[test]
    fn a_ramp_grows_by_the_square() {
        let load = even(Rate::ramp(0.0, 100.0, Duration::from_secs(10)));
        let times = all(&load, 1);
        assert_eq!(times.len(), 500);
        // By t, 5·t² requests: half of the time is a quarter of them.
        assert_eq!(times.iter().filter(|t| **t < 5.0).count(), 125);
        let down = all(&even(Rate::ramp(100.0, 0.0, Duration::from_secs(10))), 1);
        assert_eq!(down.iter().filter(|t| **t < 5.0).count(), 375);
    }

    #[test]
    fn services_that_share_a_rate_take_turns() {
        let load = even(Rate::constant(1.0, Duration::from_secs(3)));
        let second: Vec<Duration> = load.arrivals(1, 1, 2).collect();
        assert_eq!(second, [0.5, 1.5, 2.5].map(Duration::from_secs_f64));
    }

    #[test]
    fn a_burst_is_at_once() {
        assert_eq!(all(&Load::Burst(3), 1), [0.0; 3]);
        assert!(all(&Load::Nothing, 1).is_empty());
    }

    #[test]
    fn random_gaps_are_exponential() {
        let load = Load::Rate(Rate::constant(1000.0, Duration::from_secs(100)), Spacing::Random);
        let times = all(&load, 7);
        let gaps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // 100,000 draws: five standard deviations of the mean are 1.6 %.
        assert!((mean * 1000.0 - 1.0).abs() < 0.016, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{}", variance.sqrt() / mean);
        // A share of 1/e of the gaps is longer than the mean.
        let longer = gaps.iter().filter(|g| **g > mean).count() as f64 / gaps.len() as f64;
        assert!((longer - (-1.0_f64).exp()).abs() < 0.01, "{longer}");
    }

    #[test]
    fn the_seed_decides() {
        let load = Load::Rate(Rate::constant(50.0, Duration::from_secs(2)), Spacing::Random);
        assert_eq!(all(&load, 3), all(&load, 3));
        assert_ne!(all(&load, 3), all(&load, 4));
        let seeds: std::collections::HashSet<u64> =
            (0..100).flat_map(|p| (0..100).map(move |n| seed(1, p, n))).collect();
        assert_eq!(seeds.len(), 10_000);
    }

    fn rates() -> impl Strategy<Value = Rate> {
        let time = (1_u64..20_000).prop_map(Duration::from_millis);
        let rate = 0.0..500.0_f64;
        prop_oneof![
            (rate.clone(), time.clone()).prop_map(|(r, d)| Rate::constant(r, d)),
            (rate.clone(), rate.clone(), time.clone()).prop_map(|(a, b, d)| Rate::ramp(a, b, d)),
            (prop::collection::vec(rate.clone(), 1..10), time.clone()).prop_map(|(r, d)| Rate::steps(&r, d)),
            (rate, time.clone(), time.clone(), time).prop_map(|(r, on, off, d)| Rate::on_off(r, on, off, d)),
        ]
    }

    proptest! {
        #[test]
        fn in_order_within_the_phase_and_as_many_as_expected(rate in rates(), seed: u64, turn in 0_usize..5) {
            let (expected, lasts) = (rate.requests(), rate.duration());
            for spacing in [Spacing::Even, Spacing::Random] {
                let load = Load::Rate(rate.clone(), spacing);
                let times: Vec<Duration> = load.arrivals(seed, turn, 5).collect();
                prop_assert!(times.is_sorted());
                prop_assert!(times.last().is_none_or(|last| *last <= lasts));
                let off = times.len() as f64 - expected;
                let allowed = if spacing == Spacing::Even { 1.0 } else { 6.0 * expected.sqrt() + 6.0 };
                prop_assert!(off.abs() <= allowed, "{} for {expected}", times.len());
            }
        }

        #[test]
        fn even_requests_follow_the_integral(rate in rates()) {
            let load = Load::Rate(rate.clone(), Spacing::Even);
            for (i, at) in load.arrivals(0, 0, 1).enumerate() {
                prop_assert!((rate.before(at.as_secs_f64()) - i as f64).abs() < 1e-3);
            }
        }
    }
}

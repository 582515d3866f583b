//! How far a figure can be trusted: the range in which it would lie were the run repeated.
//!
//! Requests are not independent: a slow moment makes a hundred of them slow together. So the counted part of a run is cut
//! into up to thirty stretches of equal length, and how much the share of requests that are slower than a quantile
//! differs from stretch to stretch says how many independent requests the run is worth (the design effect of a sample
//! by clusters). The range is then that of a quantile of so many independent values: the values at the ranks q ± t·√(q(1−q)/n)
//! (Woodruff's interval), for 95 %.

use hdrhistogram::Histogram;

use super::super::charts::warm_ups;
use crate::run::{ColdStart, PER_UNIT, Quantiles, Run, Second, ServiceRun};

/// As many stretches as that say what there is to say.
const STRETCHES_MOST: u64 = 30;
/// With fewer there is no telling.
const STRETCHES_LEAST: usize = 10;

/// A figure, and where it would lie in 95 of 100 repeats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ranged {
    /// As measured.
    pub(crate) value: f64,
    /// From, to; none = there is no telling. Infinite: beyond the largest value.
    pub(crate) range: Option<(f64, f64)>,
}

/// The counted part of a service's run in stretches.
#[derive(Debug)]
pub(crate) struct Stretches<'a> {
    stretches: Vec<Vec<&'a Second>>,
}

// === impl Stretches ===

impl<'a> Stretches<'a> {
    /// Of a service, without its warm-ups.
    pub(crate) fn of(run: &Run, service: &'a ServiceRun) -> Self {
        let warm_ups = warm_ups(run, &service.name);
        let counted = |second: &&Second| {
            let (from, to) = (second.at_s as f64, second.at_s as f64 + 1.0);
            second.sent > 0 && !warm_ups.iter().any(|(begin, end)| from < *end && to > *begin)
        };
        let seconds: Vec<&Second> = service.seconds.iter().filter(counted).collect();
        let (Some(first), Some(last)) = (seconds.first(), seconds.last()) else {
            return Self { stretches: Vec::new() };
        };
        let (first, span) = (first.at_s, last.at_s - first.at_s + 1);
        let width = span.div_ceil(STRETCHES_MOST).max(1);
        let groups = seconds.chunk_by(|a, b| (a.at_s - first) / width == (b.at_s - first) / width);
        Self { stretches: groups.map(<[_]>::to_vec).collect() }
    }

    /// A quantile of the service's latencies, or of another of its distributions: these are taken to vary over time as
    /// the latencies do, of which every second is known.
    pub(crate) fn quantile(&self, latency: &Quantiles, of: &Quantiles, q: f64) -> Ranged {
        let Some(histogram) = of.histogram().filter(|histogram| !histogram.is_empty()) else {
            return Ranged::default();
        };
        let at = |q: f64| histogram.value_at_quantile(q) as f64 / PER_UNIT;
        let value = at(q);
        let effect = latency.histogram().and_then(|latencies| self.effect_of_quantile(&latencies, q));
        let range = effect.map(|effect| {
            let half = self.t() * (effect * q * (1.0 - q) / histogram.len() as f64).sqrt();
            let high = if q + half < 1.0 { at(q + half) } else { f64::INFINITY };
            (if q > half { at(q - half) } else { 0.0 }, high)
        });
        Ranged { value, range }
    }

    /// The share of requests that failed, as a fraction.
    pub(crate) fn failed(&self) -> Ranged {
        let of = |second: &Second| (second.sent.saturating_sub(second.ok) as f64, second.sent as f64);
        let (failed, sent) = self.sum(|second| of(second));
        if sent <= 0.0 {
            return Ranged::default();
        }
        let share = failed / sent;
        // Wilson's interval: also right when nothing failed.
        let range = self.effect(of, share).map(|effect| {
            let (n, z) = (sent / effect, self.t());
            let middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
            let half = z / (1.0 + z * z / n) * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
            // Rounding must not make a share out of none.
            let low = if failed > 0.0 { (middle - half).max(0.0) } else { 0.0 };
            (low, if failed < sent { (middle + half).min(1.0) } else { 1.0 })
        });
        Ranged { value: share, range }
    }

    fn effect_of_quantile(&self, latencies: &Histogram<u64>, q: f64) -> Option<f64> {
        let value = latencies.value_at_quantile(q) as f64 / PER_UNIT;
        let of = |second: &Second| {
            let n = second.latency_ms.count as f64;
            (n * share_up_to(&second.latency_ms, value), n)
        };
        self.effect(of, q)
    }

    /// How many requests are worth one independent one, for a share of about `p`; `of` gives the part and the whole.
    fn effect(&self, of: impl Fn(&Second) -> (f64, f64), p: f64) -> Option<f64> {
        let sums: Vec<(f64, f64)> = self.stretches.iter().map(|stretch| sum(stretch, &of)).collect();
        let sums: Vec<_> = sums.into_iter().filter(|(_, whole)| *whole > 0.0).collect();
        if sums.len() < STRETCHES_LEAST {
            return None;
        }
        let (part, whole) = sums.iter().fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
        let (share, k) = (part / whole, sums.len() as f64);
        let squares: f64 = sums.iter().map(|(part, whole)| (part - share * whole).powi(2)).sum();
        let variance = k / (k - 1.0) * squares / (whole * whole);
        let independent = p * (1.0 - p) / whole;
        Some(if independent > 0.0 { (variance / independent).max(1.0) } else { 1.0 })
    }

    fn sum(&self, of: impl Fn(&Second) -> (f64, f64)) -> (f64, f64) {
        self.stretches.iter().fold((0.0, 0.0), |(a, b), stretch| {
            let (c, d) = sum(stretch, &of);
            (a + c, b + d)
        })
    }

    /// Student's t for 95 %, within a hundredth from ten stretches on.
    fn t(&self) -> f64 {
        1.96 + 2.6 / (self.stretches.len() as f64 - 1.0).max(1.0)
    }
}

fn sum(stretch: &[&Second], of: impl Fn(&Second) -> (f64, f64)) -> (f64, f64) {
    stretch.iter().fold((0.0, 0.0), |(a, b), second| {
        let (c, d) = of(second);
        (a + c, b + d)
    })
}

/// The share of a second's answers that took at most `value`, between the quantiles that are known of it. What lies
/// below its median is taken to be like what lies above.
fn share_up_to(q: &Quantiles, value: f64) -> f64 {
    let below = |above: f64| (2.0 * q.p50 - above).max(0.0);
    let known = [
        (below(q.p95), 0.0),
        (below(q.p90), 0.1),
        (below(q.p75), 0.25),
        (q.p50, 0.5),
        (q.p75, 0.75),
        (q.p90, 0.9),
        (q.p95, 0.95),
        (q.p99, 0.99),
        (q.p999, 0.999),
        (q.max, 1.0),
    ];
    let Some(upper) = known.iter().position(|(at, _)| *at > value) else { return 1.0 };
    if upper == 0 {
        return 0.0;
    }
    let ((from, low), (to, high)) = (known[upper - 1], known[upper]);
    low + (high - low) * (value - from) / (to - from)
}

/// The median answer of requests that waited for a start. Those that waited at the same time waited for the same thing:
/// each such crowd counts once, and the range is that of so many independent values.
pub(crate) fn cold_median(starts: &[ColdStart]) -> Ranged {
    let mut values: Vec<f64> = starts.iter().map(|start| start.latency_ms).collect();
    values.sort_by(f64::total_cmp);
    let Some(&value) = values.get(values.len() / 2) else { return Ranged::default() };
    let mut spans: Vec<(f64, f64)> =
        starts.iter().map(|start| (start.at_s, start.at_s + start.latency_ms / 1000.0)).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut crowds, mut end) = (0_usize, f64::NEG_INFINITY);
    for (from, to) in spans {
        crowds += usize::from(from > end);
        end = end.max(to);
    }
    // Both as shares of the values.
    let half = 0.98 / (crowds as f64).sqrt();
    let at = |share: f64| values.get((share * values.len() as f64).floor() as usize).copied();
    let range = (crowds >= STRETCHES_LEAST)
        .then(|| (at(0.5 - half).unwrap_or(0.0), at(0.5 + half).unwrap_or(f64::INFINITY)));
    Ranged { value, range }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_lie_between_the_known_ones() {
        let q = Quantiles {
            count: 100,
            p50: 10.0,
            p75: 12.0,
            p90: 14.0,
            p95: 15.0,
            p99: 20.0,
            p999: 30.0,
            max: 30.0,
            ..Quantiles::default()
        };
        for (value, expected) in [
            (0.0, 0.0),
            (6.0, 0.1),
            (10.0, 0.5),
            (11.0, 0.625),
            (14.0, 0.9),
            (25.0, 0.9945),
            (30.0, 1.0),
            (99.0, 1.0),
        ] {
            let share = share_up_to(&q, value);
            assert!((share - expected).abs() < 1e-9, "{value}: {share}");
        }
        let all_the_same =
            Quantiles { p50: 5.0, p75: 5.0, p90: 5.0, p95: 5.0, p99: 5.0, p999: 5.0, max: 5.0, ..q };
        assert!((share_up_to(&all_the_same, 5.0) - 1.0).abs() < 1e-9);
        assert!(share_up_to(&all_the_same, 4.9) < 1.0);
    }

    #[test]
    fn who_waits_together_counts_once() {
        let start = |at_s: f64, latency_ms| ColdStart { at_s, latency_ms, ..ColdStart::default() };
        assert_eq!(cold_median(&[]), Ranged::default());
        // A hundred that waited for one start, in the order of their latencies.
        let burst: Vec<_> = (0..100).map(|i| start(f64::from(i) / 1000.0, 500.0 - f64::from(i))).collect();
        assert_eq!(cold_median(&burst), Ranged { value: 451.0, range: None });
        // A hundred starts.
        let many: Vec<_> = (0..100).map(|i| start(f64::from(i) * 10.0, f64::from(i))).collect();
        assert_eq!(cold_median(&many), Ranged { value: 50.0, range: Some((40.0, 59.0)) });
    }
}

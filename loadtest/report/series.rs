//! Seconds and looks as lines of bounded length.

use std::collections::BTreeMap;

use crate::run::{Observed, Second, ServiceRun};

/// Seconds in a row as one point.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stretch {
    /// Where it begins.
    pub(crate) at_s: f64,
    /// Requests of each code.
    pub(crate) codes: BTreeMap<String, u64>,
    /// Requests whose intended start is in it.
    pub(crate) sent: u64,
    /// Of those that were answered; none = none were.
    pub(crate) latency: Option<Latency>,
}

/// Of one stretch, in ms. The quantiles are its seconds' means, weighted by their requests; the largest is the largest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Latency {
    /// Half are at most this.
    pub(crate) p50: f64,
    /// 90 %.
    pub(crate) p90: f64,
    /// 99 %.
    pub(crate) p99: f64,
    /// The largest.
    pub(crate) max: f64,
}

/// A service's seconds as a bounded number of stretches.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stretches {
    /// How long each is.
    pub(crate) width_s: u64,
    /// In order, without those in which nothing was sent.
    pub(crate) all: Vec<Stretch>,
}

// === impl Stretches ===

impl Stretches {
    /// At most `most` of them.
    pub(crate) fn of(service: &ServiceRun, most: usize) -> Self {
        let end = service.seconds.last().map_or(0, |second| second.at_s + 1);
        let width_s = end.div_ceil(most as u64).max(1);
        let mut all: Vec<Stretch> = Vec::new();
        for group in service.seconds.chunk_by(|a, b| a.at_s / width_s == b.at_s / width_s) {
            all.extend(Stretch::of(group, width_s));
        }
        Self { width_s, all }
    }
}

// === impl Stretch ===

impl Stretch {
    fn of(group: &[Second], width_s: u64) -> Option<Self> {
        let at_s = (group.first()?.at_s / width_s * width_s) as f64;
        let mut stretch = Self { at_s, ..Self::default() };
        let (mut latency, mut answered) = (Latency::default(), 0.0);
        for second in group {
            stretch.sent += second.sent;
            for (code, n) in &second.codes {
                *stretch.codes.entry(code.clone()).or_default() += n;
            }
            let (weight, q) = (second.latency_ms.count as f64, &second.latency_ms);
            answered += weight;
            latency.p50 += weight * q.p50;
            latency.p90 += weight * q.p90;
            latency.p99 += weight * q.p99;
            latency.max = latency.max.max(q.max);
        }
        if answered > 0.0 {
            latency.p50 /= answered;
            latency.p90 /= answered;
            latency.p99 /= answered;
            stretch.latency = Some(latency);
        }
        Some(stretch)
    }
}

/// One quantity of the looks as steps: each value holds until the next look. With too many looks, the largest of each of
/// `most` stretches. Looks without the quantity end a line.
pub(crate) fn steps(
    looks: &[Observed],
    of: fn(&Observed) -> Option<u64>,
    most: usize,
) -> Vec<Vec<(f64, f64)>> {
    let mut lines: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut line: Vec<(f64, f64)> = Vec::new();
    for group in looks.chunks(looks.len().div_ceil(most.max(1)).max(1)) {
        let (at_s, value) = (group[0].at_s, group.iter().filter_map(of).max());
        match (value, line.last().copied()) {
            (Some(value), before) => {
                let value = value as f64;
                if let Some((_, held)) = before
                    && held.to_bits() != value.to_bits()
                {
                    line.push((at_s, held));
                }
                line.push((at_s, value));
            }
            (None, Some(_)) => lines.push(std::mem::take(&mut line)),
            (None, None) => {}
        }
    }
    lines.push(line);
    lines.retain(|line| line.len() > 1);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Quantiles;

    fn second(at_s: u64, p50: f64, max: f64, count: u64) -> Second {
        let latency_ms = Quantiles { count, p50, p90: max, p99: max, max, ..Quantiles::default() };
        Second {
            at_s,
            sent: count,
            latency_ms,
            codes: [("200".to_owned(), count)].into(),
            ..Second::default()
        }
    }

    #[test]
    fn an_hour_is_thinned_out() {
        let seconds =
            (0..3600).map(|at| second(at, 1.0, if at == 1_801 { 500.0 } else { 2.0 }, 10)).collect();
        let stretches = Stretches::of(&ServiceRun { seconds, ..ServiceRun::default() }, 300);
        assert_eq!((stretches.width_s, stretches.all.len()), (12, 300));
        assert_eq!(stretches.all.iter().map(|s| s.sent).sum::<u64>(), 36_000);
        let peak = stretches.all[150].latency.unwrap();
        assert!((peak.max - 500.0).abs() < 1e-9 && (peak.p50 - 1.0).abs() < 1e-9, "{peak:?}");
        assert_eq!(stretches.all[150].codes["200"], 120);
    }

    #[test]
    fn a_minute_is_as_it_was() {
        let seconds = vec![second(0, 1.0, 2.0, 10), second(59, 3.0, 4.0, 0)];
        let stretches = Stretches::of(&ServiceRun { seconds, ..ServiceRun::default() }, 300);
        assert_eq!(stretches.width_s, 1);
        assert_eq!(stretches.all.iter().map(|s| s.latency.is_some()).collect::<Vec<_>>(), [true, false]);
        assert!(Stretches::of(&ServiceRun::default(), 300).all.is_empty());
    }

    #[test]
    fn looks_become_steps() {
        let look = |at_s, ready| Observed { at_s, ready, ..Observed::default() };
        let looks =
            [look(0.0, Some(0)), look(1.0, Some(2)), look(2.0, None), look(3.0, Some(1)), look(4.0, Some(1))];
        let lines = steps(&looks, |look| look.ready, 100);
        assert_eq!(lines, [vec![(0.0, 0.0), (1.0, 0.0), (1.0, 2.0)], vec![(3.0, 1.0), (4.0, 1.0)]]);
        let many: Vec<_> = (0..10_000).map(|at| look(f64::from(at), Some(at as u64 % 7))).collect();
        assert!(steps(&many, |look| look.ready, 100)[0].len() <= 200);
    }
}

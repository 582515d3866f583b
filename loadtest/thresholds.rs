//! Thresholds and what was measured.

use crate::run::{ColdStart, Quantiles, ServiceRun, Totals, Verdict};
use crate::scenario::{Metric, Scenario, Stat, Threshold};

/// What a threshold is compared with.
struct Measured<'a> {
    what: &'a str,
    totals: &'a Totals,
    starts: Vec<&'a ColdStart>,
    starts_count: u64,
    late: &'a Quantiles,
}

/// Every threshold of a scenario: each service's, then those of all together.
pub(crate) fn verdicts(
    scenario: &Scenario,
    services: &[ServiceRun],
    all: &Totals,
    late: &Quantiles,
) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (service, run) in scenario.services.iter().zip(services) {
        let starts = run.starts.iter().collect();
        let measured =
            Measured { what: &run.name, totals: &run.total, starts, starts_count: run.starts_count, late };
        verdicts.extend(service.thresholds.iter().map(|threshold| measured.verdict(threshold)));
    }
    let starts = services.iter().flat_map(|run| &run.starts).collect();
    let starts_count = services.iter().map(|run| run.starts_count).sum();
    let measured = Measured { what: "all", totals: all, starts, starts_count, late };
    verdicts.extend(scenario.thresholds.iter().map(|threshold| measured.verdict(threshold)));
    verdicts
}

// === impl Measured ===

impl Measured<'_> {
    fn verdict(&self, threshold: &Threshold) -> Verdict {
        let Threshold { metric, limit } = *threshold;
        let measured = self.measure(metric);
        let holds = |m: f64| if metric.at_least() { m >= limit } else { m <= limit };
        Verdict {
            what: format!("{} {}", self.what, metric.name()),
            limit,
            at_least: metric.at_least(),
            unit: metric.unit().to_owned(),
            measured,
            passed: measured.is_some_and(holds),
        }
    }

    /// None: there was nothing to measure.
    fn measure(&self, metric: Metric) -> Option<f64> {
        let totals = self.totals;
        match metric {
            Metric::Latency(stat) => of(Some(&totals.latency_ms), stat),
            Metric::FirstToken(stat) => of(totals.first_token_ms.as_ref(), stat),
            Metric::TokenGap(stat) => of(totals.token_gap_ms.as_ref(), stat),
            Metric::RoundTrip(stat) => of(totals.round_trip_ms.as_ref(), stat),
            Metric::Late(stat) => of(Some(self.late), stat),
            Metric::Start(stat) => self.start(stat),
            Metric::Starts => Some(self.starts_count as f64),
            // What could not be sent is an error to whoever wanted it sent.
            Metric::Errors => {
                let wanted = totals.sent + totals.dropped;
                (wanted > 0).then(|| (wanted - totals.ok) as f64 * 100.0 / wanted as f64)
            }
            Metric::Dropped => Some(totals.dropped as f64),
            Metric::Requests => Some(totals.sent as f64),
            Metric::PerSecond => Some(totals.per_s),
            Metric::TokensPerSecond => of(totals.tokens_per_s.as_ref(), Stat::P50),
        }
    }

    /// Of starts there are few: each is known.
    fn start(&self, stat: Stat) -> Option<f64> {
        let mut times: Vec<f64> = self.starts.iter().map(|start| start.latency_ms).collect();
        times.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (share * times.len() as f64).ceil() as usize;
            times.get(place.saturating_sub(1)).copied()
        };
        match stat {
            Stat::Mean => (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64),
            Stat::P50 => at(0.5),
            Stat::P75 => at(0.75),
            Stat::P90 => at(0.9),
            Stat::P95 => at(0.95),
            Stat::P99 => at(0.99),
            Stat::P999 => at(0.999),
            Stat::Max => times.last().copied(),
        }
    }
}

fn of(quantiles: Option<&Quantiles>, stat: Stat) -> Option<f64> {
    let quantiles = quantiles.filter(|q| q.count > 0)?;
    Some(match stat {
        Stat::Mean => quantiles.mean,
        Stat::P50 => quantiles.p50,
        Stat::P75 => quantiles.p75,
        Stat::P90 => quantiles.p90,
        Stat::P95 => quantiles.p95,
        Stat::P99 => quantiles.p99,
        Stat::P999 => quantiles.p999,
        Stat::Max => quantiles.max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(latency_ms: f64) -> ColdStart {
        ColdStart { latency_ms, ..ColdStart::default() }
    }

    fn verdict(metric: Metric, limit: f64) -> Verdict {
        let latency_ms = Quantiles { count: 10, p99: 20.0, ..Quantiles::default() };
        let totals = Totals { sent: 9, ok: 8, dropped: 1, latency_ms, ..Totals::default() };
        let starts = [start(3.0), start(1.0), start(2.0)];
        let measured = Measured {
            what: "iris",
            totals: &totals,
            starts: starts.iter().collect(),
            starts_count: 3,
            late: &Quantiles::default(),
        };
        measured.verdict(&Threshold { metric, limit })
    }

    #[test]
    fn at_most_and_at_least() {
        assert!(verdict(Metric::Latency(Stat::P99), 20.0).passed);
        assert!(!verdict(Metric::Latency(Stat::P99), 19.9).passed);
        assert!(verdict(Metric::Requests, 9.0).passed);
        assert!(!verdict(Metric::Requests, 10.0).passed);
        assert_eq!(verdict(Metric::Latency(Stat::P99), 1.0).what, "iris p99");
    }

    #[test]
    fn what_was_not_sent_is_an_error() {
        assert_eq!(verdict(Metric::Errors, 20.0).measured, Some(20.0));
    }

    #[test]
    fn starts_are_ranked() {
        assert_eq!(verdict(Metric::Start(Stat::P50), 2.0).measured, Some(2.0));
        assert_eq!(verdict(Metric::Start(Stat::Max), 2.0).measured, Some(3.0));
        assert!(verdict(Metric::Starts, 3.0).passed);
    }

    #[test]
    fn nothing_measured_is_no_success() {
        let verdict = verdict(Metric::FirstToken(Stat::P50), 1e9);
        assert_eq!((verdict.measured, verdict.passed), (None, false));
    }
}

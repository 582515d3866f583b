//! Runs for tests: latencies drawn from a seed and counted as a run's own are.

use hdrhistogram::Histogram;

use crate::run::{
    ColdStart, Generator, Observed, PER_UNIT, Phase, Quantiles, Run, Second, ServiceRun, Totals, VERSION,
    Verdict,
};

/// What is to be like what.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) seed: u64,
    pub(super) services: Vec<String>,
    pub(super) seconds: u64,
    pub(super) per_second: u64,
    /// The median.
    pub(super) median_ms: f64,
    /// Of a hundred, how many fail.
    pub(super) failing: f64,
}

// === impl Sample ===

impl Default for Sample {
    fn default() -> Self {
        Self {
            seed: 1,
            services: vec!["iris".into()],
            seconds: 60,
            per_second: 100,
            median_ms: 4.0,
            failing: 0.5,
        }
    }
}

impl Sample {
    pub(super) fn run(&self) -> Run {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let services: Vec<_> = self.services.iter().map(|name| self.service(name, &mut rng)).collect();
        let end = self.seconds as f64;
        let mut late = Histogram::new(3).unwrap();
        for _ in 0..1000 {
            late.record((exponential(&mut rng) * 40.0) as u64).unwrap();
        }
        Run {
            version: VERSION,
            scenario: "burst at zero".into(),
            scenario_text: "services:\n  - {name: iris, url: 'http://127.0.0.1:8080/'}\n".into(),
            started: "2026-11-22T20:00:00Z".into(),
            duration_s: end,
            generator: Generator {
                late_ms: Quantiles::of(&late),
                sent: services.iter().map(|s| s.total.sent).sum(),
                open_max: 42,
                ..Generator::default()
            },
            phases: vec![
                Phase {
                    name: "warm-up".into(),
                    from_s: 0.0,
                    to_s: warm_up(end),
                    warm_up: true,
                    service: None,
                },
                Phase {
                    name: "steady".into(),
                    from_s: warm_up(end),
                    to_s: end,
                    warm_up: false,
                    service: None,
                },
            ],
            thresholds: vec![
                verdict("iris p99", 250.0, Some(31.5), true),
                verdict("iris first token p50", 1.0, None, false),
            ],
            services,
            ..Run::default()
        }
    }

    fn service(&self, name: &str, rng: &mut fastrand::Rng) -> ServiceRun {
        let mut service = ServiceRun {
            name: name.into(),
            url: format!("http://{name}.default.localhost:8080/"),
            protocol: "http1".into(),
            ..ServiceRun::default()
        };
        let mut sums = [Sums::default(), Sums::default()];
        for at_s in 0..self.seconds {
            let mut second = Second { at_s, ..Second::default() };
            // Coarser than a run's own: there are many.
            let mut histogram = Histogram::<u64>::new(1).unwrap();
            let warm_up = (at_s as f64) < warm_up(self.seconds as f64);
            let sums = &mut sums[usize::from(!warm_up)];
            // Some seconds are busier than others.
            let busy = 1.0 + 0.2 * (at_s as f64 / 7.0).sin() + 0.1 * rng.f64();
            for i in 0..self.per_second {
                let cold = at_s == 0 && i < 5;
                let start_ms = if cold { 800.0 } else { 0.0 };
                let latency_ms = self.median_ms * busy * (0.5 + exponential(rng) * 0.7) + start_ms;
                let code = match rng.f64() * 100.0 {
                    x if x < self.failing / 2.0 => "timeout",
                    x if x < self.failing => "503",
                    _ => "200",
                };
                if cold {
                    service.starts_count += 1;
                    service.starts.push(ColdStart {
                        at_s: at_s as f64,
                        latency_ms,
                        queue_ms: Some(start_ms - 4.0),
                        start_ms: Some(start_ms - 10.0),
                        ready_ms: Some(start_ms - 200.0),
                    });
                }
                second.sent += 1;
                *second.codes.entry(code.into()).or_default() += 1;
                if code == "timeout" {
                    second.failed += 1;
                } else {
                    second.done += 1;
                    second.ok += u64::from(code == "200");
                    let us = (latency_ms * PER_UNIT) as u64;
                    histogram.record(us).unwrap();
                    sums.latency.record(us).unwrap();
                }
                if !warm_up {
                    *service.codes.entry(code.into()).or_default() += 1;
                }
            }
            sums.add(&second);
            second.latency_ms = Quantiles::summary(&histogram);
            service.seconds.push(second);
            for half in 0..2 {
                service.observed.push(look(at_s as f64 + f64::from(half) / 2.0, self.seconds as f64));
            }
        }
        service.total = sums[1].totals(self.per_second as f64);
        service.phases = sums.iter().map(|sums| sums.totals(self.per_second as f64)).collect();
        service
    }
}

struct Sums {
    sent: u64,
    done: u64,
    ok: u64,
    failed: u64,
    latency: Histogram<u64>,
}

// === impl Sums ===

impl Default for Sums {
    fn default() -> Self {
        Self { sent: 0, done: 0, ok: 0, failed: 0, latency: Histogram::new(3).unwrap() }
    }
}

impl Sums {
    fn add(&mut self, second: &Second) {
        self.sent += second.sent;
        self.done += second.done;
        self.ok += second.ok;
        self.failed += second.failed;
    }

    fn totals(&self, per_s: f64) -> Totals {
        Totals {
            sent: self.sent,
            done: self.done,
            ok: self.ok,
            failed: self.failed,
            per_s,
            latency_ms: Quantiles::of(&self.latency),
            service_ms: Quantiles::of(&self.latency),
            ..Totals::default()
        }
    }
}

fn exponential(rng: &mut fastrand::Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

fn warm_up(seconds: f64) -> f64 {
    (seconds / 12.0).floor().min(5.0)
}

fn look(at_s: f64, end: f64) -> Observed {
    let (starting, ready) = match at_s / end {
        t if at_s < 1.0 && t < 0.1 => (1, 0),
        t if t < 0.3 => (0, 1),
        t if t < 0.34 => (3, 1),
        t if t < 0.9 => (0, 4),
        _ => (0, 2),
    };
    let queued = if starting > 0 { 12 } else { 0 };
    Observed {
        at_s,
        desired: Some(starting + ready),
        ready: Some(ready),
        starting: Some(starting),
        in_flight: Some(ready * 2),
        queued: Some(queued),
    }
}

fn verdict(what: &str, limit: f64, measured: Option<f64>, passed: bool) -> Verdict {
    Verdict { what: what.into(), limit, at_least: false, unit: "ms".into(), measured, passed }
}

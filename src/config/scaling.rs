//! `spec.scaling` and what else sets its knobs → [`Scaling`]. The ranges are Knative's (reference/knative.md §3).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::decode::{At, Field, Fields};
use super::node::Value;
use super::problem::Sink;
use super::quantity;
use super::spec::{Aggregation, Metric, Policy, Scaling, Slo};

/// Replicas of one service.
pub const REPLICAS_MAX: u32 = 10_000;
/// Largest target and rate.
pub const NUMBER_MAX: f64 = 1e6;
/// Smallest target (Knative's).
pub const TARGET_MIN: f64 = 0.01;
/// Stable window.
pub const WINDOW: RangeInclusive<Duration> = Duration::from_secs(6)..=Duration::from_hours(1);
/// Panic window; also at most the stable window.
pub const PANIC_WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);
/// In percent.
pub const PANIC_THRESHOLD: RangeInclusive<u32> = 110..=1000;
/// Scale-down delay.
pub const SCALE_DOWN_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);
/// Scale to zero after: longer than Knative's hour, because a large model may stay warm for a day.
pub const SCALE_TO_ZERO_AFTER: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
/// Utilisation when nothing says otherwise.
pub const UTILISATION: f64 = 0.7;
/// Requests per second that one replica is taken to manage (Knative's).
pub const RPS_TOTAL: f64 = 200.0;
/// Concurrency that one replica is taken to manage when it is unlimited (Knative's).
pub const CONCURRENCY_TOTAL: f64 = 100.0;

/// What was asked for; each knob at most once, with its place.
#[derive(Clone, Debug, Default)]
pub struct Knobs {
    /// `min`
    pub min: Option<At<u32>>,
    /// `max`
    pub max: Option<At<u32>>,
    /// `initial`
    pub initial: Option<At<u32>>,
    /// `activation`
    pub activation: Option<At<u32>>,
    /// `policy`
    pub policy: Option<Policy>,
    /// `metric`
    pub metric: Option<Metric>,
    /// `target`
    pub target: Option<At<Target>>,
    /// Factor on a [`Target::Total`] or on the default; only annotations set it.
    pub utilisation: Option<f64>,
    /// `window`
    pub window: Option<At<Duration>>,
    /// `panicWindow`
    pub panic_window: Option<At<PanicWindow>>,
    /// `panicThreshold`, as a factor
    pub panic_threshold: Option<f64>,
    /// `maxUpRate`
    pub max_up_rate: Option<f64>,
    /// `maxDownRate`
    pub max_down_rate: Option<f64>,
    /// `scaleDownDelay`
    pub scale_down_delay: Option<Duration>,
    /// `scaleToZeroAfter`
    pub scale_to_zero_after: Option<Duration>,
    /// `burstCapacity`
    pub burst_capacity: Option<i64>,
    /// How windows average; only an annotation sets it.
    pub aggregation: Option<Aggregation>,
    /// `slo`
    pub slo: Option<Slo>,
}

/// The ways to say a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// A share of what one replica can take.
    Share(f64),
    /// Load per replica, as it is.
    Each(f64),
    /// What one replica can take; utilisation comes on top (Knative's annotation, KServe's `scaleTarget`).
    Total(f64),
}

fn policy(v: &Field<'_>) -> Option<Policy> {
    let policy = v.choice(&[("kpa", Policy::Kpa), ("slo", Policy::Slo)])?;
    if policy == Policy::Slo {
        v.warn("slo is not built yet: kpa decides, and `slo` has no effect");
    }
    Some(policy)
}

/// The ways to say a panic window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PanicWindow {
    /// Its length.
    Length(Duration),
    /// Percent of the stable window.
    Percent(f64),
}

// === impl Knobs ===

impl Knobs {
    /// Reads `spec.scaling`.
    pub fn read(f: &Fields<'_>) -> Self {
        let replicas = |name| f.take(name).and_then(|v| Some(v.at(v.whole(0..=REPLICAS_MAX)?)));
        // Rates are above 1, not at least 1.
        let rate = |name| {
            let v: Field<'_> = f.take(name)?;
            let n = v.any_number().filter(|n| *n > 1.0 && *n <= NUMBER_MAX);
            n.or_else(|| v.wrong(format!("a number above 1, at most {NUMBER_MAX}")))
        };
        Self {
            min: replicas("min"),
            max: replicas("max"),
            initial: replicas("initial"),
            activation: f.take("activation").and_then(|v| Some(v.at(v.whole(1..=REPLICAS_MAX)?))),
            policy: f.take("policy").and_then(|v| policy(&v)),
            metric: f.take("metric").and_then(|v| metric(&v)),
            target: f.take("target").and_then(|v| Some(v.at(target(&v)?))),
            utilisation: None,
            window: f.take("window").and_then(|v| Some(v.at(v.seconds(WINDOW)?))),
            panic_window: f
                .take("panicWindow")
                .and_then(|v| Some(v.at(PanicWindow::Length(v.seconds(PANIC_WINDOW)?)))),
            panic_threshold: f.take("panicThreshold").and_then(|v| v.percent(PANIC_THRESHOLD)),
            max_up_rate: rate("maxUpRate"),
            max_down_rate: rate("maxDownRate"),
            scale_down_delay: f.take("scaleDownDelay").and_then(|v| v.seconds(SCALE_DOWN_DELAY)),
            scale_to_zero_after: f.take("scaleToZeroAfter").and_then(|v| v.duration(SCALE_TO_ZERO_AFTER)),
            burst_capacity: f.take("burstCapacity").and_then(|v| burst_capacity(&v)),
            aggregation: None,
            slo: f.fields("slo").map(slo),
        }
    }

    /// These knobs, and `lower`'s where these say nothing.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        // A target of one's own comes with its own meaning: the lower one's utilisation is not applied to it.
        let utilisation =
            if self.target.is_some() { self.utilisation } else { self.utilisation.or(lower.utilisation) };
        Self {
            min: self.min.or(lower.min),
            max: self.max.or(lower.max),
            initial: self.initial.or(lower.initial),
            activation: self.activation.or(lower.activation),
            policy: self.policy.or(lower.policy),
            metric: self.metric.or(lower.metric),
            target: self.target.or(lower.target),
            utilisation,
            window: self.window.or(lower.window),
            panic_window: self.panic_window.or(lower.panic_window),
            panic_threshold: self.panic_threshold.or(lower.panic_threshold),
            max_up_rate: self.max_up_rate.or(lower.max_up_rate),
            max_down_rate: self.max_down_rate.or(lower.max_down_rate),
            scale_down_delay: self.scale_down_delay.or(lower.scale_down_delay),
            scale_to_zero_after: self.scale_to_zero_after.or(lower.scale_to_zero_after),
            burst_capacity: self.burst_capacity.or(lower.burst_capacity),
            aggregation: self.aggregation.or(lower.aggregation),
            slo: self.slo.or(lower.slo),
        }
    }

    /// Fills in the defaults and checks the knobs against each other.
    pub fn resolve(self, concurrency_limit: u32, sink: &Sink) -> Scaling {
        let d = Scaling::default();
        let metric = self.metric.unwrap_or_default();
        let (total, target) = self.load(metric, concurrency_limit, sink);
        let window = self.window.as_ref().map_or(d.window, |w| w.value);
        let min = self.min.as_ref().map_or(d.min, |m| m.value);
        // A minimum above the default maximum is what the user wants; the default gives way.
        let max = self.max.as_ref().map_or(d.max.max(min), |m| m.value);
        self.check_bounds(min, max, sink);
        Scaling {
            min,
            max,
            initial: self.initial.as_ref().map_or(d.initial, |i| i.value),
            activation: self.activation.as_ref().map_or(d.activation, |a| a.value),
            policy: self.policy.unwrap_or_default(),
            metric,
            total,
            target,
            window,
            panic_window: self.panic(window, sink),
            panic_threshold: self.panic_threshold.unwrap_or(d.panic_threshold),
            max_up_rate: self.max_up_rate.unwrap_or(d.max_up_rate),
            max_down_rate: self.max_down_rate.unwrap_or(d.max_down_rate),
            scale_down_delay: self.scale_down_delay.unwrap_or(d.scale_down_delay),
            scale_to_zero_after: self.scale_to_zero_after.unwrap_or(d.scale_to_zero_after),
            burst_capacity: self.burst_capacity.unwrap_or(d.burst_capacity),
            aggregation: self.aggregation.unwrap_or_default(),
            slo: self.slo.unwrap_or_default(),
        }
    }

    /// What one replica can take, and what is aimed at.
    fn load(&self, metric: Metric, limit: u32, sink: &Sink) -> (f64, f64) {
        let capped = metric == Metric::Concurrency && limit > 0;
        let usual = match metric {
            Metric::Rps => RPS_TOTAL,
            Metric::Concurrency if limit > 0 => f64::from(limit),
            Metric::Concurrency => CONCURRENCY_TOTAL,
        };
        let cap = |n: f64| if capped { n.min(f64::from(limit)) } else { n };
        let utilisation = self.utilisation.unwrap_or(UTILISATION);
        let Some(At { value, pos, path }) = &self.target else {
            return (usual, (usual * utilisation).max(TARGET_MIN));
        };
        let (total, target) = match *value {
            Target::Share(share) => (usual, usual * share),
            Target::Each(n) => {
                if cap(n) < n {
                    sink.warn(*pos, path, format!("{n} is above concurrency.limit, {limit} is used"));
                }
                (if capped { usual } else { n }, cap(n))
            }
            Target::Total(n) => (cap(n), cap(n) * utilisation),
        };
        (total, target.max(TARGET_MIN))
    }

    /// A tenth of the window unless stated, in whole seconds as Knative rounds, at least one.
    fn panic(&self, window: Duration, sink: &Sink) -> Duration {
        const DEFAULT_PERCENT: f64 = 10.0;
        let share = |percent: f64| {
            let seconds = (window.as_secs_f64() * percent / 100.0).round().max(1.0);
            Duration::from_secs(seconds as u64)
        };
        match &self.panic_window {
            None => share(DEFAULT_PERCENT),
            Some(At { value: PanicWindow::Percent(p), .. }) => share(*p),
            Some(At { value: PanicWindow::Length(length), pos, path }) => {
                if *length > window {
                    let (l, w) = (quantity::show_duration(*length), quantity::show_duration(window));
                    sink.problem(*pos, path, l, format!("at most scaling.window, {w}"));
                }
                *length
            }
        }
    }

    fn check_bounds(&self, min: u32, max: u32, sink: &Sink) {
        if max == 0 {
            return;
        }
        if let Some(m) = self.min.as_ref().filter(|_| min > max) {
            sink.problem(m.pos, &m.path, format!("{min}"), format!("at most the maximum, {max}"));
        }
        for knob in [&self.initial, &self.activation].into_iter().flatten() {
            if knob.value > max {
                let given = knob.value.to_string();
                sink.problem(knob.pos, &knob.path, given, format!("at most the maximum, {max}"));
            }
        }
    }
}

/// `concurrency` or `rps`.
pub fn metric(v: &Field<'_>) -> Option<Metric> {
    match v.node.as_text() {
        Some(m @ ("cpu" | "memory")) => {
            v.problem(format!("{m} is not supported: it cannot wake from zero"), "concurrency, rps");
            None
        }
        _ => v.choice(&[("concurrency", Metric::Concurrency), ("rps", Metric::Rps)]),
    }
}

/// -1 or a count.
pub fn burst_capacity(v: &Field<'_>) -> Option<i64> {
    const BURST_MAX: i64 = 1_000_000;
    match v.node.value {
        Value::Int(i, _) if (-1..=BURST_MAX).contains(&i) => Some(i),
        _ => v.wrong(format!("-1 (activator always in the path) or a whole number from 0 to {BURST_MAX}")),
    }
}

fn target(v: &Field<'_>) -> Option<Target> {
    let share = v.node.as_text().and_then(quantity::percent).filter(|p| (1.0..=100.0).contains(p));
    let number = v.any_number().filter(|n| (TARGET_MIN..=NUMBER_MAX).contains(n));
    match (share, number) {
        (Some(percent), _) => Some(Target::Share(percent / 100.0)),
        (_, Some(n)) if n < 1.0 => Some(Target::Share(n)),
        (_, Some(n)) => Some(Target::Each(n)),
        _ => v.wrong(format!(
            "a share of concurrency.limit ({TARGET_MIN} to below 1, or 1% to 100%), or the number itself, from 1 to {NUMBER_MAX}"
        )),
    }
}

fn slo(f: Fields<'_>) -> Slo {
    const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(1);
    const PERCENTILE: RangeInclusive<f64> = 1.0..=99.99;
    let d = Slo::default();
    let slo = Slo {
        wait: f.take("wait").and_then(|v| v.duration(WAIT)).unwrap_or(d.wait),
        percentile: f.take("percentile").and_then(|v| v.number(PERCENTILE)).unwrap_or(d.percentile),
    };
    f.finish();
    slo
}

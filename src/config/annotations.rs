//! Knative's `autoscaling.knative.dev/*` annotations → knobs, with Knative's ranges (reference/knative.md §3).
//!
//! They win over defaults, not over `spec`. `scale-to-zero-pod-retention-period` sets `scaleToZeroAfter`, also to less
//! than its default: Knative's other bound, the grace period, is not a service's to set and has no counterpart here.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::decode::{At, Field};
use super::node::Node;
use super::problem::Sink;
use super::scaling::{
    Knobs, NUMBER_MAX, PANIC_THRESHOLD, PanicWindow, REPLICAS_MAX, SCALE_DOWN_DELAY, TARGET_MIN, Target,
    WINDOW, burst_capacity, metric,
};
use super::similar::suggestion;
use super::spec::Aggregation;

/// What the annotations begin with.
pub const PREFIX: &str = "autoscaling.knative.dev/";

/// Scale-to-zero retention.
const RETENTION: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);

/// Every annotation that is known: as documented, and in camel case.
const KNOWN: [(&str, &str); 15] = [
    ("class", "class"),
    ("metric", "metric"),
    ("target", "target"),
    ("target-utilization-percentage", "targetUtilizationPercentage"),
    ("window", "window"),
    ("panic-window-percentage", "panicWindowPercentage"),
    ("panic-threshold-percentage", "panicThresholdPercentage"),
    ("target-burst-capacity", "targetBurstCapacity"),
    ("scale-down-delay", "scaleDownDelay"),
    ("scale-to-zero-pod-retention-period", "scaleToZeroPodRetentionPeriod"),
    ("min-scale", "minScale"),
    ("max-scale", "maxScale"),
    ("initial-scale", "initialScale"),
    ("activation-scale", "activationScale"),
    ("metric-aggregation-algorithm", "metricAggregationAlgorithm"),
];

/// The knobs that an object's annotations set. Others than Knative's are not looked at.
pub fn read(annotations: &[(String, At<String>)], sink: &Sink) -> Knobs {
    let mut knobs = Knobs::default();
    let mut seen: Vec<&str> = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let node = Node::plain(&text.value, text.pos);
        let field = Field::new(&node, text.path.clone(), sink);
        let Some((name, _)) = KNOWN.iter().find(|(kebab, camel)| name == *kebab || name == *camel) else {
            let names: Vec<&str> = KNOWN.iter().map(|(kebab, _)| *kebab).collect();
            field.problem("unknown annotation", suggestion(name, &names));
            continue;
        };
        if seen.contains(name) {
            field.problem("given twice, in two spellings", "each annotation once");
            continue;
        }
        seen.push(name);
        set(&mut knobs, name, &field);
    }
    check_activation(&knobs, sink);
    knobs
}

fn set(knobs: &mut Knobs, name: &str, f: &Field<'_>) {
    let replicas = |least| f.whole(least..=REPLICAS_MAX).map(|n| f.at(n));
    let percent = |least: f64, most: f64| f.number(least..=most);
    match name {
        "class" => class(f),
        "metric" => knobs.metric = metric(f),
        "target" => knobs.target = f.number(TARGET_MIN..=NUMBER_MAX).map(|n| f.at(Target::Total(n))),
        "target-utilization-percentage" => knobs.utilisation = percent(1.0, 100.0).map(|p| p / 100.0),
        "window" => knobs.window = f.seconds(WINDOW).map(|w| f.at(w)),
        "panic-window-percentage" => {
            knobs.panic_window = percent(1.0, 100.0).map(|p| f.at(PanicWindow::Percent(p)));
        }
        "panic-threshold-percentage" => {
            let (least, most) = (f64::from(*PANIC_THRESHOLD.start()), f64::from(*PANIC_THRESHOLD.end()));
            knobs.panic_threshold = percent(least, most).map(|p| p / 100.0);
        }
        "target-burst-capacity" => knobs.burst_capacity = burst_capacity(f),
        "scale-down-delay" => knobs.scale_down_delay = f.seconds(SCALE_DOWN_DELAY),
        "scale-to-zero-pod-retention-period" => {
            knobs.scale_to_zero_after = f.duration(RETENTION);
        }
        "min-scale" => knobs.min = replicas(0),
        "max-scale" => knobs.max = replicas(0),
        "initial-scale" => knobs.initial = replicas(0),
        "activation-scale" => knobs.activation = replicas(2),
        "metric-aggregation-algorithm" => {
            knobs.aggregation = f.choice(&[
                ("linear", Aggregation::Linear),
                ("weighted-exponential", Aggregation::WeightedExponential),
            ]);
        }
        _ => unreachable!("bug: {name} is in KNOWN"),
    }
}

fn class(f: &Field<'_>) {
    match f.node.as_text().map(|t| t.strip_suffix(".autoscaling.knative.dev").unwrap_or(t)) {
        Some("kpa") => {}
        Some("hpa") => f.problem("class hpa is not supported: it cannot scale to zero", "kpa"),
        _ => f.wrong::<()>("kpa").unwrap_or_default(),
    }
}

/// Knative refuses an activation scale below the minimum.
fn check_activation(knobs: &Knobs, sink: &Sink) {
    if let (Some(a), Some(m)) = (&knobs.activation, &knobs.min)
        && a.value < m.value
    {
        sink.problem(a.pos, &a.path, a.value.to_string(), format!("at least min-scale, {}", m.value));
    }
}

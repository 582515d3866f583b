//! `autoscaling.knative.dev/*` annotations.

use std::time::Duration;

use super::load_text;
use crate::config::spec::{Aggregation, Metric, Scaling};

fn text(annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata:\n  name: a\n  annotations:\n    other/x: y\n    \
         autoscaling.knative.dev/{annotations}\nspec:\n  process: {{command: [a]}}\n  {spec}\n"
    )
}

#[track_caller]
fn scaling(annotations: &str, spec: &str) -> Scaling {
    load_text(&text(annotations, spec)).unwrap_or_else(|p| panic!("{}", p[0])).services.remove(0).scaling
}

#[test]
fn they_win_over_defaults_not_over_spec() {
    assert_eq!(scaling("max-scale: \"3\"", "port: 1").max, 3);
    assert_eq!(scaling("maxScale: \"3\"", "port: 1").max, 3);
    assert_eq!(scaling("max-scale: \"3\"", "scaling: {max: 5}").max, 5);
    assert_eq!(scaling("metric: rps", "port: 1").metric, Metric::Rps);
    assert_eq!(scaling("window: 30s", "port: 1").panic_window, Duration::from_secs(3));
    assert_eq!(scaling("panic-window-percentage: \"50\"", "port: 1").panic_window, Duration::from_secs(30));
    assert_eq!(
        scaling("metric-aggregation-algorithm: weighted-exponential", "port: 1").aggregation,
        Aggregation::WeightedExponential
    );
    for (period, seconds) in [("5m", 300), ("5s", 5)] {
        let s = scaling(&format!("scale-to-zero-pod-retention-period: {period}"), "port: 1");
        assert_eq!(s.scale_to_zero_after, Duration::from_secs(seconds));
    }
}

#[test]
fn targets_are_totals() {
    for (annotations, spec, total, target) in [
        ("target: \"10\"", "port: 1", 10.0, 7.0),
        ("target: \"10\"", "concurrency: {limit: 4}", 4.0, 2.8),
        ("targetUtilizationPercentage: \"50\"", "concurrency: {limit: 4}", 4.0, 2.0),
        ("target-utilization-percentage: \"50\"", "port: 1", 100.0, 50.0),
        ("target-utilization-percentage: \"50\"", "scaling: {target: 9}", 9.0, 9.0),
        ("target: \"10\"\n    autoscaling.knative.dev/metric: rps", "concurrency: {limit: 4}", 10.0, 7.0),
    ] {
        let s = scaling(annotations, spec);
        assert!((s.total - total).abs() < 1e-9 && (s.target - target).abs() < 1e-9, "{annotations}: {s:?}");
    }
}

#[test]
fn out_of_range_or_unknown() {
    for (annotation, given) in [
        ("class: hpa.autoscaling.knative.dev", "class hpa is not supported"),
        ("class: own", "the text \"own\""),
        ("metric: cpu", "cpu is not supported"),
        ("target: \"0\"", "the number 0"),
        ("target-utilization-percentage: \"101\"", "the number 101"),
        ("window: 5s", "the text \"5s\""),
        ("panic-threshold-percentage: \"100\"", "the number 100"),
        ("panic-window-percentage: \"0.5\"", "the number 0.5"),
        ("target-burst-capacity: \"-2\"", "the number -2"),
        ("scale-down-delay: 2h", "the text \"2h\""),
        ("min-scale: \"-1\"", "the number -1"),
        ("activation-scale: \"1\"", "the number 1"),
        ("min-scale: \"5\"\n    autoscaling.knative.dev/activation-scale: \"2\"", "2"),
        ("min-scale: \"5\"\n    autoscaling.knative.dev/minScale: \"5\"", "given twice"),
        ("min-scal: \"5\"", "unknown annotation"),
    ] {
        let problems = load_text(&text(annotation, "port: 1")).err().unwrap_or_default();
        assert!(problems.len() == 1 && problems[0].given.starts_with(given), "{annotation}: {problems:?}");
        assert!(problems[0].field.starts_with("metadata.annotations[autoscaling.knative.dev/"));
        assert!((7..=8).contains(&problems[0].line));
    }
}

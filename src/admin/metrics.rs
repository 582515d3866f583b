//! `/metrics`: the Prometheus text format, put together on demand.
//!
//! Every series carries constant labels and comes from a handle or from state that is read now; the `prometheus`
//! crate's registry and its label vectors, which mistake some pairs of labels for one another, are not used. Families
//! of one name from several services become one, as the format demands.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use prometheus::TextEncoder;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::activator::service::Service;
use crate::autoscaler::Managed;
use crate::proxy::metrics::Connections;
use crate::runtime::process::supervisor::Phase;

/// The format's content type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Labels of the phases, in the order of a replica's life.
const PHASES: [(Phase, &str); 4] = [
    (Phase::Starting, "starting"),
    (Phase::Ready, "ready"),
    (Phase::Unready, "unready"),
    (Phase::Draining, "draining"),
];

/// Collects families and merges those of one name.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, MetricFamily>,
}

/// This process's CPU time, memory and descriptors.
#[derive(Debug)]
pub struct Process {
    /// One at a time: it computes a counter's increase since the last look.
    collector: Mutex<ProcessCollector>,
}

// === impl Exposition ===

impl Exposition {
    /// Adds families; series of a family that is there already are appended to it.
    ///
    /// Histograms that have seen nothing are left out: with hundreds of services at rest they would be nearly all of
    /// the text.
    pub fn add(&mut self, families: Vec<MetricFamily>) {
        for mut family in families {
            if family.get_field_type() == MetricType::HISTOGRAM {
                family.mut_metric().retain(|series| series.get_histogram().get_sample_count() > 0);
            }
            if family.get_metric().is_empty() {
                continue;
            }
            match self.families.get_mut(family.name()) {
                None => {
                    self.families.insert(family.name().to_owned(), family);
                }
                Some(known) if known.get_field_type() == family.get_field_type() => {
                    known.mut_metric().append(family.mut_metric());
                }
                Some(_) => debug_assert!(false, "bug: {} has two types", family.name()),
            }
        }
    }

    /// Adds one gauge.
    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(vec![gauge(name, help, labels, value)]);
    }

    /// Adds a service: what it counted, and what it is now.
    pub fn service(&mut self, managed: &Managed) {
        let (service, replicas) = (&managed.service, &managed.replicas);
        self.add(service.metrics.collect());
        self.add(of_line(service));
        let labels = [("namespace", &*service.key.namespace), ("service", &*service.key.name)];
        let mut gauge = |name: &str, help: &str, value: f64| self.gauge(name, help, &labels, value);
        gauge("pilotlight_service_desired_replicas", "Replicas wanted.", f64::from(replicas.desired()));
        gauge(
            "pilotlight_service_failing",
            "1 while the last starts failed, until one succeeds.",
            f64::from(u8::from(service.trouble().is_some())),
        );
        if let Some(inputs) = managed.decision.load().as_ref().and_then(|last| last.inputs) {
            gauge(
                "pilotlight_service_stable_average",
                "Load averaged over the stable window, at the last decision.",
                inputs.stable,
            );
            gauge(
                "pilotlight_service_panic_average",
                "Load averaged over the panic window, at the last decision.",
                inputs.panic,
            );
            gauge(
                "pilotlight_service_in_panic",
                "1 while load rose so fast that nothing is scaled down, at the last decision.",
                f64::from(u8::from(inputs.in_panic)),
            );
        }
        let view = replicas.view();
        for (phase, word) in PHASES {
            let count = view.iter().filter(|replica| replica.phase == phase).count();
            let labels = [labels[0], ("phase", word), labels[1]];
            self.gauge("pilotlight_service_replicas", "Replicas, by phase.", &labels, count as f64);
        }
    }

    /// Adds what is true of the process.
    pub fn process(&mut self, process: &Process) {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        self.gauge("pilotlight_build_info", "Always 1; the label says which build this is.", &version, 1.0);
        let connections = Connections::of_process();
        self.gauge(
            "pilotlight_connections_open",
            "Client connections that are open.",
            &[],
            connections.open() as f64,
        );
        self.add(vec![counter(
            "pilotlight_connections_total",
            "Client connections accepted.",
            &[],
            connections.total(),
        )]);
        self.add(
            connections
                .refusals()
                .map(|(reason, count)| {
                    counter(
                        "pilotlight_invalid_requests_total",
                        "Requests refused for how they were sent, before they were looked at.",
                        &[("reason", reason)],
                        count,
                    )
                })
                .collect(),
        );
        let families = process.collector.lock().collect();
        self.add(families);
    }

    /// The text.
    pub fn encode(self) -> String {
        let families: Vec<MetricFamily> = self.families.into_values().collect();
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
            // Only a family without a name or without series is refused, and none gets in here.
            tracing::error!(%error, "bug: the metrics are not complete");
        }
        text
    }
}

/// What is true now of a service's line, whichever program it is in.
pub fn of_line(service: &Service) -> Vec<MetricFamily> {
    let labels = [("namespace", &*service.key.namespace), ("service", &*service.key.name)];
    let limit = service.spec().concurrency.limit;
    let gauges = [
        (
            "pilotlight_service_in_flight",
            "Requests that hold a slot of a replica.",
            f64::from(service.line.in_flight()),
        ),
        ("pilotlight_service_queued", "Requests that wait for a slot.", service.line.waiting() as f64),
        ("pilotlight_service_buffered_bytes", "Bytes that waiting requests hold.", service.buffered() as f64),
        (
            "pilotlight_service_concurrency_limit",
            "Requests in flight per replica at most; 0 is unlimited.",
            f64::from(limit),
        ),
    ];
    gauges.map(|(name, help, value)| gauge(name, help, &labels, value)).into()
}

/// A family of one counter.
fn counter(name: &str, help: &str, labels: &[(&str, &str)], value: u64) -> MetricFamily {
    let mut count = prometheus::proto::Counter::default();
    count.set_value(value as f64);
    let mut series = Metric::from_label(pairs(labels));
    series.set_counter(count);
    family(name, help, MetricType::COUNTER, series)
}

/// A family of one gauge.
pub fn gauge(name: &str, help: &str, labels: &[(&str, &str)], value: f64) -> MetricFamily {
    let mut reading = Gauge::default();
    reading.set_value(value);
    let mut series = Metric::from_label(pairs(labels));
    series.set_gauge(reading);
    family(name, help, MetricType::GAUGE, series)
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut label = LabelPair::default();
        label.set_name((*name).to_owned());
        label.set_value((*value).to_owned());
        label
    };
    labels.iter().map(pair).collect()
}

fn family(name: &str, help: &str, kind: MetricType, series: Metric) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(vec![series]);
    family
}

// === impl Process ===

impl Process {
    /// This process.
    pub fn new() -> Self {
        Self { collector: Mutex::new(ProcessCollector::for_self()) }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;
    use crate::admin::tests::World;

    /// Every line is a HELP, a TYPE or a sample; a family's lines are together, headed once; no sample comes twice.
    fn check(text: &str) -> Vec<(&str, f64)> {
        let (mut helped, mut typed, mut seen) = (HashSet::new(), HashSet::new(), HashSet::new());
        let (mut family, mut kind) = ("", "");
        let mut samples = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split_once(' ').expect("a name and a help").0;
                assert!(helped.insert(family), "two HELP lines: {line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, what) = rest.split_once(' ').expect("a name and a type");
                assert!(typed.insert(name) && name == family, "misplaced or doubled: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&what), "{line}");
                kind = what;
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a series and a value");
                let value: f64 = value.parse().expect("a number");
                assert!(seen.insert(series), "the same series twice: {line}");
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let base = match kind {
                    "histogram" => ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)),
                    _ => Some(name),
                };
                assert_eq!(base, Some(family), "not under its TYPE: {line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
                for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
                    let (name, value) = label.split_once('=').expect("label=value");
                    assert!(name.bytes().all(|b| b.is_ascii_lowercase()), "{line}");
                    assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
                }
                samples.push((series, value));
            }
        }
        assert_eq!(helped, typed);
        assert!(text.ends_with('\n'));
        samples
    }

    #[tokio::test]
    async fn the_text_is_valid_and_no_two_services_share_a_series() {
        let world = World::new();
        // Without a separator between labels, as the crate's vectors hash them, these two are one.
        let keys = [("ml", "llama"), ("mll", "lama"), ("default", "a")];
        world.apply_keys(&keys).await;
        for (n, member) in world.state.fleet.members().values().enumerate() {
            let metrics = &member.managed.service.metrics;
            metrics.answered(200, Duration::from_millis(5), 66);
            metrics.answered(503, Duration::from_millis(5), 0);
            metrics.refused("overflow", 503);
            (0..n).for_each(|_| metrics.started());
        }
        let mut exposition = Exposition::default();
        for member in world.state.fleet.members().values() {
            exposition.service(&member.managed);
        }
        exposition.process(&Process::new());
        let text = exposition.encode();
        let samples = check(&text);
        let value = |series: &str| samples.iter().find(|(s, _)| *s == series).map(|(_, value)| *value);
        for (namespace, name) in keys {
            let labels = format!("namespace=\"{namespace}\",service=\"{name}\"");
            assert_eq!(value(&format!("pilotlight_service_in_flight{{{labels}}}")), Some(0.0), "{text}");
            let code = format!("pilotlight_requests_total{{code=\"200\",{labels}}}");
            assert_eq!(value(&code), Some(1.0), "{text}");
            let count = format!("pilotlight_request_duration_seconds_count{{{labels}}}");
            assert_eq!(value(&count), Some(2.0));
        }
        let starts = "pilotlight_replica_starts_total{namespace=\"mll\",service=\"lama\"}";
        assert_eq!(value(starts), Some(2.0));
        assert!(value("process_resident_memory_bytes").is_some_and(|bytes| bytes > 0.0));
        assert!(text.contains("pilotlight_build_info{version=\""));
        assert!(!text.contains("pilotlight_cold_start_wait_seconds"), "it has seen nothing");
    }

    #[test]
    fn labels_are_escaped() {
        let mut exposition = Exposition::default();
        exposition.gauge("a", "Help.", &[("b", "\"\\\n")], 1.5);
        assert_eq!(exposition.encode(), "# HELP a Help.\n# TYPE a gauge\na{b=\"\\\"\\\\\\n\"} 1.5\n");
    }

    #[test]
    fn hundreds_of_services_stay_cheap() {
        let mut exposition = Exposition::default();
        for n in 0..300 {
            let key = crate::config::spec::ServiceKey::new("default", &format!("service-{n}"));
            exposition.add(crate::proxy::metrics::ServiceMetrics::new(&key).collect());
        }
        let text = exposition.encode();
        assert!(text.len() < 300 * 512, "{} bytes for services that did nothing", text.len());
    }
}

//! What must hold, else the run fails.

use std::time::Duration;

use pilotlight::config::field::Field;
use pilotlight::config::quantity::DURATION_MAX;

/// One bound.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    /// Of what.
    pub(crate) metric: Metric,
    /// In milliseconds, percent, or numbers.
    pub(crate) limit: f64,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// From the intended start to the end.
    Latency(Stat),
    /// To the first event of a stream.
    FirstToken(Stat),
    /// Between events.
    TokenGap(Stat),
    /// From a websocket's message to its answer.
    RoundTrip(Stat),
    /// Of requests that waited for a start.
    Start(Stat),
    /// The generator's own lateness.
    Late(Stat),
    /// Requests that waited for a start, at least.
    Starts,
    /// Requests that did not succeed, in percent of those that were to be sent.
    Errors,
    /// Requests that did not leave.
    Dropped,
    /// Requests sent, at least.
    Requests,
    /// Requests sent per second, at least.
    PerSecond,
    /// Events per second of the median stream, at least.
    TokensPerSecond,
}

/// Of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stat {
    /// The mean.
    Mean,
    /// 50 %.
    P50,
    /// 75 %.
    P75,
    /// 90 %.
    P90,
    /// 95 %.
    P95,
    /// 99 %.
    P99,
    /// 99.9 %.
    P999,
    /// The largest.
    Max,
}

/// Every statistic and its name.
const STATS: [(&str, Stat); 8] = [
    ("mean", Stat::Mean),
    ("p50", Stat::P50),
    ("p75", Stat::P75),
    ("p90", Stat::P90),
    ("p95", Stat::P95),
    ("p99", Stat::P99),
    ("p999", Stat::P999),
    ("max", Stat::Max),
];
const NANO: Duration = Duration::from_nanos(1);

/// Reads the thresholds of a service, or of all of them together.
pub(crate) fn read(field: &Field<'_>, together: bool) -> Vec<Threshold> {
    type Of = fn(Stat) -> Metric;
    const NESTED: [(&str, Of); 4] = [
        ("firstToken", Metric::FirstToken),
        ("tokenGap", Metric::TokenGap),
        ("roundTrip", Metric::RoundTrip),
        ("start", Metric::Start),
    ];
    const LEAST: [(&str, Metric); 3] = [
        ("requests", Metric::Requests),
        ("perSecond", Metric::PerSecond),
        ("tokensPerSecond", Metric::TokensPerSecond),
    ];
    let fields = field.fields();
    let mut found = Vec::new();
    let mut push = |metric, limit: Option<f64>| found.extend(limit.map(|limit| Threshold { metric, limit }));
    for (name, stat) in STATS {
        push(Metric::Latency(stat), fields.take(name).and_then(|f| millis(&f)));
    }
    push(Metric::Errors, fields.take("errors").and_then(|f| f.percent(0..=100)).map(|share| share * 100.0));
    push(Metric::Dropped, fields.take("dropped").and_then(|f| f.number(0.0..=1e12)));
    for (name, metric) in LEAST {
        push(metric, fields.take(name).and_then(|f| f.number(0.0..=1e12)));
    }
    let late: Option<(&str, Of)> = together.then_some(("late", Metric::Late));
    for (name, of) in NESTED.into_iter().chain(late) {
        let Some(inner) = fields.fields(name) else { continue };
        for (stat_name, stat) in STATS {
            push(of(stat), inner.take(stat_name).and_then(|f| millis(&f)));
        }
        if name == "start" {
            push(Metric::Starts, inner.take("atLeast").and_then(|f| f.number(0.0..=1e12)));
        }
        inner.finish();
    }
    fields.finish();
    found
}

fn millis(field: &Field<'_>) -> Option<f64> {
    field.duration(NANO..=DURATION_MAX).map(|d| d.as_secs_f64() * 1e3)
}

// === impl Metric ===

impl Metric {
    /// Whether the limit is the least instead of the most.
    pub(crate) fn at_least(self) -> bool {
        matches!(self, Self::Requests | Self::PerSecond | Self::TokensPerSecond | Self::Starts)
    }

    /// The unit of limits and measurements.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Errors => "%",
            Self::Dropped | Self::Requests | Self::Starts => "requests",
            Self::PerSecond => "requests/s",
            Self::TokensPerSecond => "tokens/s",
            _ => "ms",
        }
    }

    /// For people, after the service's name.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Latency(stat) => stat.name().to_owned(),
            Self::FirstToken(stat) => format!("first token {}", stat.name()),
            Self::TokenGap(stat) => format!("token gap {}", stat.name()),
            Self::RoundTrip(stat) => format!("round trip {}", stat.name()),
            Self::Start(stat) => format!("cold start {}", stat.name()),
            Self::Late(stat) => format!("lateness {}", stat.name()),
            Self::Starts => "cold starts".to_owned(),
            Self::Errors => "errors".to_owned(),
            Self::Dropped => "not sent".to_owned(),
            Self::Requests => "requests".to_owned(),
            Self::PerSecond => "sent per second".to_owned(),
            Self::TokensPerSecond => "tokens per second".to_owned(),
        }
    }
}

// === impl Stat ===

impl Stat {
    /// As YAML has it.
    pub(crate) fn name(self) -> &'static str {
        STATS.iter().find(|(_, stat)| *stat == self).map_or("", |(name, _)| name)
    }
}

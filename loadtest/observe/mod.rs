//! Replicas over time, seen from outside while a run goes on.
//!
//! A [`Watch`] asks one source every so often, in a task of its own, and leaves a bounded series of what it saw. A source
//! that cannot be read is told once and noted in the run; it never ends the run and never holds it up.

mod error;
mod http;
mod kubernetes;
mod pilotlight;
mod prometheus;
mod series;
mod watch;

use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub(crate) use error::ObserveError;
pub(crate) use watch::Watch;

use crate::run::Observed;

/// How often is enough to see a cold start of a second, and little enough to disturb nothing.
const EVERY: Duration = Duration::from_millis(500);
/// More often than this would be load.
const EVERY_LEAST: Duration = Duration::from_millis(50);
/// Less often than this shows nothing.
const EVERY_MOST: Duration = Duration::from_secs(60);

/// What a scenario says under `observe`: where, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Fields")]
pub(crate) struct Observe {
    /// From one look to the next.
    pub(crate) every: Duration,
    /// Where to look.
    pub(crate) source: Source,
}

/// Who knows a service's replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// pilotlight's admin API.
    Pilotlight(pilotlight::At),
    /// A Prometheus that scrapes whatever scales the service.
    Prometheus(prometheus::At),
    /// The Kubernetes API.
    Kubernetes(kubernetes::At),
}

/// The same as YAML has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Fields {
    #[serde(default = "every", deserialize_with = "duration")]
    every: Duration,
    pilotlight: Option<pilotlight::At>,
    prometheus: Option<prometheus::At>,
    kubernetes: Option<kubernetes::At>,
}

/// A source that is being read.
enum Reader {
    Pilotlight(pilotlight::Reader),
    Prometheus(prometheus::Reader),
    Kubernetes(kubernetes::Reader),
}

// === impl Observe ===

impl TryFrom<Fields> for Observe {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let Fields { every, pilotlight, prometheus, kubernetes } = fields;
        if !(EVERY_LEAST..=EVERY_MOST).contains(&every) {
            return Err(format!("every: {every:?} is not from {EVERY_LEAST:?} to {EVERY_MOST:?}"));
        }
        let source = match (pilotlight, prometheus, kubernetes) {
            (Some(at), None, None) => Source::Pilotlight(at),
            (None, Some(at), None) => Source::Prometheus(at.checked()?),
            (None, None, Some(at)) => Source::Kubernetes(at),
            (None, None, None) => return Err("one of pilotlight, prometheus, kubernetes is missing".into()),
            _ => return Err("only one of pilotlight, prometheus, kubernetes can be given".into()),
        };
        Ok(Self { every, source })
    }
}

fn every() -> Duration {
    EVERY
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|e| serde::de::Error::custom(format!("{text:?}: {e}, such as 500ms")))
}

// === impl Source ===

impl Source {
    /// `service`: its name in the scenario, for what the scenario leaves out.
    fn reader(&self, service: &str) -> Result<Reader, ObserveError> {
        Ok(match self {
            Self::Pilotlight(at) => Reader::Pilotlight(at.reader(service)?),
            Self::Prometheus(at) => Reader::Prometheus(at.reader(service)?),
            Self::Kubernetes(at) => Reader::Kubernetes(at.reader(service)),
        })
    }
}

// === impl Reader ===

impl Reader {
    /// What is there now; `at_s` is the caller's.
    async fn read(&mut self) -> Result<Observed, ObserveError> {
        match self {
            Self::Pilotlight(reader) => reader.read().await,
            Self::Prometheus(reader) => reader.read().await,
            Self::Kubernetes(reader) => reader.read().await,
        }
    }
}

/// `NAMESPACE/NAME`, where a bare name is one in `default`.
fn key(service: &str) -> (&str, &str) {
    service.split_once('/').unwrap_or(("default", service))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: serde_json::Value) -> Result<Observe, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn one_source_and_how_often() {
        let observe =
            parse(json!({"every": "2s", "pilotlight": {"admin": "http://127.0.0.1:8081"}})).unwrap();
        assert_eq!(observe.every, Duration::from_secs(2));
        assert!(matches!(observe.source, Source::Pilotlight(_)));
        let observe = parse(json!({"kubernetes": {}})).unwrap();
        assert_eq!(observe.every, EVERY);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (value, expected) in [
            (json!({}), "is missing"),
            (json!({"kubernetes": {}, "pilotlight": {"admin": "http://x"}}), "only one of"),
            (json!({"every": "1ms", "kubernetes": {}}), "1ms is not from 50ms to 60s"),
            (json!({"every": "soon", "kubernetes": {}}), "such as 500ms"),
            (json!({"kubernets": {}}), "unknown field `kubernets`"),
            (json!({"prometheus": {"url": "http://x"}}), "metrics or queries"),
        ] {
            let error = parse(value.clone()).unwrap_err();
            assert!(error.contains(expected), "{value}: {error}");
        }
    }
}

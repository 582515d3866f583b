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

use std::path::{Path, PathBuf};
use std::time::Duration;

// The module of that name is this folder's.
use ::pilotlight::config::decode::Fields;
use ::pilotlight::config::field::Field;

pub(crate) use error::ObserveError;
pub(crate) use watch::Watch;

use crate::run::Observed;
use crate::scenario::{Owner, Template};

/// How often is enough to see a cold start of a second, and little enough to disturb nothing.
const EVERY: Duration = Duration::from_millis(500);
/// More often than this would be load.
const EVERY_LEAST: Duration = Duration::from_millis(50);
/// Less often than this shows nothing.
const EVERY_MOST: Duration = Duration::from_mins(1);
const ADDRESS: &str = "an address, such as http://127.0.0.1:8081";
const SOURCES: &str = "one of pilotlight, prometheus, kubernetes";

/// What a scenario says under `observe`: where, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observe {
    /// From one look to the next.
    pub(crate) every: Duration,
    /// Where to look.
    pub(crate) source: Source,
}

/// Whose replicas these are, for what the scenario says in general.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Of<'a> {
    /// The service.
    pub(crate) owner: Owner<'a>,
    /// Files are relative to it.
    pub(crate) folder: &'a Path,
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

/// A source that is being read.
enum Reader {
    Pilotlight(pilotlight::Reader),
    Prometheus(prometheus::Reader),
    Kubernetes(Box<kubernetes::Reader>),
}

// === impl Observe ===

impl Observe {
    /// Reads what is under `observe`. `None` when there is a problem, which is recorded.
    pub(crate) fn read(field: &Field<'_>, of: Of<'_>) -> Option<Self> {
        let fields = field.fields();
        let every = fields.take("every").map_or(Some(EVERY), |f| f.duration(EVERY_LEAST..=EVERY_MOST));
        let sources = [
            fields.take("pilotlight").map(|f| pilotlight::At::read(&f, of).map(Source::Pilotlight)),
            fields.take("prometheus").map(|f| prometheus::At::read(&f, of).map(Source::Prometheus)),
            fields.take("kubernetes").map(|f| Some(Source::Kubernetes(kubernetes::At::read(&f, of)))),
        ];
        fields.finish();
        let mut sources = sources.into_iter().flatten();
        match (sources.next(), sources.next()) {
            (Some(source), None) => Some(Self { every: every?, source: source? }),
            (None, _) => wrong(field, "no source"),
            (Some(_), Some(_)) => wrong(field, "more than one source"),
        }
    }
}

fn wrong<T>(field: &Field<'_>, given: &str) -> Option<T> {
    field.problem(given, SOURCES);
    None
}

// === impl Of ===

impl Of<'_> {
    /// A text that may be missing. `{{service}}` and `{{copy}}` are filled in.
    fn text(&self, fields: &Fields<'_>, name: &'static str) -> Option<String> {
        let field = fields.take(name)?;
        let template = Template::parse(field.nonempty()?, self.owner);
        match template.as_ref().map(Template::fixed) {
            Ok(Some(text)) => Some(text.to_owned()),
            Ok(None) => field.wrong("a text that is always the same; {{service}} and {{copy}} may be in it"),
            Err(wrong) => wrong_in(&field, wrong),
        }
    }

    /// A file.
    fn file(&self, fields: &Fields<'_>, name: &'static str) -> Option<PathBuf> {
        self.text(fields, name).map(|path| self.folder.join(path))
    }
}

fn wrong_in<T>(field: &Field<'_>, given: &str) -> Option<T> {
    field.problem(given, "{{service}} or {{copy}}");
    None
}

/// An address that must be there.
fn address(fields: &Fields<'_>, name: &'static str) -> Option<String> {
    address_of(&fields.require(name, ADDRESS)?)
}

/// An address that [`http::Http`] can ask.
fn address_of(field: &Field<'_>) -> Option<String> {
    let text = field.nonempty()?;
    if http::Http::new(text, None).is_ok() { Some(text.to_owned()) } else { field.wrong(ADDRESS) }
}

// === impl Source ===

impl Source {
    /// `service`: its name in the scenario, for what the scenario leaves out.
    fn reader(&self, service: &str) -> Result<Reader, ObserveError> {
        Ok(match self {
            Self::Pilotlight(at) => Reader::Pilotlight(at.reader(service)?),
            Self::Prometheus(at) => Reader::Prometheus(at.reader(service)?),
            Self::Kubernetes(at) => Reader::Kubernetes(Box::new(at.reader(service))),
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
    use std::path::Path;

    use ::pilotlight::config::problem::Sink;
    use ::pilotlight::config::yaml;

    use super::*;

    pub(super) fn parse(text: &str) -> Result<Observe, String> {
        let sink = Sink::new(Path::new("/scenarios/s.yaml"));
        let nodes = yaml::parse(text.as_bytes(), &sink);
        let of = Of { owner: Owner { service: "wake-3", copy: 3 }, folder: Path::new("/scenarios") };
        let observe = Observe::read(&Field::new(&nodes[0], "observe".into(), &sink), of);
        let problems: Vec<_> = sink.into_parts().0.iter().map(ToString::to_string).collect();
        observe.filter(|_| problems.is_empty()).ok_or_else(|| problems.join("\n"))
    }

    #[test]
    fn one_source_and_how_often() {
        let observe = parse("{every: 2s, pilotlight: {admin: 'http://127.0.0.1:8081'}}").unwrap();
        assert_eq!(observe.every, Duration::from_secs(2));
        assert!(matches!(observe.source, Source::Pilotlight(_)));
        assert_eq!(parse("{kubernetes: {}}").unwrap().every, EVERY);
        let observe = parse("{kubernetes: {name: 'app-{{copy}}', kind: StatefulSet}}").unwrap();
        assert!(matches!(observe.source, Source::Kubernetes(at) if at.name.as_deref() == Some("app-3")));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("{every: 1s}", SOURCES),
            ("{kubernetes: {}, pilotlight: {admin: 'http://x'}}", "more than one source"),
            ("{every: 1ms, kubernetes: {}}", "50ms"),
            ("{every: soon, kubernetes: {}}", "soon"),
            ("{kubernets: {}}", "kubernets"),
            ("{pilotlight: {}}", "admin"),
            ("{pilotlight: {admin: 'ftp://x'}}", "http://"),
            ("{pilotlight: {admin: 'http://x', service: '{{uuid}}'}}", "always the same"),
            ("{pilotlight: {admin: 'http://x', service: '{{cpoy}}'}}", "{{cpoy}}"),
            ("{kubernetes: {server: 'localhost:8001'}}", "server"),
            ("{prometheus: {url: 'http://x'}}", "metrics"),
            ("{prometheus: {url: 'http://x', metrics: keda}}", "knative"),
            ("{prometheus: {url: 'http://x', queries: {redy: up}}}", "redy"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

//! A Prometheus: one instant query per quantity.

use std::path::PathBuf;

use ::pilotlight::config::field::Field;
use serde::Deserialize;

use super::error::ObserveError;
use super::http::Http;
use super::{Of, address, key};
use crate::run::Observed;

const METRICS: [(&str, Metrics); 2] = [("pilotlight", Metrics::Pilotlight), ("knative", Metrics::Knative)];

/// Which Prometheus, and what to ask it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// Its address, with the path before `/api/v1/query` if there is one.
    pub(crate) url: String,
    /// Whose metrics: ready-made queries.
    pub(crate) metrics: Option<Metrics>,
    /// `NAMESPACE/NAME` in these queries; none = the scenario's name of the service, in `default`.
    pub(crate) service: Option<String>,
    /// Queries of one's own; each wins over the ready-made one.
    pub(crate) queries: Queries,
    /// A file whose content is sent as a bearer token.
    pub(crate) token_file: Option<PathBuf>,
}

/// Ready-made queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metrics {
    /// pilotlight's (docs/metrics.md).
    Pilotlight,
    /// Knative Serving's, from 1.19 on and before.
    Knative,
}

/// `PromQL` for each quantity; the answer is one number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queries {
    /// How many replicas there should be.
    pub(crate) desired: Option<String>,
    /// How many can take requests.
    pub(crate) ready: Option<String>,
    /// How many are on their way.
    pub(crate) starting: Option<String>,
    /// Requests at replicas.
    pub(crate) in_flight: Option<String>,
    /// Requests that wait.
    pub(crate) queued: Option<String>,
}

/// Reads it.
pub(super) struct Reader {
    http: Http,
    queries: Vec<(&'static str, String)>,
}

/// Prometheus' answer to a query.
#[derive(Deserialize)]
struct Answer {
    status: String,
    error: Option<String>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    result_type: String,
    result: serde_json::Value,
}

// === impl At ===

impl At {
    pub(super) fn read(field: &Field<'_>, of: Of<'_>) -> Option<Self> {
        let fields = field.fields();
        let (url, service) = (address(&fields, "url"), of.text(&fields, "service"));
        let metrics = fields.take("metrics").map(|f| f.choice(&METRICS));
        let queries = fields.take("queries").map(|f| Queries::read(&f, of)).unwrap_or_default();
        let token_file = of.file(&fields, "tokenFile");
        fields.finish();
        if metrics.is_none() && queries == Queries::default() {
            field.problem(
                "neither metrics nor queries",
                "metrics: pilotlight or knative, or queries of one's own",
            );
        }
        Some(Self { url: url?, metrics: metrics.flatten(), service, queries, token_file })
    }

    pub(super) fn reader(&self, service: &str) -> Result<Reader, ObserveError> {
        let (namespace, name) = key(self.service.as_deref().unwrap_or(service));
        let ready_made = self.metrics.map(|metrics| metrics.queries(&quoted(namespace), &quoted(name)));
        let [desired, ready, starting, in_flight, queued] =
            ready_made.map_or_else(Default::default, |q| q.map(Some));
        let own = self.queries.clone();
        let queries = [
            ("desired", own.desired.or(desired)),
            ("ready", own.ready.or(ready)),
            ("starting", own.starting.or(starting)),
            ("inFlight", own.in_flight.or(in_flight)),
            ("queued", own.queued.or(queued)),
        ];
        let queries = queries.into_iter().filter_map(|(quantity, query)| Some((quantity, query?))).collect();
        Ok(Reader { http: Http::new(&self.url, self.token_file.clone())?, queries })
    }
}

// === impl Queries ===

impl Queries {
    fn read(field: &Field<'_>, of: Of<'_>) -> Self {
        let fields = field.fields();
        let queries = Self {
            desired: of.text(&fields, "desired"),
            ready: of.text(&fields, "ready"),
            starting: of.text(&fields, "starting"),
            in_flight: of.text(&fields, "inFlight"),
            queued: of.text(&fields, "queued"),
        };
        fields.finish();
        queries
    }
}

// === impl Metrics ===

impl Metrics {
    /// In the order of [`Queries`].
    fn queries(self, namespace: &str, name: &str) -> [String; 5] {
        match self {
            Self::Pilotlight => {
                let of = format!("{{namespace={namespace},service={name}}}");
                let phases = |regex: &str| {
                    format!(
                        "sum(pilotlight_service_replicas{{namespace={namespace},service={name},phase=~\"{regex}\"}})"
                    )
                };
                [
                    format!("max(pilotlight_service_desired_replicas{of})"),
                    phases("ready"),
                    phases("starting|unready"),
                    format!("sum(pilotlight_service_in_flight{of})"),
                    format!("sum(pilotlight_service_queued{of})"),
                ]
            }
            // Revisions add up. Since 1.19 the names and labels are OpenTelemetry's.
            Self::Knative => {
                let new = format!("{{k8s_namespace_name={namespace},kn_service_name={name}}}");
                let old = format!("{{namespace_name={namespace},service_name={name}}}");
                let either = |now: &str, before: &str| format!("sum({now}{new}) or sum({before}{old})");
                [
                    either("kn_revision_pods_desired", "autoscaler_desired_pods"),
                    either("kn_revision_pods_count", "autoscaler_actual_pods"),
                    format!(
                        "sum(kn_revision_pods_not_ready_count{new}) + sum(kn_revision_pods_pending_count{new}) \
                         or sum(autoscaler_not_ready_pods{old}) + sum(autoscaler_pending_pods{old})"
                    ),
                    either("kn_revision_request_active", "activator_request_concurrency"),
                    format!("sum(kn_revision_request_queued{new})"),
                ]
            }
        }
    }
}

/// A string of `PromQL`.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

// === impl Reader ===

impl Reader {
    /// All quantities, one after the other: the answers are as old as Prometheus' last scrape anyway.
    pub(super) async fn read(&mut self) -> Result<Observed, ObserveError> {
        let mut observed = Observed::default();
        for (quantity, query) in &self.queries {
            let value = value(&mut self.http, quantity, query).await?;
            match *quantity {
                "desired" => observed.desired = value,
                "ready" => observed.ready = value,
                "starting" => observed.starting = value,
                "inFlight" => observed.in_flight = value,
                _ => observed.queued = value,
            }
        }
        if observed == Observed::default() {
            return Err(ObserveError::Empty(self.http.url("")));
        }
        Ok(observed)
    }
}

/// One number; none = no series, such as before the first scrape.
async fn value(http: &mut Http, quantity: &'static str, query: &str) -> Result<Option<u64>, ObserveError> {
    let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
    let wrong = |reason: String| ObserveError::Query { quantity, query: query.to_owned(), reason };
    let path = format!("/api/v1/query?query={encoded}");
    let body = match http.get(&path).await {
        // A query that is wrong is a 400 or 422 that says why.
        Err(ObserveError::Status { status: 400 | 422, text, .. }) => return Err(wrong(text)),
        answer => answer?,
    };
    let answer: Answer = serde_json::from_slice(&body).map_err(|e| ObserveError::Answer {
        url: http.url("/api/v1/query"),
        of: "Prometheus",
        reason: e.to_string(),
    })?;
    match answer.data {
        Some(data) if answer.status == "success" => data.number().map_err(wrong),
        _ => Err(wrong(answer.error.unwrap_or_else(|| "no reason given".into()))),
    }
}

// === impl Data ===

impl Data {
    fn number(&self) -> Result<Option<u64>, String> {
        let value = match (self.result_type.as_str(), &self.result) {
            ("scalar", value) => value,
            ("vector", serde_json::Value::Array(series)) => match &series[..] {
                [] => return Ok(None),
                [one] => &one["value"],
                many => return Err(format!("{} series instead of one: sum() them", many.len())),
            },
            (other, _) => return Err(format!("a {other} instead of one number")),
        };
        // [time, "number"]
        let number: Option<f64> = value[1].as_str().and_then(|text| text.parse().ok());
        match number {
            Some(number) if number.is_finite() => Ok(Some(number.max(0.0).round() as u64)),
            Some(_) => Ok(None),
            None => Err(format!("{value} instead of one number")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers() {
        let number = |result_type: &str, result| Data { result_type: result_type.into(), result }.number();
        assert_eq!(number("vector", json!([{"metric": {}, "value": [1.5, "3"]}])), Ok(Some(3)));
        assert_eq!(number("scalar", json!([1.5, "2.6"])), Ok(Some(3)));
        assert_eq!(number("vector", json!([])), Ok(None));
        assert_eq!(number("vector", json!([{"metric": {}, "value": [1.5, "NaN"]}])), Ok(None));
        assert!(
            number("vector", json!([{"value": [1, "3"]}, {"value": [1, "4"]}]))
                .unwrap_err()
                .contains("sum()")
        );
        assert!(number("matrix", json!([])).unwrap_err().contains("matrix"));
        assert!(number("vector", json!([{}])).is_err());
    }

    #[test]
    fn own_queries_win() {
        let at = At {
            url: "http://127.0.0.1:9090/prometheus/".into(),
            metrics: Some(Metrics::Knative),
            service: Some("ml/iris".into()),
            queries: Queries { queued: Some("my_queue".into()), ..Queries::default() },
            token_file: None,
        };
        let reader = at.reader("other").unwrap();
        assert_eq!(reader.queries.len(), 5);
        assert_eq!(reader.queries[4], ("queued", "my_queue".into()));
        assert!(reader.queries[0].1.contains(r#"k8s_namespace_name="ml",kn_service_name="iris""#));
        assert_eq!(reader.http.url("/api"), "http://127.0.0.1:9090/prometheus/api");
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"b\\c\n"), r#""a\"b\\c\n""#);
    }
}

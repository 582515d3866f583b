//! `/api/config`: what is in force, after defaults. Values that may be secrets are not shown.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::Shared;
use crate::config::spec::{Probe, ServiceSpec, Workload};

/// Stands where a value is not shown.
const HIDDEN: &str = "(not shown)";

/// The program's part, with every service's spec under `services`.
pub(super) async fn config(State(shared): State<Shared>) -> Json<Value> {
    let members = shared.fleet.members();
    let services = members.values().map(|member| shown(&member.managed.service.spec())).collect();
    let mut config = match (shared.config)() {
        Value::Object(program) => program,
        other => std::iter::once(("program".to_owned(), other)).collect(),
    };
    config.insert("version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    config.insert("services".to_owned(), Value::Array(services));
    Json(Value::Object(config))
}

/// A spec without the values of its environment and of its probe's headers.
fn shown(spec: &ServiceSpec) -> Value {
    let mut spec = spec.clone();
    // On the typed value, so that a renamed field cannot uncover anything.
    if let Workload::Process(process) = &mut spec.workload {
        hide(&mut process.env);
    }
    if let Probe::HttpGet { headers, .. } = &mut spec.readiness {
        hide(headers);
    }
    let mut json = serde_json::to_value(&spec).unwrap_or_default();
    for pairs in ["/workload/process/env", "/readiness/httpGet/headers"] {
        if let Some(Value::Array(pairs)) = json.pointer_mut(pairs) {
            for pair in pairs {
                *pair = pair[0].take();
            }
        }
    }
    json
}

fn hide(pairs: &mut [(String, String)]) {
    for (_, value) in pairs {
        HIDDEN.clone_into(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::tests::spec;

    #[test]
    fn names_are_shown_and_values_are_not() {
        let mut spec = spec("a", &["sleep", "1000"]);
        if let Workload::Process(process) = &mut spec.workload {
            process.env = vec![("API_KEY".into(), "hunter2".into()), ("MODE".into(), "hunter2".into())];
        }
        let headers = vec![("authorization".into(), "hunter2".into())];
        spec.readiness = Probe::HttpGet { path: "/ready".into(), port: None, headers };
        let json = shown(&spec);
        assert!(!json.to_string().contains("hunter2"), "{json}");
        assert_eq!(json.pointer("/workload/process/env").unwrap(), &json!(["API_KEY", "MODE"]));
        assert_eq!(json.pointer("/readiness/httpGet/headers").unwrap(), &json!(["authorization"]));
        assert_eq!(json.pointer("/workload/process/command/0").unwrap(), "sleep");
    }
}

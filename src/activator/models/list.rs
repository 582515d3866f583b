//! What models there are, as OpenAI's and KServe's clients ask for it. Nothing here wakes anybody.

use std::time::UNIX_EPOCH;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde_json::{Value, json};

use super::table::Table;
use crate::activator::service::Service;
use crate::proxy::body::Body;
use crate::proxy::error::ProxyError;

/// All of them: OpenAI's list, and beside it the names as KServe's V1 protocol lists them.
pub fn all(table: &Table) -> Response<Body> {
    let data: Vec<Value> = table.ids().map(|(id, service)| model(id, service)).collect();
    let names: Vec<&str> = table.ids().map(|(id, _)| id).collect();
    answer(&json!({"object": "list", "data": data, "models": names}))
}

/// One of them. V1 asks the same way whether it is ready, so this says that too.
pub fn one(table: &Table, name: &str) -> Result<Response<Body>, ProxyError> {
    let service = table.find(name)?;
    let mut model = model(name, service);
    model["name"] = name.into();
    Ok(answer(&model))
}

fn model(id: &str, service: &Service) -> Value {
    let created = service.loaded.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "id": id,
        "object": "model",
        "created": created.as_secs(),
        "owned_by": "pilotlight",
        "service": service.key.to_string(),
        "ready": service.line.replicas() > 0,
    })
}

fn answer(json: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(json.to_string() + "\n"));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

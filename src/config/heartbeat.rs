//! How often a streaming request hears something while it waits: `spec.heartbeat`, or an annotation of KServe's objects.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::decode::{At, Field};
use super::node::Value;
use super::problem::{Sink, quoted};
use super::quantity;

/// What is allowed beside zero, which is never.
pub const HEARTBEAT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
/// The annotation.
pub const ANNOTATION: &str = "pilotlight.dev/heartbeat";

const FORM: &str = "a duration such as 10s, from 100ms to 1h, or 0s for none";

/// `spec.heartbeat`.
pub fn read(v: &Field<'_>) -> Option<Duration> {
    let found = match v.node.value {
        Value::Int(0, _) => Some(Duration::ZERO),
        _ => v.node.as_text().and_then(parse),
    };
    found.or_else(|| v.wrong(FORM))
}

/// The annotation's value.
pub fn annotated(v: &At<String>, sink: &Sink) -> Option<Duration> {
    let found = parse(&v.value);
    if found.is_none() {
        sink.problem(v.pos, &v.path, quoted(&v.value), FORM);
    }
    found
}

fn parse(text: &str) -> Option<Duration> {
    quantity::duration(text).filter(|d| d.is_zero() || HEARTBEAT.contains(d))
}

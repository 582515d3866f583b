//! Where a request names its model: what a parser of the whole finds, however the bytes come.
#![no_main]

use std::fmt;

use http::{HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use pilotlight::activator::models::{Look, json, message, multipart, path};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

/// An object's members in order, those of one name too.
struct Members(Vec<(String, Value)>);

struct InOrder;

// === impl Members ===

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

impl<'de> Visitor<'de> for InOrder {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// As the bytes come, `step` at a time.
fn find(bytes: &[u8], step: usize, mut look: impl FnMut(&[u8]) -> Option<Found>) -> Option<Found> {
    let ends = (step..bytes.len()).step_by(step).chain([bytes.len()]);
    ends.into_iter().find_map(|end| look(&bytes[..end]))
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Value(Vec<u8>),
    Absent,
    Bad,
}

fn told(look: Look<'_>) -> Option<Found> {
    match look {
        Look::Found(value) => Some(Found::Value(value.to_vec())),
        Look::Absent => Some(Found::Absent),
        Look::Bad(_) => Some(Found::Bad),
        Look::More => None,
    }
}

fn in_json(bytes: &[u8], step: usize) -> Option<Found> {
    let mut finder = json::Finder::new("model");
    find(bytes, step, |bytes| told(finder.look(bytes)))
}

fn in_message(bytes: &[u8], step: usize) -> Option<Found> {
    let mut finder = message::Finder::new(1);
    find(bytes, step, |bytes| told(finder.look(bytes)))
}

fn in_form(bytes: &[u8], step: usize) -> Option<Found> {
    let kind = HeaderValue::from_static("multipart/form-data; boundary=b");
    let mut finder = multipart::Finder::new("model", &kind).expect("a form");
    find(bytes, step, |bytes| told(finder.look(bytes)))
}

fn check_json(bytes: &[u8], found: Option<&Found>) {
    let Ok(Members(members)) = serde_json::from_slice(bytes) else { return };
    let expected = members.into_iter().find(|(key, _)| key == "model").map(|(_, value)| value);
    let same = match (found, &expected) {
        (Some(Found::Value(raw)), Some(Value::Array(_))) => raw == b"[",
        (Some(Found::Value(raw)), Some(Value::Object(_))) => raw == b"{",
        (Some(Found::Value(raw)), Some(value)) => {
            serde_json::from_slice::<Value>(raw).ok().as_ref() == Some(value)
        }
        (Some(Found::Absent), None) => true,
        _ => false,
    };
    assert!(same, "{found:?} instead of {expected:?}");
}

/// What a parser of forms makes of it: parts between delimiters, each with a head and a value.
fn check_form(bytes: &[u8], found: Option<&Found>) {
    if let Some(Found::Value(value)) = found {
        let delimiter = b"\r\n--b";
        assert!(!value.windows(delimiter.len()).any(|window| window == delimiter), "more than a part");
        let whole = [b"\r\n\r\n", &value[..], delimiter].concat();
        // The value is between a head's end and a delimiter; an empty one may share the line end between them.
        assert!(
            value.is_empty() || bytes.windows(whole.len()).any(|window| window == whole),
            "not in a part"
        );
    }
}

fuzz_target!(|data: &[u8]| {
    let Some(([step], bytes)) = data.split_first_chunk::<1>() else { return };
    let step = usize::from(*step).max(1);
    let all = bytes.len().max(1);
    let found = in_json(bytes, all);
    assert_eq!(found, in_json(bytes, step));
    check_json(bytes, found.as_ref());
    assert_eq!(in_message(bytes, all), in_message(bytes, step));
    let found = in_form(bytes, all);
    assert_eq!(found, in_form(bytes, step));
    check_form(bytes, found.as_ref());
    if let Ok(kind) = HeaderValue::from_bytes(bytes) {
        let headers = http::HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind)]);
        let text = String::from_utf8_lossy(bytes);
        for method in [Method::GET, Method::POST] {
            path::asks(&method, &text, &headers);
        }
    }
});

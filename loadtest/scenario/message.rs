//! A protobuf message without its schema: field numbers and values, as YAML has them.
//!
//! A text is a string, a whole number or a boolean a varint, a number with a fraction a double, a map a message, and
//! a list the field repeated. Where that is not what the schema says, `{kind: value}` names the encoding.

use pilotlight::config::field::Field;
use pilotlight::config::node::{Node, Value};

const FORM: &str = "a text, a number, true or false, a map of field numbers, a list of these, \
                    or {float|double|fixed32|fixed64|sint|hex: VALUE}";
/// Field numbers of protobuf: 29 bits.
const NUMBER_MAX: u64 = (1 << 29) - 1;

/// Encodes a map of field numbers. Every problem is recorded, and then the result is of no use.
pub(crate) fn encode(field: &Field<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in field.quantity_map() {
        let Some(number) = key.parse().ok().filter(|n| (1..=NUMBER_MAX).contains(n)) else {
            value.problem(format!("the field {key:?}"), "field numbers from 1, as the .proto file has them");
            continue;
        };
        match &value.node.value {
            Value::List(_) => value.list().iter().for_each(|item| one(&mut out, number, item)),
            _ => one(&mut out, number, &value),
        }
    }
    out
}

/// Bytes written as hexadecimal digits; blanks are passed over.
pub(crate) fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().filter(|c| !c.is_whitespace()).map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let (pairs, odd) = digits.as_ref()?.as_chunks::<2>();
    odd.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn one(out: &mut Vec<u8>, number: u64, value: &Field<'_>) {
    match &value.node.value {
        Value::Text(text) => bytes(out, number, text.as_bytes()),
        Value::Bool(yes) => varint_field(out, number, u64::from(*yes)),
        Value::Int(i, _) => varint_field(out, number, *i as u64),
        Value::Float(f, _) => fixed(out, number, 1, &f.to_le_bytes()),
        Value::Map(entries) => match entries.as_slice() {
            [only] if only.key.parse::<u64>().is_err() => named(out, number, &only.key, &only.value, value),
            _ => bytes(out, number, &encode(value)),
        },
        Value::Null | Value::List(_) => value.wrong::<()>(FORM).unwrap_or_default(),
    }
}

/// `{float: 1.5}` and the like.
fn named(out: &mut Vec<u8>, number: u64, kind: &str, node: &Node, field: &Field<'_>) {
    let float = match node.value {
        Value::Int(i, _) => Some(i as f64),
        Value::Float(f, _) => Some(f),
        _ => None,
    };
    let int = if let Value::Int(i, _) = node.value { Some(i) } else { None };
    let digits = match &node.value {
        Value::Text(text) | Value::Int(_, text) => hex(text),
        _ => None,
    };
    match (kind, float, int, digits) {
        ("float", Some(f), ..) => fixed(out, number, 5, &(f as f32).to_le_bytes()),
        ("double", Some(f), ..) => fixed(out, number, 1, &f.to_le_bytes()),
        ("fixed32", _, Some(i), _) => fixed(out, number, 5, &(i as u32).to_le_bytes()),
        ("fixed64", _, Some(i), _) => fixed(out, number, 1, &i.to_le_bytes()),
        ("sint", _, Some(i), _) => varint_field(out, number, ((i << 1) ^ (i >> 63)) as u64),
        ("hex", .., Some(digits)) => bytes(out, number, &digits),
        _ => field.problem(format!("{kind:?}: {}", node.describe()), FORM),
    }
}

fn bytes(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

fn varint_field(out: &mut Vec<u8>, number: u64, value: u64) {
    varint(out, number << 3);
    varint(out, value);
}

fn fixed(out: &mut Vec<u8>, number: u64, wire_type: u64, content: &[u8]) {
    varint(out, number << 3 | wire_type);
    out.extend_from_slice(content);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pilotlight::config::problem::Sink;
    use pilotlight::config::yaml;

    use super::*;

    fn encoded(text: &str) -> Result<Vec<u8>, Vec<String>> {
        let sink = Sink::new(Path::new("m.yaml"));
        let nodes = yaml::parse(text.as_bytes(), &sink);
        let out = encode(&Field::new(&nodes[0], "message".into(), &sink));
        let problems = sink.into_parts().0;
        if problems.is_empty() { Ok(out) } else { Err(problems.iter().map(ToString::to_string).collect()) }
    }

    /// prost knows the encoding; what it reads must be what was written.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Known {
        #[prost(string, tag = "1")]
        name: String,
        #[prost(uint64, tag = "2")]
        size: u64,
        #[prost(bool, tag = "3")]
        on: bool,
        #[prost(double, tag = "4")]
        share: f64,
        #[prost(message, optional, tag = "5")]
        inner: Option<Box<Known>>,
        #[prost(string, repeated, tag = "16")]
        tags: Vec<String>,
        #[prost(float, tag = "17")]
        float: f32,
        #[prost(sint64, tag = "18")]
        signed: i64,
        #[prost(fixed32, tag = "19")]
        fixed: u32,
        #[prost(bytes = "vec", tag = "20")]
        raw: Vec<u8>,
        #[prost(int64, tag = "21")]
        negative: i64,
    }

    #[test]
    fn prost_reads_it() {
        let text = "{1: iris, 2: 300, 3: true, 4: 0.5, 5: {1: inner}, 16: [a, b], 17: {float: 1.5}, \
                     18: {sint: -3}, 19: {fixed32: 7}, 20: {hex: '00 ff'}, 21: -1}";
        let known = <Known as prost::Message>::decode(encoded(text).unwrap().as_slice()).unwrap();
        let inner = Known { name: "inner".into(), ..Known::default() };
        let expected = Known {
            name: "iris".into(),
            size: 300,
            on: true,
            share: 0.5,
            inner: Some(Box::new(inner)),
            tags: vec!["a".into(), "b".into()],
            float: 1.5,
            signed: -3,
            fixed: 7,
            raw: vec![0, 255],
            negative: -1,
        };
        assert_eq!(known, expected);
    }

    #[test]
    fn mistakes_name_their_place() {
        let problems = encoded("{name: x, 1: {flaot: 1}, 2: [[1]], 0: 1}").unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert!(
            problems[0].starts_with("m.yaml:1:8: message.name: the field \"name\"; allowed: field numbers")
        );
    }

    #[test]
    fn hexadecimal() {
        assert_eq!(hex("0a 05\nFf"), Some(vec![0x0a, 5, 0xff]));
        assert_eq!(hex("0a5"), None);
        assert_eq!(hex("xy"), None);
    }
}

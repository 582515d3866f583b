//! A YAML tree whose nodes know where they stand.

use super::problem::{Pos, quoted};

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub pos: Pos,
    /// What it is.
    pub value: Value,
}

/// What a node is, by YAML 1.2's core schema. Numbers keep their text for messages.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number, clamped to what fits, and its text.
    Int(i64, String),
    /// A number, and its text.
    Float(f64, String),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order given; keys are distinct.
    Map(Vec<Entry>),
}

/// One key of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub pos: Pos,
    /// What it is set to.
    pub value: Node,
}

// === impl Node ===

impl Node {
    /// What kind of value it is, in words, with the value when it is short.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("{b}"),
            Value::Int(_, t) | Value::Float(_, t) => format!("the number {}", quoted(t).trim_matches('"')),
            Value::Text(t) => format!("the text {}", quoted(t)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }

    /// The value of a key, when this is a map that has it and it is not null.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries.iter().find(|e| e.key == key).map(|e| &e.value).filter(|n| n.value != Value::Null)
    }

    /// The text, when this is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Value::Text(t) = &self.value { Some(t) } else { None }
    }

    /// The node that a plain text stands for: annotations hold numbers as texts.
    pub fn plain(text: &str, pos: Pos) -> Node {
        Node { pos, value: Value::plain(text) }
    }

    /// Nodes, bytes of text and depth of a tree. Recursion is bounded by `yaml::DEPTH_MAX`.
    pub fn measure(&self) -> (usize, usize, usize) {
        let add = |(n, t, d): (usize, usize, usize), child: &Node| {
            let (cn, ct, cd) = child.measure();
            (n + cn, t + ct, d.max(cd))
        };
        let (n, t, d) = match &self.value {
            Value::List(items) => items.iter().fold((0, 0, 0), add),
            Value::Map(entries) => {
                let keys = entries.iter().map(|e| e.key.len()).sum();
                entries.iter().fold((entries.len(), keys, 0), |acc, e| add(acc, &e.value))
            }
            Value::Text(t) | Value::Int(_, t) | Value::Float(_, t) => return (1, t.len(), 0),
            Value::Null | Value::Bool(_) => return (1, 0, 0),
        };
        (n + 1, t, d + 1)
    }
}

// === impl Value ===

impl Value {
    /// YAML 1.2.2 §10.3.2: what a plain scalar means.
    pub fn plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
            "true" | "True" | "TRUE" => return Value::Bool(true),
            "false" | "False" | "FALSE" => return Value::Bool(false),
            ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN, text.to_owned()),
            _ => {}
        }
        let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
        if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
            let inf = if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY };
            return Value::Float(inf, text.to_owned());
        }
        for (prefix, radix) in [("0o", 8), ("0x", 16)] {
            if let Some(digits) = text.strip_prefix(prefix)
                && !digits.is_empty()
                && digits.chars().all(|c| c.is_digit(radix))
            {
                return Value::Int(i64::from_str_radix(digits, radix).unwrap_or(i64::MAX), text.to_owned());
            }
        }
        if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
            let clamped = if text.starts_with('-') { i64::MIN } else { i64::MAX };
            return Value::Int(text.parse().unwrap_or(clamped), text.to_owned());
        }
        // Rust's grammar is wider (`inf`, `nan`, `1_0` is not): the first characters tell numbers from words.
        let number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
        match text.parse::<f64>() {
            Ok(f) if number => Value::Float(f, text.to_owned()),
            _ => Value::Text(text.to_owned()),
        }
    }
}

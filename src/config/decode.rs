//! Reads fields from nodes and collects every problem instead of stopping at the first.
//!
//! A getter returns `None` when the value is not right, and has recorded why. The caller goes on with a default:
//! nothing is used as long as any problem was recorded.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::node::{Entry, Node, Value};
use super::problem::{GIVEN_MAX, Pos, Sink, quoted};
use super::quantity::{self, DURATION_FORM, SIZE_FORM, show_duration, show_size};
use super::similar::suggestion;

/// Items of one list (command, hosts, env, …).
pub const LIST_MAX: usize = 1000;

/// The fields of a map, each of which is taken once; what was not taken is unknown.
pub struct Fields<'a> {
    entries: &'a [Entry],
    pos: Pos,
    path: String,
    known: RefCell<Vec<&'static str>>,
    sink: &'a Sink,
}

/// A value and its path.
#[derive(Clone)]
pub struct Field<'a> {
    /// The value.
    pub node: &'a Node,
    /// Such as `spec.scaling.min`.
    pub path: String,
    sink: &'a Sink,
}

/// A value and where it was given, for checks that compare fields.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub pos: Pos,
    /// Such as `spec.scaling.min`.
    pub path: String,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// The fields of `node`, which must be a map; null counts as an empty one.
    pub fn new(node: &'a Node, path: &str, sink: &'a Sink) -> Self {
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                sink.problem(node.pos, path, node.describe(), "a map");
                &[]
            }
        };
        Self {
            entries,
            pos: node.pos,
            path: path.to_owned(),
            known: RefCell::default(),
            sink,
        }
    }

    /// Takes a field. `None` when it is not there or null.
    pub fn take(&self, name: &'static str) -> Option<Field<'a>> {
        self.known.borrow_mut().push(name);
        let entry = self.entries.iter().find(|e| e.key == name)?;
        (entry.value.value != Value::Null).then(|| Field {
            node: &entry.value,
            path: join(&self.path, name),
            sink: self.sink,
        })
    }

    /// Takes a field that must be there.
    pub fn require(&self, name: &'static str, allowed: &str) -> Option<Field<'a>> {
        let field = self.take(name);
        if field.is_none() {
            self.sink
                .problem(self.pos, &join(&self.path, name), "missing", allowed);
        }
        field
    }

    /// Takes a map field's fields.
    pub fn fields(&self, name: &'static str) -> Option<Fields<'a>> {
        self.take(name).map(|f| f.fields())
    }

    /// These fields are known and have no effect: nothing is said about them.
    pub fn ignore(&self, names: &[&'static str]) {
        self.known.borrow_mut().extend(names);
    }

    /// These fields are known and have no effect: one warning names those that are given.
    pub fn ignore_with_warning(&self, names: &[&'static str], why: &str) {
        self.ignore(names);
        let given: Vec<&Entry> = self
            .entries
            .iter()
            .filter(|e| names.contains(&e.key.as_str()))
            .collect();
        if let Some(first) = given.first() {
            let list: Vec<&str> = given.iter().map(|e| e.key.as_str()).collect();
            self.sink
                .warn(first.pos, &self.path, format!("{why}: {}", list.join(", ")));
        }
    }

    /// These fields are known and refused.
    pub fn refuse(&self, names: &[&'static str], given: &str, allowed: &str) {
        self.ignore(names);
        for e in self.entries.iter().filter(|e| names.contains(&e.key.as_str())) {
            if e.value.value != Value::Null {
                self.sink
                    .problem(e.pos, &join(&self.path, &e.key), given, allowed);
            }
        }
    }

    /// Whether a field is given and not null. Does not take it.
    pub fn has(&self, name: &str) -> bool {
        self.entries
            .iter()
            .any(|e| e.key == name && e.value.value != Value::Null)
    }

    /// Where the map begins.
    pub fn pos(&self) -> Pos {
        self.pos
    }

    /// The map's path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Ends the reading: a field that nobody took is unknown.
    pub fn finish(self) {
        let mut known = self.known.into_inner();
        known.sort_unstable();
        known.dedup();
        for e in self.entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
            self.sink.problem(
                e.pos,
                &join(&self.path, &e.key),
                "unknown field",
                suggestion(&e.key, &known),
            );
        }
    }
}

// === impl Field ===

impl<'a> Field<'a> {
    /// A field for a node that was found otherwise.
    pub fn new(node: &'a Node, path: String, sink: &'a Sink) -> Self {
        Self { node, path, sink }
    }

    /// Records that the value is not what is allowed. Always `None`, for use as a result.
    pub fn wrong<T>(&self, allowed: impl Into<String>) -> Option<T> {
        self.sink
            .problem(self.node.pos, &self.path, self.node.describe(), allowed);
        None
    }

    /// Records any other problem with the value.
    pub fn problem(&self, given: impl Into<String>, allowed: impl Into<String>) {
        self.sink.problem(self.node.pos, &self.path, given, allowed);
    }

    /// Records that the value is accepted but has no (full) effect.
    pub fn warn(&self, given: impl Into<String>) {
        self.sink.warn(self.node.pos, &self.path, given);
    }

    /// A value with this field's place.
    pub fn at<T>(&self, value: T) -> At<T> {
        At {
            value,
            pos: self.node.pos,
            path: self.path.clone(),
        }
    }

    /// The fields of a map.
    pub fn fields(&self) -> Fields<'a> {
        Fields::new(self.node, &self.path, self.sink)
    }

    /// A text. Numbers and booleans must be quoted, as in Kubernetes: `1.10` unquoted is 1.1.
    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(t) => Some(t),
            Value::Int(_, t) | Value::Float(_, t) => {
                self.wrong(format!("a text; in quotes it is one: \"{t}\""))
            }
            Value::Bool(b) => self.wrong(format!("a text; in quotes it is one: \"{b}\"")),
            _ => self.wrong("a text"),
        }
    }

    /// A text that is not empty.
    pub fn nonempty(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.is_empty() {
            self.wrong("a text that is not empty")
        } else {
            Some(text)
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        if let Value::Bool(b) = self.node.value {
            Some(b)
        } else {
            self.wrong("true or false")
        }
    }

    /// A whole number in a range.
    pub fn whole(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let found = match self.node.value {
            Value::Int(i, _) => u32::try_from(i).ok().filter(|i| range.contains(i)),
            _ => None,
        };
        found.or_else(|| {
            self.wrong(format!(
                "a whole number from {} to {}",
                range.start(),
                range.end()
            ))
        })
    }

    /// A port number, from 1 (or 0, where that means none).
    pub fn port(&self, least: u16) -> Option<u16> {
        self.whole(u32::from(least)..=u32::from(u16::MAX))
            .and_then(|p| u16::try_from(p).ok())
    }

    /// A number in a range, whole or not.
    pub fn number(&self, range: RangeInclusive<f64>) -> Option<f64> {
        let found = self.any_number().filter(|n| range.contains(n));
        found.or_else(|| self.wrong(format!("a number from {} to {}", range.start(), range.end())))
    }

    /// The number, when it is one and finite. Records nothing.
    pub fn any_number(&self) -> Option<f64> {
        match self.node.value {
            Value::Int(i, _) => Some(i as f64),
            Value::Float(f, _) => Some(f).filter(|f| f.is_finite()),
            _ => None,
        }
    }

    /// A duration in a range.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let found = match &self.node.value {
            Value::Text(t) => quantity::duration(t),
            Value::Int(0, _) => Some(Duration::ZERO),
            _ => None,
        };
        found.filter(|d| range.contains(d)).or_else(|| {
            let (from, to) = (show_duration(*range.start()), show_duration(*range.end()));
            self.wrong(format!("{DURATION_FORM}, from {from} to {to}"))
        })
    }

    /// A duration in a range, in whole seconds.
    pub fn seconds(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let found = self.duration(range)?;
        if found.subsec_nanos() == 0 {
            Some(found)
        } else {
            self.wrong("whole seconds, such as 30s")
        }
    }

    /// A size in bytes in a range.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let found = match &self.node.value {
            Value::Text(t) => quantity::size(t),
            Value::Int(i, _) => u64::try_from(*i).ok(),
            _ => None,
        };
        found.filter(|s| range.contains(s)).or_else(|| {
            self.wrong(format!(
                "{SIZE_FORM}, from {} to {}",
                show_size(*range.start()),
                show_size(*range.end())
            ))
        })
    }

    /// A percentage in a range, such as `200%`, as a factor: 2.0.
    pub fn percent(&self, range: RangeInclusive<u32>) -> Option<f64> {
        let limits = f64::from(*range.start())..=f64::from(*range.end());
        let found = self
            .node
            .as_text()
            .and_then(quantity::percent)
            .filter(|p| limits.contains(p));
        found.map(|p| p / 100.0).or_else(|| {
            self.wrong(format!(
                "a percentage from {}% to {}%",
                range.start(),
                range.end()
            ))
        })
    }

    /// One of several words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let found = self
            .node
            .as_text()
            .and_then(|t| choices.iter().find(|(name, _)| *name == t));
        found.map(|(_, value)| *value).or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.wrong(names.join(", "))
        })
    }

    /// The items of a list, at most [`LIST_MAX`].
    pub fn list(&self) -> Vec<Field<'a>> {
        let Value::List(items) = &self.node.value else {
            return self.wrong("a list").unwrap_or_default();
        };
        if items.len() > LIST_MAX {
            self.problem(
                format!("a list of {}", items.len()),
                format!("at most {LIST_MAX} items"),
            );
        }
        let item = |(i, node)| Field {
            node,
            path: format!("{}[{i}]", self.path),
            sink: self.sink,
        };
        items.iter().take(LIST_MAX).enumerate().map(item).collect()
    }

    /// A list of texts.
    pub fn texts(&self) -> Vec<String> {
        self.list()
            .iter()
            .filter_map(|f| f.text().map(str::to_owned))
            .collect()
    }

    /// A list of texts with at least one item, of which the first is not empty: something to run.
    pub fn command(&self) -> Option<Vec<String>> {
        let items = self.list();
        if items.is_empty() && matches!(self.node.value, Value::List(_)) {
            return self.wrong("a list with at least the program");
        }
        let texts: Vec<String> = items.iter().filter_map(|f| f.text().map(str::to_owned)).collect();
        for item in items
            .iter()
            .filter(|i| i.node.as_text().is_some_and(|t| t.contains('\0')))
        {
            item.wrong::<()>("a text without NUL");
        }
        if items.first().is_some_and(|f| f.node.as_text() == Some("")) {
            items[0].wrong::<()>("a program's name or path");
        }
        (texts.len() == items.len() && !texts.is_empty()).then_some(texts)
    }

    /// A map of texts, in the order given.
    pub fn text_map(&self) -> Vec<(&'a str, Field<'a>)> {
        let Value::Map(entries) = &self.node.value else {
            return self.wrong("a map of texts").unwrap_or_default();
        };
        let field = |e: &'a Entry| Field {
            node: &e.value,
            path: join(&self.path, &e.key),
            sink: self.sink,
        };
        let present = entries
            .iter()
            .take(LIST_MAX)
            .filter(|e| e.value.value != Value::Null);
        present
            .map(|e| (e.key.as_str(), field(e)))
            .filter(|(_, f)| f.text().is_some())
            .collect()
    }
}

/// `path.name`, or `path[name]` when the name itself has dots.
pub fn join(path: &str, name: &str) -> String {
    let plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let shown = || quoted(name).trim_matches('"').to_owned();
    match (path.is_empty(), plain && name.len() <= GIVEN_MAX) {
        (true, true) => name.to_owned(),
        (true, false) => shown(),
        (false, true) => format!("{path}.{name}"),
        (false, false) => format!("{path}[{}]", shown()),
    }
}

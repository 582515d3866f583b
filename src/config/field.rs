//! One value: typed getters that say what is allowed.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::decode::{Fields, LIST_MAX, join};
use super::node::{Entry, Node, Value};
use super::problem::{Pos, Sink};
use super::quantity::{self, DURATION_FORM, SIZE_FORM, show_duration, show_size};

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

// === impl Field ===

impl<'a> Field<'a> {
    /// A field for a node that was found otherwise.
    pub fn new(node: &'a Node, path: String, sink: &'a Sink) -> Self {
        Self { node, path, sink }
    }

    /// Records that the value is not what is allowed. Always `None`, for use as a result.
    pub fn wrong<T>(&self, allowed: impl Into<String>) -> Option<T> {
        self.sink.problem(self.node.pos, &self.path, self.node.describe(), allowed);
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
        At { value, pos: self.node.pos, path: self.path.clone() }
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
        if text.is_empty() { self.wrong("a text that is not empty") } else { Some(text) }
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        if let Value::Bool(b) = self.node.value { Some(b) } else { self.wrong("true or false") }
    }

    /// A whole number in a range.
    pub fn whole(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let found = match self.node.value {
            Value::Int(i, _) => u32::try_from(i).ok().filter(|i| range.contains(i)),
            _ => None,
        };
        found.or_else(|| self.wrong(format!("a whole number from {} to {}", range.start(), range.end())))
    }

    /// A port number, from 1 (or 0, where that means none).
    pub fn port(&self, least: u16) -> Option<u16> {
        self.whole(u32::from(least)..=u32::from(u16::MAX)).and_then(|p| u16::try_from(p).ok())
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
        if found.subsec_nanos() == 0 { Some(found) } else { self.wrong("whole seconds, such as 30s") }
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
        let found = self.node.as_text().and_then(quantity::percent).filter(|p| limits.contains(p));
        found
            .map(|p| p / 100.0)
            .or_else(|| self.wrong(format!("a percentage from {}% to {}%", range.start(), range.end())))
    }

    /// One of several words.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let found = self.node.as_text().and_then(|t| choices.iter().find(|(name, _)| *name == t));
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
            self.problem(format!("a list of {}", items.len()), format!("at most {LIST_MAX} items"));
        }
        let item = |(i, node)| Field { node, path: format!("{}[{i}]", self.path), sink: self.sink };
        items.iter().take(LIST_MAX).enumerate().map(item).collect()
    }

    /// A list of texts.
    pub fn texts(&self) -> Vec<String> {
        self.list().iter().filter_map(|f| f.text().map(str::to_owned)).collect()
    }

    /// A list of texts with at least one item, of which the first is not empty: something to run.
    pub fn command(&self) -> Option<Vec<String>> {
        let items = self.list();
        if items.is_empty() && matches!(self.node.value, Value::List(_)) {
            return self.wrong("a list with at least the program");
        }
        let texts: Vec<String> = items.iter().filter_map(|f| f.text().map(str::to_owned)).collect();
        for item in items.iter().filter(|i| i.node.as_text().is_some_and(|t| t.contains('\0'))) {
            item.wrong::<()>("a text without NUL");
        }
        if items.first().is_some_and(|f| f.node.as_text() == Some("")) {
            items[0].wrong::<()>("a program's name or path");
        }
        (texts.len() == items.len() && !texts.is_empty()).then_some(texts)
    }

    /// A map of texts, in the order given.
    pub fn text_map(&self) -> Vec<(&'a str, Field<'a>)> {
        self.quantity_map().into_iter().filter(|(_, f)| f.text().is_some()).collect()
    }

    /// A map of anything, such as Kubernetes' quantities, which are texts or numbers.
    pub fn quantity_map(&self) -> Vec<(&'a str, Field<'a>)> {
        let Value::Map(entries) = &self.node.value else {
            return self.wrong("a map").unwrap_or_default();
        };
        let field = |e: &'a Entry| Field { node: &e.value, path: join(&self.path, &e.key), sink: self.sink };
        let present = entries.iter().take(LIST_MAX).filter(|e| e.value.value != Value::Null);
        present.map(|e| (e.key.as_str(), field(e))).collect()
    }
}

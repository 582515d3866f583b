//! Reads fields from nodes and collects every problem instead of stopping at the first.
//!
//! A getter returns `None` when the value is not right, and has recorded why. The caller goes on with a default:
//! nothing is used as long as any problem was recorded.

use std::cell::RefCell;

use super::node::{Entry, Node, Value};
use super::problem::{GIVEN_MAX, Pos, Sink, quoted};
use super::similar::suggestion;

pub use super::field::{At, Field};

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
        Self { entries, pos: node.pos, path: path.to_owned(), known: RefCell::default(), sink }
    }

    /// Takes a field. `None` when it is not there or null.
    pub fn take(&self, name: &'static str) -> Option<Field<'a>> {
        self.known.borrow_mut().push(name);
        let entry = self.entries.iter().find(|e| e.key == name)?;
        (entry.value.value != Value::Null)
            .then(|| Field::new(&entry.value, join(&self.path, name), self.sink))
    }

    /// Takes a field that must be there.
    pub fn require(&self, name: &'static str, allowed: &str) -> Option<Field<'a>> {
        let field = self.take(name);
        if field.is_none() {
            self.sink.problem(self.pos, &join(&self.path, name), "missing", allowed);
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
        let given: Vec<&Entry> = self.entries.iter().filter(|e| names.contains(&e.key.as_str())).collect();
        if let Some(first) = given.first() {
            let list: Vec<&str> = given.iter().map(|e| e.key.as_str()).collect();
            self.sink.warn(first.pos, &self.path, format!("{why}: {}", list.join(", ")));
        }
    }

    /// These fields are known and refused.
    pub fn refuse(&self, names: &[&'static str], given: &str, allowed: &str) {
        self.ignore(names);
        for e in self.entries.iter().filter(|e| names.contains(&e.key.as_str())) {
            if e.value.value != Value::Null {
                self.sink.problem(e.pos, &join(&self.path, &e.key), given, allowed);
            }
        }
    }

    /// Whether a field is given and not null. Does not take it.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|e| e.key == name && e.value.value != Value::Null)
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
            self.sink.problem(e.pos, &join(&self.path, &e.key), "unknown field", suggestion(&e.key, &known));
        }
    }
}

/// `path.name`, or `path[name]` when the name itself has dots.
pub fn join(path: &str, name: &str) -> String {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    let shown = || quoted(name).trim_matches('"').to_owned();
    match (path.is_empty(), plain && name.len() <= GIVEN_MAX) {
        (true, true) => name.to_owned(),
        (true, false) => shown(),
        (false, true) => format!("{path}.{name}"),
        (false, false) => format!("{path}[{}]", shown()),
    }
}

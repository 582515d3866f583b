//! What the command line changes in a scenario.

use pilotlight::config::node::{Entry, Node, Value};
use pilotlight::config::problem::{Pos, Sink, quoted};

use super::target::Target;

/// Changes to a scenario, made before it is checked.
#[derive(Clone, Debug)]
pub(crate) struct Overrides {
    /// Goes instead of every service's scheme, host and port.
    pub(crate) url: Option<Target>,
    /// Traces run so many times as fast.
    pub(crate) time_scale: f64,
    /// Single fields.
    pub(crate) set: Vec<Override>,
}

/// `services[0].timeout=5s`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Override {
    steps: Vec<Step>,
    /// As it was given, for messages.
    path: String,
    value: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

// === impl Overrides ===

impl Default for Overrides {
    fn default() -> Self {
        Self { url: None, time_scale: 1.0, set: Vec::new() }
    }
}

impl Overrides {
    /// Changes the document. What does not fit is recorded.
    pub(crate) fn apply(&self, document: &mut Node, sink: &Sink) {
        for set in &self.set {
            if let Err(problem) = put(document, &set.steps, &set.value) {
                sink.problem(
                    Pos::default(),
                    &set.path,
                    format!("--set {}: {problem}", set.path),
                    "a field of this file",
                );
            }
        }
    }
}

// === impl Override ===

impl std::str::FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{}: not FIELD=VALUE, such as load[0].for=10s", quoted(text));
        let (path, value) = text.split_once('=').ok_or_else(form)?;
        let mut steps = Vec::new();
        for part in path.split('.') {
            let mut brackets = part.split('[');
            let key = brackets.next().filter(|key| !key.is_empty()).ok_or_else(form)?;
            steps.push(Step::Key(key.to_owned()));
            for item in brackets {
                let number = item.strip_suffix(']').and_then(|n| n.parse().ok()).ok_or_else(form)?;
                steps.push(Step::Item(number));
            }
        }
        Ok(Self { steps, path: path.to_owned(), value: value.to_owned() })
    }
}

fn put(node: &mut Node, steps: &[Step], value: &str) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *node = Node::plain(value, Pos::default());
        return Ok(());
    };
    if node.value == Value::Null && matches!(step, Step::Key(_)) {
        node.value = Value::Map(Vec::new());
    }
    let next = match (step, &mut node.value) {
        (Step::Key(key), Value::Map(entries)) => {
            let place = entries.iter().position(|e| e.key == *key).unwrap_or_else(|| {
                let value = Node { pos: Pos::default(), value: Value::Null };
                entries.push(Entry { key: key.clone(), pos: Pos::default(), value });
                entries.len() - 1
            });
            &mut entries[place].value
        }
        (Step::Item(n), Value::List(items)) => {
            let length = items.len();
            items.get_mut(*n).ok_or_else(|| format!("[{n}] of a list of {length}"))?
        }
        (Step::Key(key), _) => return Err(format!("{key} of what is no map")),
        (Step::Item(n), _) => return Err(format!("[{n}] of what is no list")),
    };
    put(next, rest, value)
}

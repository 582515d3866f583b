//! YAML → nodes that know where they stand. Made for hostile input: size, depth, nodes and text are bounded, so an
//! alias cannot multiply ("billion laughs"), and reading goes on in the next document after a syntax error.

use std::collections::{HashMap, HashSet};

use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::decode::join;
use super::node::{Entry, Node, Value};
use super::problem::{Pos, Sink, quoted};

/// Bytes of one file.
pub const FILE_BYTES_MAX: usize = 4 << 20;
/// Collections inside each other, aliases expanded.
pub const DEPTH_MAX: usize = 64;
/// Nodes of one file, aliases expanded.
pub const NODES_MAX: usize = 500_000;
/// Bytes of text of one file, aliases expanded.
pub const TEXT_MAX: usize = 16 << 20;
/// Documents in one file.
pub const DOCUMENTS_MAX: usize = 20_000;

/// What comes next in a map.
enum Key {
    /// A key.
    Expected,
    /// The value of this key.
    Given(String, Pos),
    /// The value of a key that was refused: it is dropped.
    Refused,
}

/// A collection that is still open.
struct Frame {
    node: Node,
    anchor: usize,
    keys: HashSet<String>,
    /// Of a map.
    key: Key,
}

struct Builder<'s> {
    sink: &'s Sink,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    text: usize,
}

/// Reading of this file cannot go on; the problem is already recorded.
struct Stop;

/// The documents of one file, without the empty ones. Every problem goes to `sink`.
pub fn parse(bytes: &[u8], sink: &Sink) -> Vec<Node> {
    if bytes.len() > FILE_BYTES_MAX {
        sink.problem(Pos::default(), "", "larger than 4 MiB", "files of at most 4 MiB");
        return Vec::new();
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let good = str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default();
            let line = good.matches('\n').count() as u32 + 1;
            sink.problem(Pos { line, column: 1 }, "", "not UTF-8", "YAML or JSON in UTF-8");
            return Vec::new();
        }
    };
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut builder = Builder::new(sink);
    let mut documents = Vec::new();
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => return documents,
            Some(Ok((Event::DocumentStart(..), span))) => {
                builder.reset();
                if documents.len() >= DOCUMENTS_MAX {
                    sink.problem(
                        pos(span.start),
                        "",
                        "too many documents",
                        format!("at most {DOCUMENTS_MAX} in a file"),
                    );
                    return documents;
                }
            }
            Some(Ok((Event::DocumentEnd, _))) => {
                documents.extend(builder.root.take().filter(|n| n.value != Value::Null));
            }
            Some(Ok((event, span))) => {
                if builder.event(event, span).is_err() {
                    return documents;
                }
            }
            Some(Err(e)) => {
                let at = pos(*e.marker());
                sink.problem(at, "", format!("not YAML: {}", e.info()), "");
                builder.reset();
                if !matches!(parser.proceed_next_document(), Ok(true)) {
                    return documents;
                }
            }
        }
    }
}

// === impl Builder ===

impl<'s> Builder<'s> {
    fn new(sink: &'s Sink) -> Self {
        Self { sink, stack: Vec::new(), anchors: HashMap::new(), root: None, nodes: 0, text: 0 }
    }

    /// Forgets the document at hand. What it cost stays counted: the bounds are per file.
    fn reset(&mut self) {
        self.stack.clear();
        self.anchors.clear();
        self.root = None;
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let at = pos(span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.count(at, 1, text.len())?;
                if self.expects_key() {
                    self.key(&text, style == ScalarStyle::Plain, at);
                    return Ok(());
                }
                let value = self.scalar(&text, style, tag.as_deref(), at);
                self.done(Node { pos: at, value }, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(Value::List(Vec::new()), anchor, tag.as_deref(), "seq", at)?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.open(Value::Map(Vec::new()), anchor, tag.as_deref(), "map", at)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(frame) = self.stack.pop() {
                    self.done(frame.node, frame.anchor)?;
                }
            }
            Event::Alias(id) => {
                let Some(target) = self.anchors.get(&id) else {
                    self.sink.problem(
                        at,
                        "",
                        "an alias inside what it stands for",
                        "an alias to an earlier node",
                    );
                    return self.done(Node { pos: at, value: Value::Null }, 0);
                };
                let (nodes, text, depth) = target.measure();
                // Only copied once it is known to fit: that is what makes "billion laughs" harmless.
                let copy = (self.stack.len() + depth <= DEPTH_MAX).then(|| target.clone());
                self.count(at, nodes, text)?;
                let Some(copy) = copy else {
                    return Err(self.too_deep(at));
                };
                self.done(copy, 0)?;
            }
            Event::UnresolvedAlias(name) => {
                let given = format!("the alias {} has no anchor", quoted(&name));
                self.sink.problem(at, "", given, "an alias to an earlier anchor of the same document");
                self.done(Node { pos: at, value: Value::Null }, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn expects_key(&self) -> bool {
        self.stack
            .last()
            .is_some_and(|f| matches!(f.node.value, Value::Map(_)) && matches!(f.key, Key::Expected))
    }

    fn key(&mut self, text: &str, plain: bool, at: Pos) {
        let Some(frame) = self.stack.last_mut() else {
            return;
        };
        let refused = if plain && text == "<<" {
            Some((
                "a merge key `<<`",
                "no merge keys: write the fields out, or use an alias for a whole value",
            ))
        } else if text.is_empty() {
            Some(("an empty key", "a name"))
        } else if frame.keys.insert(text.to_owned()) {
            None
        } else {
            Some(("given twice", "each field once"))
        };
        frame.key = match refused {
            None => Key::Given(text.to_owned(), at),
            Some((given, allowed)) => {
                self.sink.problem(at, &join("", text), given, allowed);
                Key::Refused
            }
        };
    }

    fn open(
        &mut self,
        value: Value,
        anchor: usize,
        tag: Option<&Tag>,
        core: &str,
        at: Pos,
    ) -> Result<(), Stop> {
        self.count(at, 1, 0)?;
        if self.stack.len() >= DEPTH_MAX {
            return Err(self.too_deep(at));
        }
        if let Some(tag) = tag.filter(|t| !t.is_yaml_core_schema_tag(core)) {
            self.refuse_tag(tag, at);
        }
        let node = Node { pos: at, value };
        self.stack.push(Frame { node, anchor, keys: HashSet::new(), key: Key::Expected });
        Ok(())
    }

    /// A finished node goes where it belongs.
    fn done(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        if anchor > 0 {
            // Anchors inside anchors copy a tree once per level: that counts as if it were written out.
            let (nodes, text, _) = node.measure();
            self.count(node.pos, nodes, text)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut frame.node.value {
            Value::List(items) => items.push(node),
            Value::Map(entries) => match std::mem::replace(&mut frame.key, Key::Expected) {
                Key::Given(key, pos) => entries.push(Entry { key, pos, value: node }),
                Key::Refused => {}
                // A list, a map or an alias where the key stands: its value is dropped.
                Key::Expected => {
                    self.sink.problem(node.pos, "", format!("{} as a key", node.describe()), "text as a key");
                    frame.key = Key::Refused;
                }
            },
            _ => unreachable!("bug: only collections are opened"),
        }
        Ok(())
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Pos) -> Value {
        let Some(tag) = tag else {
            return if style == ScalarStyle::Plain {
                Value::plain(text)
            } else {
                Value::Text(text.to_owned())
            };
        };
        let value = match (tag.core_suffix(), Value::plain(text)) {
            (Some("str"), _) => Some(Value::Text(text.to_owned())),
            (Some("null"), v @ Value::Null)
            | (Some("bool"), v @ Value::Bool(_))
            | (Some("int"), v @ Value::Int(..))
            | (Some("float"), v @ Value::Float(..)) => Some(v),
            (Some("float"), Value::Int(i, t)) => Some(Value::Float(i as f64, t)),
            _ => None,
        };
        value.unwrap_or_else(|| {
            self.refuse_tag(tag, at);
            Value::Null
        })
    }

    fn refuse_tag(&self, tag: &Tag, at: Pos) {
        let given = format!("the tag {} here", quoted(&tag.original()));
        self.sink.problem(at, "", given, "no tag, or the core schema's tag for this kind of value");
    }

    fn count(&mut self, at: Pos, nodes: usize, text: usize) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.text = self.text.saturating_add(text);
        if self.nodes <= NODES_MAX && self.text <= TEXT_MAX {
            return Ok(());
        }
        let allowed = format!(
            "at most {NODES_MAX} values and {} MiB of text in a file, aliases written out",
            TEXT_MAX >> 20
        );
        self.sink.problem(at, "", "too much in one file", allowed);
        Err(Stop)
    }

    fn too_deep(&self, at: Pos) -> Stop {
        self.sink.problem(at, "", "nested too deep", format!("at most {DEPTH_MAX} levels"));
        Stop
    }
}

fn pos(m: Marker) -> Pos {
    Pos { line: m.line() as u32, column: m.col() as u32 + 1 }
}

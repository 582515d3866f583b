//! YAML → nodes: bounded, with places that exist, and the same again when it is written down plainly.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use pilotlight::config::node::{Node, Value};
use pilotlight::config::problem::Sink;
use pilotlight::config::yaml::{DEPTH_MAX, NODES_MAX, TEXT_MAX, parse};

/// JSON is YAML; quoted texts are texts, and numbers stay as they were written.
fn json(node: &Node, out: &mut String) {
    let quoted = |text: &str| serde_json::to_string(text).expect("a text");
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(_, text) | Value::Float(_, text) => out.push_str(text),
        Value::Text(text) => out.push_str(&quoted(text)),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                json(item, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (i, entry) in entries.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                out.push_str(&quoted(&entry.key));
                out.push_str(": ");
                json(&entry.value, out);
            }
            out.push('}');
        }
    }
}

/// Without places.
fn shape(node: &Node) -> String {
    let mut out = String::new();
    json(node, &mut out);
    out
}

fn places(node: &Node, lines: u32) {
    assert!((1..=lines).contains(&node.pos.line) && node.pos.column > 0, "{:?}", node.pos);
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| places(item, lines)),
        Value::Map(entries) => entries.iter().for_each(|entry| places(&entry.value, lines)),
        _ => {}
    }
}

fn read(text: &[u8]) -> (Vec<Node>, bool) {
    let sink = Sink::new(Path::new("x.yaml"));
    let documents = parse(text, &sink);
    let sound = !sink.has_problems();
    for problem in sink.into_parts().0 {
        assert!(!problem.to_string().contains(char::is_control), "{:?}", problem.to_string());
    }
    (documents, sound)
}

fuzz_target!(|data: &[u8]| {
    let (documents, sound) = read(data);
    // YAML's line ends are `\n`, `\r\n` and `\r`; and one more, for what stands at the very end.
    let lines = data.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() as u32 + 2;
    for document in &documents {
        let (nodes, text, depth) = document.measure();
        assert!(nodes <= NODES_MAX && text <= TEXT_MAX && depth <= DEPTH_MAX);
        places(document, lines);
        if sound && data.len() < 4 << 10 {
            let plain = shape(document);
            let (again, sound) = read(plain.as_bytes());
            // An empty key is refused, however it is written; so is what is null as a whole.
            assert!(sound, "{plain}");
            assert_eq!(again.iter().map(shape).collect::<Vec<_>>(), [plain]);
        }
    }
});

//! Hostile input ends in problems: never in a panic, a full memory or a long wait.

#![allow(clippy::format_collect)] // short inputs, made once

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::{brief, load_text};
use crate::clock;
use crate::config::node::Value;
use crate::config::problem::{Problem, Sink};
use crate::config::yaml;

/// No input of the allowed size takes longer than this, also in a debug build on a machine that is busy with ten other
/// things. Not a claim of speed: what takes quadratic time takes hours.
const PATIENCE: Duration = Duration::from_mins(10);

fn parse(text: &[u8]) -> (Vec<crate::config::node::Node>, Vec<Problem>) {
    let sink = Sink::new(Path::new("x.yaml"));
    let documents = yaml::parse(text, &sink);
    (documents, sink.into_parts().0)
}

#[track_caller]
fn refused(text: &str, given: &str) {
    let start = clock::now();
    let (_, problems) = parse(text.as_bytes());
    let found = problems.iter().any(|p| p.given.contains(given));
    assert!(found, "expected {given:?}, found {:?}", problems.first());
    assert!(clock::now().duration_since(start) < PATIENCE);
}

#[test]
fn bounds() {
    let laughs = (1..=30).fold("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(), |acc, i| {
        let p = i - 1;
        format!("{acc}a{i}: &a{i} [*a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}]\n")
    });
    refused(&laughs, "too much in one file");
    let long = "x".repeat(1 << 20);
    refused(&format!("a: &a {long}\nb: [{}]\n", "*a, ".repeat(100)), "too much in one file");
    // Anchors in anchors: each level copies what is below it.
    let nested = (0..60).map(|i| format!("&b{i} [")).collect::<String>();
    refused(&format!("a: {nested}{}", "x, ".repeat(100_000) + &"]".repeat(60)), "too much in one file");
    refused(&format!("a: {}", "- ".repeat(50_000)), "");
    refused(&"[".repeat(100_000), "not YAML");
    refused(&"{a: ".repeat(100_000), "not YAML");
    refused(&(0..200).map(|i| format!("{}a:\n", " ".repeat(i))).collect::<String>(), "");
    let chain =
        (1..=80).fold("a0: &a0 [x]\n".to_owned(), |acc, i| format!("{acc}a{i}: &a{i} [*a{}]\n", i - 1));
    refused(&chain, "nested too deep");
    refused(&"- a\n".repeat(700_000), "too much in one file");
    refused(&"--- a\n".repeat(600_000), "too many documents");
    refused(&"x".repeat(yaml::FILE_BYTES_MAX + 1), "larger than 4 MiB");
    refused("a: &a [*a]", "an alias inside what it stands for");
    refused("a: *b", "has no anchor");
    refused("<<: {a: 1}", "a merge key");
    refused("{a: 1, a: 2}", "given twice");
    refused("? [a]\n: b\n", "a list as a key");
    refused("a: !!binary aaaa", "the tag");
    refused("a: !mine {b: 1}", "the tag");
    assert_eq!(brief(&parse(b"a\n\xff").1), ["2 : not UTF-8"]);
}

#[test]
fn many_keys_do_not_take_quadratic_time() {
    let text = (0..150_000).map(|i| format!("k{i}: 1\n")).collect::<String>();
    let start = clock::now();
    assert!(parse(text.as_bytes()).1.is_empty());
    // All unknown: the list of problems is bounded as well.
    let problems = load_text(&format!("apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\n{text}"));
    assert!(problems.unwrap_err().len() < 1100);
    assert!(clock::now().duration_since(start) < PATIENCE);
}

#[test]
fn core_schema() {
    for (text, value) in [
        ("~", Value::Null),
        ("null", Value::Null),
        ("true", Value::Bool(true)),
        ("yes", Value::Text("yes".into())),
        ("on", Value::Text("on".into())),
        ("12", Value::Int(12, "12".into())),
        ("-12", Value::Int(-12, "-12".into())),
        ("0o17", Value::Int(15, "0o17".into())),
        ("0x1F", Value::Int(31, "0x1F".into())),
        ("017", Value::Int(17, "017".into())),
        ("1e3", Value::Float(1000.0, "1e3".into())),
        (".5", Value::Float(0.5, ".5".into())),
        ("-.inf", Value::Float(f64::NEG_INFINITY, "-.inf".into())),
        ("inf", Value::Text("inf".into())),
        ("1_000", Value::Text("1_000".into())),
        ("1.2.3", Value::Text("1.2.3".into())),
        ("60s", Value::Text("60s".into())),
        (".", Value::Text(".".into())),
        ("-", Value::Text("-".into())),
        ("12:30", Value::Text("12:30".into())),
    ] {
        assert_eq!(Value::plain(text), value, "{text}");
    }
    let (documents, problems) = parse(b"a: \"12\"\nb: '~'\nc: !!str 12\nd: |\n  12\n");
    assert!(problems.is_empty());
    for key in ["a", "b", "c", "d"] {
        assert!(documents[0].get(key).unwrap().as_text().is_some(), "{key}");
    }
    let b = documents[0].get("b").unwrap();
    assert_eq!((b.pos.line, b.pos.column), (2, 4));
}

/// Pieces of which hostile files are made: likely to reach deep into the readers.
fn piece() -> impl Strategy<Value = String> {
    let words = vec![
        "apiVersion: pilotlight.dev/v1alpha1\n",
        "kind: ScaledService\n",
        "kind: InferenceService\n",
        "apiVersion: serving.kserve.io/v1beta1\n",
        "apiVersion: serving.kserve.io/v1alpha1\n",
        "kind: ServingRuntime\n",
        "metadata:\n",
        "  name: a\n",
        "spec:\n",
        "  process: {command: [a]}\n",
        "  predictor: {model: {modelFormat: {name: x}, storageUri: /}}\n",
        "  scaling:\n",
        "    min: -1\n",
        "  containers: [{name: kserve-container, command: [a], ports: [{containerPort: 1}]}]\n",
        "  supportedModelFormats: [{name: x, autoSelect: true}]\n",
        "---\n",
        "...\n",
        "&a ",
        "*a ",
        "<<: ",
        "!!str ",
        "? ",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "\t",
        "\0",
        "\u{feff}",
        "\u{2028}",
        "%YAML 1.2\n",
        "  readiness: {httpGet: {path: '/{{.Name}}'}}\n",
        "  annotations: {autoscaling.knative.dev/target: \"x\"}\n",
    ];
    prop_oneof![4 => proptest::sample::select(words).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn arbitrary_pieces_never_panic(pieces in proptest::collection::vec(piece(), 0..40)) {
        let start = clock::now();
        let _ = load_text(&pieces.concat());
        prop_assert!(clock::now().duration_since(start) < PATIENCE);
    }

    /// Whatever a field is set to, the outcome is a service or a problem with a place.
    #[test]
    fn arbitrary_values_end_in_a_place(value in "\\PC{0,30}", field in 0usize..8) {
        let field = ["port", "hosts", "concurrency", "scaling", "readiness", "timeouts", "noWake", "process"][field];
        let text = format!("apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {{name: a}}\nspec:\n  target: {{apiVersion: a, kind: b, name: c}}\n  {field}: {value}\n");
        if let Err(problems) = load_text(&text) {
            prop_assert!(problems.iter().all(|p| p.line > 0 && !p.to_string().contains('\n')), "{problems:?}");
        }
    }
}

//! Files against each other, and all their mistakes in one run.

use super::bad::service;
use super::{load_files, name};

#[test]
fn every_error_of_every_file_in_one_run() {
    let good = service("  process: {command: [a]}\n");
    let problems = load_files(&[
        ("a.yaml", &service("  prot: 1\n  port: x\n  concurrency: {limit: -1, queue: -1}\n")),
        // A document that is not YAML does not hide what follows it.
        ("b.yaml", &format!("a: [1\n---\n{good}---\nkind: Nothing\napiVersion: x\n")),
        ("c.yaml", "\u{FEFF}a: *x\n"),
        ("d.yaml", &good),
    ])
    .unwrap_err();
    let found: Vec<String> =
        problems.iter().map(|p| format!("{}:{} {}", name(&p.file).display(), p.line, p.field)).collect();
    assert_eq!(
        found,
        [
            "a.yaml:5 spec",
            "a.yaml:5 spec.prot",
            "a.yaml:6 spec.port",
            "a.yaml:7 spec.concurrency.limit",
            "a.yaml:7 spec.concurrency.queue",
            "b.yaml:1 ",
            "b.yaml:5 metadata.name",
            "b.yaml:9 kind",
            "b.yaml:10 apiVersion",
            "c.yaml:1 apiVersion",
            "c.yaml:1 kind",
            "c.yaml:1 ",
            "d.yaml:3 metadata.name",
        ]
    );
}

#[test]
fn names_and_hosts_clash() {
    let one = |name: &str, host: &str| {
        format!(
            "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata:\n  name: {name}\nspec:\n  \
             process: {{command: [a]}}\n  hosts:\n  - x.{name}.com\n  - {host}\n"
        )
    };
    let problems = load_files(&[("1.yaml", &one("a", "h.com")), ("2.yaml", &one("a", "h.com"))]).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!((name(&problems[0].file).to_str(), problems[0].line), (Some("2.yaml"), 4));
    assert!(
        problems[0].given.contains("default/a") && problems[0].given.contains("1.yaml:4"),
        "{}",
        problems[0]
    );

    let problems = load_files(&[("1.yaml", &one("a", "h.com")), ("2.yaml", &one("b", "H.com"))]).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].line, problems[0].field.as_str()), (9, "spec.hosts[1]"));
    assert!(problems[0].given.contains("h.com belongs to default/a, declared at"), "{}", problems[0]);
}

#[test]
fn names_of_models_clash() {
    let one = |namespace: &str, name: &str, models: &str| {
        format!(
            "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             spec:\n  process: {{command: [a]}}\n  models: {models}\n"
        )
    };
    let load = |first: &str, second: &str| load_files(&[("1.yaml", first), ("2.yaml", second)]);
    for (first, second, line) in [
        // Two claims: the later one is told.
        (one("default", "a", "[x/y, m]"), one("default", "b", "[m]"), "2.yaml:8:12: spec.models[0]"),
        // Another's own name, even if that comes later, and its full one.
        (one("default", "a", "[b]"), one("lab", "b", "[]"), "1.yaml:8:12: spec.models[0]"),
        (one("default", "a", "[lab/b]"), one("lab", "b", "[m]"), "1.yaml:8:12: spec.models[0]"),
    ] {
        let problems = load(&first, &second).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains(line), "{}", problems[0]);
        assert!(problems[0].given.contains("belongs to "), "{}", problems[0]);
    }
    for (first, second) in [
        // The same name in two namespaces is nobody's mistake.
        (one("default", "a", "[]"), one("lab", "a", "[]")),
        (one("default", "a", "[]"), one("lab", "a", "[a, m]")),
        // Whoever has names of its own leaves its object's name to others.
        (one("default", "a", "[m, a2]"), one("lab", "b", "[a]")),
        (one("default", "a", "[default/a, a]"), one("lab", "b", "[]")),
    ] {
        let loaded = load(&first, &second).unwrap();
        assert_eq!(loaded.services.len(), 2);
    }
}

#[test]
fn files_that_are_not_there() {
    let paths = ["/nowhere/a.yaml", "/nowhere/b"].map(std::path::PathBuf::from);
    let problems = crate::config::load(&paths).unwrap_err();
    assert_eq!(problems.0.len(), 2);
    assert_eq!(problems.0[0].to_string(), "/nowhere/a.yaml: no such file or folder");
}

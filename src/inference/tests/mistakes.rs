//! What is refused, and what has no effect.

use super::{RUNTIME, isvc, load, model};
use crate::config::tests::{brief, name};

#[test]
fn mistakes() {
    let good = "    model: {modelFormat: {name: sklearn}, storageUri: model}\n";
    for (predictor, expected) in [
        (
            "    model: {modelFormat: {nam: sklearn}, storageUri: model}\n",
            "6 spec.predictor.model.modelFormat.name: missing",
        ),
        ("    model: {storageUri: model}\n", "6 spec.predictor.model.modelFormat: missing"),
        (
            "    model: {modelFormat: sklearn, storageUri: model}\n",
            "6 spec.predictor.model.modelFormat: the text",
        ),
        (
            "    model: {modelFormat: {name: sklearn}, storageUri: none}\n",
            "6 spec.predictor.model.storageUri: missing model directory: looked at /",
        ),
        (
            "    model: {modelFormat: {name: sklearn}, storageUri: \"s3://a/b\"}\n",
            "6 spec.predictor.model.storageUri: s3:// is not supported yet",
        ),
        (
            "    model: {modelFormat: {name: sklearn}}\n",
            "6 spec.predictor.model.storageUri: missing, but ServingRuntime default/mlserver uses /mnt/models",
        ),
        (
            "    model: {modelFormat: {name: sklearn}, storageUri: model, protocolVersion: v3}\n",
            "6 spec.predictor.model.protocolVersion: the text",
        ),
        (
            "    model: {modelFormat: {name: sklearn}, storageUri: model, storage: {}}\n",
            "6 spec.predictor.model.storage: not supported yet",
        ),
        ("    sklearn: {storageUri: model}\n", "6 spec.predictor.sklearn: not supported yet"),
        ("    containers: []\n", "6 spec.predictor.containers: not supported yet"),
        (&format!("    logger: {{}}\n{good}"), "6 spec.predictor.logger: not supported yet"),
        (
            &format!("    canaryTrafficPercent: 10\n{good}"),
            "6 spec.predictor.canaryTrafficPercent: not supported yet",
        ),
        (&format!("    scaleMetric: cpu\n{good}"), "6 spec.predictor.scaleMetric: cpu is not supported"),
        (&format!("    minReplicas: -1\n{good}"), "6 spec.predictor.minReplicas: the number -1"),
        (&format!("    minReplicas: 3\n    maxReplicas: 2\n{good}"), "6 spec.predictor.minReplicas: 3"),
        (
            &format!("    containerConcurency: 3\n{good}"),
            "6 spec.predictor.containerConcurency: unknown field",
        ),
        (&format!("    timeout: 30s\n{good}"), "6 spec.predictor.timeout: the text \"30s\""),
        (&format!("{good}  transformer: {{}}\n"), "7 spec.transformer: not supported yet"),
        ("    minReplicas: 0\n", "6 spec.predictor.model: missing"),
    ] {
        let problems = load(&isvc(predictor), RUNTIME).err().unwrap_or_default();
        let found = brief(&problems);
        assert!(found.first().is_some_and(|f| f.starts_with(expected)), "{predictor}{found:?}");
    }
    let long = model("").replace("name: iris", &format!("name: {}", "a".repeat(54)));
    assert_eq!(load(&long, RUNTIME).unwrap_err()[0].field, "metadata.name");
}

#[test]
fn heartbeats_that_are_none() {
    for bad in ["10", "99ms", "often"] {
        let text = model("")
            .replace("labels:", &format!("annotations: {{pilotlight.dev/heartbeat: \"{bad}\"}}, labels:"));
        let found = brief(&load(&text, RUNTIME).unwrap_err());
        assert!(
            found.len() == 1 && found[0].contains("metadata.annotations[pilotlight.dev/heartbeat]"),
            "{found:?}"
        );
    }
}

#[test]
fn mistakes_in_runtimes() {
    for (from, to, expected) in [
        ("    command: [mlserver, start]\n", "", "14 spec.containers[0]: no command in the container"),
        ("name: http1}", "nam: http1}", "18 spec.containers[0].ports[0].nam: unknown field"),
        ("  containers:\n", "  containers:\n  - {name: x}\n  - {name: y}\n", ""),
        ("kserve-container\n", "other\n  - name: second\n", "14 spec.containers: 2 containers, none named"),
        ("{{.Name}}", "{{.Nam}}", "14 spec.containers[0]: the template \"{{.Nam}}\""),
        ("\">=3.9,<3.13\"", "new", "7 metadata.annotations[pilotlight.dev/python-version]: \"new\""),
        ("spec:\n", "spec:\n  multimodel: true\n", "9 spec.multimodel: unknown field"),
        ("priority: 1", "priority: high", "10 spec.supportedModelFormats[0].priority: the text \"high\""),
    ] {
        let found = brief(&load(&model(""), &RUNTIME.replacen(from, to, 1)).err().unwrap_or_default());
        if expected.is_empty() {
            assert!(found.is_empty(), "{found:?}");
        } else {
            assert!(found.first().is_some_and(|f| f.starts_with(expected)), "{to}: {found:?}");
        }
    }
    let problems = load(&model(""), &format!("{RUNTIME}---\n{RUNTIME}")).unwrap_err();
    assert_eq!((problems.len(), problems[0].field.as_str()), (1, "metadata.name"));
    assert!(problems[0].given.contains("r.yaml:1"), "{}", problems[0]);
}

#[test]
fn clashes_with_a_scaled_service() {
    let scaled = |name: &str| {
        format!(
            "{RUNTIME}---\napiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {{name: {name}}}\nspec: {{process: {{command: [a]}}}}\n"
        )
    };
    let problems = load(&model(""), &scaled("iris-predictor")).unwrap_err();
    assert!(
        problems.len() == 1 && problems[0].given.contains("default/iris-predictor is declared at"),
        "{problems:?}"
    );
    let problems = load(&model(""), &scaled("iris")).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(name(&problems[0].file).to_str(), Some("r.yaml"));
    assert!(
        problems[0].given.contains("iris.default.localhost belongs to default/iris-predictor"),
        "{}",
        problems[0]
    );
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let text = isvc(
        "    serviceAccountName: x\n    nodeSelector: {a: b}\n    model: {modelFormat: {name: sklearn}, storageUri: model}\n",
    );
    let loaded = load(&text, RUNTIME).unwrap();
    let warnings: Vec<String> = brief(&loaded.warnings);
    assert_eq!(
        warnings,
        [
            "6 spec.predictor: no effect on one machine: serviceAccountName, nodeSelector",
            "24 spec.containers[0]: no effect on one machine: livenessProbe",
        ]
    );
}

#[test]
fn a_bad_name_hides_no_other_mistake() {
    let isvc = "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {name: Iris_1}\nspec:\n  \
                predictor:\n    minReplicas: -1\n    model:\n      runtime: nobody\n      \
                modelFormat: {name: sklearn}\n      storageUri: none\n";
    let runtime =
        RUNTIME.replace("name: mlserver\n", "name: ML_server\n").replace("priority: 1", "priority: x");
    let scaled = "---\napiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {name: A_b, namespace: C_d}\n\
                  spec:\n  process: {command: [a]}\n  port: 0\n  scaling: {min: -1}\n";
    let found: Vec<String> = load(&format!("{isvc}{scaled}"), &runtime)
        .unwrap_err()
        .iter()
        .map(|p| format!("{}:{} {}", name(&p.file).display(), p.line, p.field))
        .collect();
    assert_eq!(
        found,
        [
            "a.yaml:3 metadata.name",
            "a.yaml:6 spec.predictor.minReplicas",
            "a.yaml:8 spec.predictor.model.runtime",
            "a.yaml:10 spec.predictor.model.storageUri",
            "a.yaml:14 metadata.name",
            "a.yaml:14 metadata.namespace",
            "a.yaml:17 spec.port",
            "a.yaml:18 spec.scaling.min",
            "r.yaml:4 metadata.name",
            "r.yaml:10 spec.supportedModelFormats[0].priority",
        ]
    );
    // No two of them clash over the name that neither has.
    let two = format!("{scaled}{}", scaled.replace("  port: 0\n", ""));
    let found = load(&two, RUNTIME).unwrap_err();
    assert!(found.iter().all(|p| !p.to_string().contains("declared at")), "{found:?}");
}

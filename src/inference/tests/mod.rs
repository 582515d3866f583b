//! `InferenceService`s and runtimes, from text to services or problems.

mod mistakes;

use std::time::Duration;

use crate::config::Loaded;
use crate::config::problem::Problem;
use crate::config::spec::{Probe, ProcessSpec, Protocol, ServiceSpec, Workload};
use crate::config::tests::{brief, load_files};

const RUNTIME: &str = r#"apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata:
  name: mlserver
  annotations:
    pilotlight.dev/python-requirements: mlserver==1.7.1 mlserver-sklearn==1.7.1
    pilotlight.dev/python-version: ">=3.9,<3.13"
spec:
  supportedModelFormats:
  - {name: sklearn, version: "1", autoSelect: true, priority: 1}
  - {name: xgboost}
  protocolVersions: [v2]
  containers:
  - name: kserve-container
    image: docker.io/seldonio/mlserver:1.7.1
    command: [mlserver, start]
    args: [/mnt/models]
    ports: [{containerPort: 8080, name: http1}, {containerPort: 9000, name: h2c}]
    env:
    - {name: MLSERVER_MODEL_NAME, value: "{{.Name}}"}
    - {name: PORT, value: "8080"}
    - {name: MLSERVER_HTTP_PORT, value: "$(PORT)"}
    resources: {requests: {cpu: 1, memory: 256Mi}, limits: {memory: 1Gi}}
    livenessProbe: {}
"#;

fn isvc(predictor: &str) -> String {
    format!(
        "apiVersion: serving.kserve.io/v1beta1\nkind: InferenceService\nmetadata: {{name: iris, labels: {{team: a}}}}\nspec:\n  predictor:\n{predictor}"
    )
}

fn model(more: &str) -> String {
    isvc(&format!("    model:\n      modelFormat: {{name: sklearn}}\n      storageUri: model\n{more}"))
}

fn load(isvc: &str, runtime: &str) -> Result<Loaded, Vec<Problem>> {
    load_files(&[("a.yaml", isvc), ("model/model.joblib", ""), ("r.yaml", runtime)])
}

#[track_caller]
fn one(isvc: &str, runtime: &str) -> (ServiceSpec, ProcessSpec) {
    let loaded = load(isvc, runtime).unwrap_or_else(|p| panic!("{}", p[0]));
    let spec = loaded.services.into_iter().next().unwrap();
    let Workload::Process(process) = spec.workload.clone() else { panic!("a process") };
    (spec, process)
}

#[test]
fn the_iris_service() {
    let text = isvc(
        "    minReplicas: 0\n    maxReplicas: 3\n    containerConcurrency: 4\n    timeout: 60\n    model:\n      \
         modelFormat: {name: sklearn}\n      protocolVersion: v2\n      storageUri: file://model\n",
    );
    let (spec, process) = one(&text, RUNTIME);
    assert_eq!(spec.key.to_string(), "default/iris-predictor");
    assert_eq!(
        spec.hosts,
        [
            "iris-predictor.default.localhost",
            "iris.default.localhost",
            "iris-predictor.default.svc.cluster.local",
            "iris.default.svc.cluster.local"
        ]
    );
    let annotated = text.replace("labels:", "annotations: {pilotlight.dev/heartbeat: 10s}, labels:");
    assert_eq!(
        (spec.heartbeat, one(&annotated, RUNTIME).0.heartbeat),
        (Duration::ZERO, Duration::from_secs(10))
    );
    assert_eq!((spec.models.own.as_str(), spec.models.claimed.len()), ("iris", 0), "as its clients know it");
    assert_eq!((spec.scaling.min, spec.scaling.max, spec.concurrency.limit), (0, 3, 4));
    assert!((spec.scaling.target - 2.8).abs() < 1e-9);
    assert_eq!(spec.timeouts.request, Duration::from_mins(1));
    assert_eq!((spec.port, spec.grpc_port, spec.protocol), (8080, 9000, Protocol::Auto));
    let ready = Probe::HttpGet { path: "/v2/models/iris/ready".into(), port: None, headers: Vec::new() };
    assert_eq!(spec.readiness, ready);
    assert_eq!(process.command[..2], ["mlserver", "start"]);
    assert!(process.command[2].starts_with('/') && process.command[2].ends_with("/model"));
    assert_eq!(process.env[1], ("MLSERVER_MODEL_NAME".into(), "iris".into()));
    assert_eq!(process.env[2].1, "$(PORT)");
    assert_eq!(process.env[0], ("HOST".into(), "127.0.0.1".into()));
    assert_eq!(process.resources.memory, 256 << 20);
    let python = process.python.unwrap();
    assert_eq!(python.requirements, ["mlserver==1.7.1", "mlserver-sklearn==1.7.1"]);
    assert_eq!(python.version, ">=3.9,<3.13");
}

#[test]
fn defaults_and_what_goes_over_the_container() {
    let (spec, process) = one(
        &model(
            "      args: [--more, \"{{ .Namespace }}/{{.Labels.team}}\"]\n      env: [{name: MLSERVER_MODEL_NAME, value: other}, {name: B, value: \"1\"}]\n",
        ),
        RUNTIME,
    );
    assert_eq!((spec.scaling.min, spec.scaling.max, spec.concurrency.limit), (1, 10, 0));
    assert_eq!(process.command[3..], ["--more", "default/a"]);
    assert_eq!(process.env[1].1, "other");
    assert_eq!(process.env[3], ("B".into(), "1".into()));
    // KServe's scaleTarget is Knative's target: utilisation comes on top.
    let (spec, _) = one(
        &isvc(
            "    scaleTarget: 10\n    scaleMetric: concurrency\n    minReplicas: 12\n    model: {modelFormat: {name: sklearn}, storageUri: model}\n",
        ),
        RUNTIME,
    );
    assert!((spec.scaling.target - 7.0).abs() < 1e-9);
    assert_eq!((spec.scaling.min, spec.scaling.max), (12, 12));
}

#[test]
fn probes_and_ports() {
    let probe = |lines: &str| {
        one(&model(""), &RUNTIME.replace("    image:", &format!("{lines}\n    image:"))).0.readiness
    };
    assert_eq!(
        probe(
            "    readinessProbe: {httpGet: {path: \"/v2/models/{{ .Name }}/ready\", port: http1}, periodSeconds: 5}"
        ),
        Probe::HttpGet { path: "/v2/models/iris/ready".into(), port: None, headers: Vec::new() }
    );
    assert_eq!(
        probe("    readinessProbe: {grpc: {port: 9000}}"),
        Probe::Grpc { port: Some(9000), service: String::new() }
    );
    assert_eq!(probe("    readinessProbe: {tcpSocket: {port: h2c}}"), Probe::TcpSocket { port: Some(9000) });
    let v1 = RUNTIME.replace("[v2]", "[v1]");
    let Probe::HttpGet { path, .. } = one(&model(""), &v1).0.readiness else { panic!("HTTP") };
    assert_eq!(path, "/v1/models/iris");
    let unstated = RUNTIME.replace("  protocolVersions: [v2]\n", "");
    assert_eq!(one(&model(""), &unstated).0.readiness, Probe::TcpSocket { port: None });
    for (ports, expected) in [
        ("[]", (8080, 0, Protocol::Auto)),
        ("[{containerPort: 80}]", (80, 0, Protocol::Auto)),
        ("[{containerPort: 80}, {containerPort: 9000}]", (80, 9000, Protocol::Auto)),
        ("[{containerPort: 9000, name: h2c}]", (9000, 0, Protocol::H2c)),
        ("[{containerPort: 9000}]", (9000, 0, Protocol::Auto)),
        ("[{containerPort: 81, name: grpc-port}, {containerPort: 80, name: web}]", (80, 81, Protocol::Auto)),
    ] {
        let line = RUNTIME.lines().find(|l| l.contains("ports:")).unwrap();
        let (s, _) = one(&model(""), &RUNTIME.replace(line, &format!("    ports: {ports}")));
        assert_eq!((s.port, s.grpc_port, s.protocol), expected, "{ports}");
    }
}

#[test]
fn selection() {
    let variant = |name: &str, change: &[(&str, &str)]| {
        let named = RUNTIME.replace("name: mlserver\n", &format!("name: {name}\n"));
        let text = change.iter().fold(named, |t, (from, to)| t.replace(from, to));
        format!("{}---\n", text.replace("command: [mlserver, start]", &format!("command: [{name}]")))
    };
    let cluster = ("kind: ServingRuntime", "kind: ClusterServingRuntime");
    let all = [
        variant("cluster", &[cluster, ("priority: 1", "priority: 9")]),
        variant("b", &[("priority: 1", "priority: 2")]),
        variant("a", &[("priority: 1", "priority: 2")]),
        variant("low", &[]),
        variant("off", &[("priority: 1", "priority: 8"), ("spec:\n", "spec:\n  disabled: true\n")]),
        variant("shy", &[("autoSelect: true", "autoSelect: false")]),
        variant("multi", &[("spec:\n", "spec:\n  multiModel: true\n")]),
        variant("old", &[("version: \"1\"", "version: \"0\""), ("[v2]", "[v1]")]),
    ]
    .concat();
    let chosen = |more: &str| one(&model(more), &all).1.command[0].clone();
    assert_eq!(chosen(""), "a");
    assert_eq!(chosen("      runtime: shy\n"), "shy");
    assert_eq!(chosen("      runtime: cluster\n"), "cluster");
    assert_eq!(chosen("      protocolVersion: v1\n"), "old");
    let other = model("").replace("name: iris", "name: iris, namespace: other");
    assert_eq!(one(&other, &all).1.command[0], "cluster");
    let versioned = model("").replace("{name: sklearn}", "{name: sklearn, version: \"0\"}");
    assert_eq!(one(&versioned, &all).1.command[0], "old");
    for (more, given) in [
        ("      runtime: none\n", "9 spec.predictor.model.runtime: the runtime \"none\" is not there"),
        ("      runtime: off\n", "9 spec.predictor.model.runtime: ServingRuntime default/off is disabled"),
        (
            "      runtime: multi\n",
            "9 spec.predictor.model.runtime: ServingRuntime default/multi is for several",
        ),
        (
            "      runtime: old\n      protocolVersion: v2\n",
            "9 spec.predictor.model.runtime: ServingRuntime default/old does not speak",
        ),
    ] {
        let problems = load(&model(more), &all).unwrap_err();
        assert!(brief(&problems)[0].starts_with(given), "{:?}", brief(&problems));
        assert!(
            problems[0].allowed.contains("ServingRuntime default/a for sklearn:1, xgboost (only when named)")
        );
    }
    let problems = load(&model("").replace("sklearn", "tensorflow"), &all).unwrap_err();
    assert_eq!(
        brief(&problems),
        ["7 spec.predictor.model.modelFormat.name: no runtime serves the format \"tensorflow\" by itself"]
    );
    assert!(load(&model("").replace("sklearn", "xgboost"), &all).is_err());
}

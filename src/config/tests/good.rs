//! What sound files become.

use std::time::Duration;

use super::{load_files, load_text};
use crate::config::check_one_machine;
use crate::config::spec::{Probe, Protocol, Scaling, ServiceSpec, Workload};

#[track_caller]
fn one(text: &str) -> ServiceSpec {
    let loaded = load_text(text).unwrap_or_else(|p| panic!("{}", p[0]));
    loaded.services.into_iter().next().unwrap()
}

fn scaling(lines: &str) -> Scaling {
    one(&format!(
        "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {{name: a}}\nspec:\n  process: {{command: [a]}}\n  {lines}\n"
    ))
    .scaling
}

const DESIGN: &str = r#"
apiVersion: pilotlight.dev/v1alpha1
kind: ScaledService
metadata: {name: iris, namespace: default}
spec:
  target: {apiVersion: apps/v1, kind: Deployment, name: iris}     # Kubernetes: anything with a scale subresource
  process:                                                        # one machine
    command: [python3, server.py, --port, "$(PORT)"]              # $(PORT) and $PORT: a free loopback port; no shell
    env: {KEY: value}                                             # added to the environment of serve
    workingDir: .                                                 # relative to the YAML file
    python: {requirements: [mlserver==1.7.1]}                     # an environment made once, first in PATH
    resources: {memory: 4Gi, deviceMemory: 0}                     # counted against the machine's budget
  port: 8080                       # where the app listens in a pod
  grpcPort: 0                      # > 0: gRPC goes there (apps such as mlserver have a second port; a process gets $GRPC_PORT)
  protocol: auto                   # http1 | h2c | auto
  hosts: [iris.example.com]        # besides iris.default.localhost / iris.default.svc.cluster.local
  concurrency: {limit: 1, queue: 100}          # per replica, hard; limit 0 = unlimited (the default)
  buffer: {requests: 10000, bytes: 256Mi}      # what the activator may hold for this service
  readiness: {httpGet: {path: /v2/health/ready}}    # httpGet | tcpSocket (default) | grpc | exec
  scaling:
    min: 0
    max: 10
    initial: 0
    activation: 1                  # replicas of a first start at least; 1 = off
    policy: kpa                    # kpa | slo
    metric: concurrency            # concurrency | rps
    target: 0.7                    # < 1 or "70%": share of concurrency.limit (100 when unlimited) ; ≥ 1: the number itself
    window: 60s
    panicWindow: 6s
    panicThreshold: 200%
    maxUpRate: 1000
    maxDownRate: 2
    scaleDownDelay: 0s
    scaleToZeroAfter: 30s          # since the last request ended, and the stable window must be empty
    burstCapacity: -1              # -1: activator always in the path (Kubernetes)
    slo: {wait: 100ms, percentile: 99}
  timeouts: {activation: 10m, responseStart: 5m, idle: 5m, request: 0s, drain: 10m}    # 0s = none
  limits: {rate: 0, burst: 0, tenantHeader: "", tenantRate: 0}    # requests/s; 0 = none
  noWake: [{path: /healthz}, {userAgent: "kube-probe/*"}]         # answered 503 at zero, without a start
"#;

#[test]
fn the_design_page_is_sound_and_states_the_defaults() {
    let full = one(DESIGN);
    assert_eq!(full.source.line, 2);
    assert_eq!(full.hosts, ["iris.default.localhost", "iris.default.svc.cluster.local", "iris.example.com"]);
    assert_eq!(full.scaling, Scaling { total: 1.0, target: 0.7, ..Scaling::default() });
    let Workload::Process(p) = &full.workload else { panic!("the process wins") };
    assert_eq!(p.command[3], "$(PORT)");
    assert!(p.working_dir.is_absolute());
    assert_eq!(p.resources.memory, 4 << 30);
    assert_eq!(p.python.as_ref().unwrap().requirements, ["mlserver==1.7.1"]);
    assert_eq!(full.no_wake.len(), 2);

    let bare = one(
        "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {name: iris}\nspec: {process: {command: [a]}}\n",
    );
    assert_eq!(bare.scaling, Scaling::default());
    assert_eq!((bare.timeouts, bare.buffer), (full.timeouts, full.buffer));
    assert_eq!(bare.limits, full.limits);
    assert_eq!(bare.concurrency.queue, full.concurrency.queue);
    assert_eq!(bare.readiness, Probe::TcpSocket { port: None });
    assert_eq!((bare.port, bare.protocol), (8080, Protocol::Auto));
    let Workload::Process(p) = &bare.workload else { panic!("a process") };
    assert!(p.working_dir.is_absolute());
}

#[test]
fn targets() {
    for (lines, total, target) in [
        ("{}", 100.0, 70.0),
        ("scaling: {target: 0.5}", 100.0, 50.0),
        ("scaling: {target: 50%}", 100.0, 50.0),
        ("scaling: {target: 100%}", 100.0, 100.0),
        ("scaling: {target: 1}", 1.0, 1.0),
        ("scaling: {target: 7.5}", 7.5, 7.5),
        ("concurrency: {limit: 4}", 4.0, 2.8),
        ("concurrency: {limit: 4}\n  scaling: {target: 0.5}", 4.0, 2.0),
        ("concurrency: {limit: 4}\n  scaling: {target: 3}", 4.0, 3.0),
        ("concurrency: {limit: 4}\n  scaling: {target: 9}", 4.0, 4.0),
        ("concurrency: {limit: 4}\n  scaling: {metric: rps}", 200.0, 140.0),
        ("concurrency: {limit: 4}\n  scaling: {metric: rps, target: 9}", 9.0, 9.0),
        ("concurrency: {limit: 4}\n  scaling: {metric: rps, target: 25%}", 200.0, 50.0),
    ] {
        let lines = if lines == "{}" { "port: 1" } else { lines };
        let s = scaling(lines);
        assert!((s.total - total).abs() < 1e-9 && (s.target - target).abs() < 1e-9, "{lines}: {s:?}");
    }
}

#[test]
fn panic_windows_and_bounds() {
    for (lines, seconds) in [("6s", 1), ("15s", 2), ("60s", 6), ("1h", 360)] {
        assert_eq!(
            scaling(&format!("scaling: {{window: {lines}}}")).panic_window,
            Duration::from_secs(seconds)
        );
    }
    assert_eq!(scaling("scaling: {min: 20}").max, 20);
    assert_eq!(scaling("scaling: {min: 20, max: 0}").ceiling(), u32::MAX);
}

#[test]
fn probes_of_the_own_port_name_none() {
    for (probe, expected) in [
        ("{tcpSocket: {}}", Probe::TcpSocket { port: None }),
        ("{tcpSocket: {port: 8080}}", Probe::TcpSocket { port: None }),
        ("{tcpSocket: {port: 9}}", Probe::TcpSocket { port: Some(9) }),
        ("{grpc: {service: x}}", Probe::Grpc { port: None, service: "x".into() }),
        ("{exec: {command: [a, b]}}", Probe::Exec { command: vec!["a".into(), "b".into()] }),
        ("{httpGet: {port: 8080}}", Probe::HttpGet { path: "/".into(), port: None, headers: Vec::new() }),
    ] {
        let spec = one(&format!(
            "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {{name: a}}\nspec:\n  process: {{command: [a]}}\n  readiness: {probe}\n"
        ));
        assert_eq!(spec.readiness, expected);
    }
}

#[test]
fn json_is_yaml_and_other_json_in_a_folder_is_left_alone() {
    let object = r#"{"apiVersion":"pilotlight.dev/v1alpha1","kind":"ScaledService",
	"metadata":{"name":"a"},"spec":{"process":{"command":["a"]},"hosts":["a\u002ecom"]}}"#;
    let loaded =
        load_files(&[("a.json", object), ("b-input.json", "{\"inputs\": []}"), ("c.yaml", "# nothing\n")]);
    let loaded = loaded.unwrap_or_else(|p| panic!("{}", p[0]));
    assert_eq!(loaded.services[0].hosts[2], "a.com");
    assert_eq!((loaded.warnings.len(), loaded.files.len(), loaded.empty_files.len()), (1, 3, 1));
}

#[test]
fn a_target_alone_loads_but_one_machine_cannot_run_it() {
    let loaded = load_text(
        "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {name: a}\nspec: {target: {apiVersion: apps/v1, kind: Deployment, name: a}}\n",
    )
    .unwrap();
    let problems = check_one_machine(&loaded);
    assert_eq!((problems.len(), problems[0].field.as_str()), (1, "spec.process"));
}

#[test]
fn a_comment_above_changes_no_service_but_the_fingerprint() {
    let text = "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {name: a}\nspec: {process: {command: [a], workingDir: /}}\n";
    let (a, b) = (load_text(text).unwrap(), load_text(&format!("# hello\n{text}")).unwrap());
    assert!(a.services[0] != b.services[0] && a.services[0].is_same(&b.services[0]));
    assert_ne!(a.files[0].sha256, b.files[0].sha256);
}

#[test]
fn services_are_sorted_and_aliases_work() {
    let loaded = load_text(
        "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {name: z}\nspec: {process: &p {command: [a]}}\n---\n\
         apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {name: a}\nspec:\n  process: {command: &c [x, &y yy, *y]}\n  readiness: {exec: {command: *c}}\n",
    )
    .unwrap();
    assert_eq!(&*loaded.services[0].key.name, "a");
    assert_eq!(
        loaded.services[0].readiness,
        Probe::Exec { command: vec!["x".into(), "yy".into(), "yy".into()] }
    );
}

#[test]
fn a_policy_that_is_not_built_yet_is_warned_of() {
    let text = |policy: &str| {
        format!(
            "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {{name: a}}\nspec:\n  \
             process: {{command: [a]}}\n  scaling: {{policy: {policy}}}\n"
        )
    };
    let loaded = load_text(&text("slo")).unwrap();
    assert_eq!((loaded.services.len(), loaded.warnings.len()), (1, 1));
    assert_eq!((loaded.warnings[0].line, loaded.warnings[0].field.as_str()), (6, "spec.scaling.policy"));
    assert!(load_text(&text("kpa")).unwrap().warnings.is_empty());
}

#[test]
fn the_folder_of_a_bare_file_name_is_the_one_we_are_in() {
    use std::path::Path;

    use crate::config::scaled_service::absolute;
    let here = std::env::current_dir().unwrap();
    let folder = Path::new("services.yaml").parent().unwrap();
    assert_eq!(absolute(folder, "."), here.join("."));
    assert_eq!(absolute(folder, ""), here);
    assert_eq!(absolute(folder, "model"), here.join("model"));
    assert_eq!(absolute(folder, "/abs"), Path::new("/abs"));
    assert_eq!(absolute(Path::new("sub"), "model"), here.join("sub/model"));
}

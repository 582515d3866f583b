//! Every kind of mistake is reported with its line and field, and all of them in one run.

use super::{brief, load_text};

/// A service with these lines under `spec:`, which begins in line 5.
pub(super) fn service(spec: &str) -> String {
    format!("apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {{name: a}}\nspec:\n{spec}")
}

#[track_caller]
fn expect(text: &str, expected: &[&str]) {
    match load_text(text) {
        Ok(_) => panic!("loaded, expected {expected:?}\n{text}"),
        Err(problems) => assert_eq!(brief(&problems), expected, "{text}"),
    }
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn fields_of_a_service() {
    // What is given under `spec` besides a process in line 5, and what is said of it.
    for (spec, expected) in [
        ("concurency: {limit: 1}", "6 spec.concurency: unknown field"),
        ("concurrency: {limit: -1}", "6 spec.concurrency.limit: the number -1"),
        ("concurrency: {limit: many}", "6 spec.concurrency.limit: the text \"many\""),
        ("concurrency: {limit: 1.5}", "6 spec.concurrency.limit: the number 1.5"),
        (
            "concurrency: {limit: 99999999999999999999}",
            "6 spec.concurrency.limit: the number 99999999999999999999",
        ),
        ("concurrency: 4", "6 spec.concurrency: the number 4"),
        ("concurrency:\n    limit: 1\n    limit: 2", "8 limit: given twice"),
        ("port: 0", "6 spec.port: the number 0"),
        ("port: 65536", "6 spec.port: the number 65536"),
        ("port: \"8080\"", "6 spec.port: the text \"8080\""),
        ("grpcPort: 8080", "6 spec.grpcPort: the number 8080"),
        ("protocol: h3", "6 spec.protocol: the text \"h3\""),
        ("hosts: a.example.com", "6 spec.hosts: the text \"a.example.com\""),
        ("hosts: [a b]", "6 spec.hosts[0]: the text \"a b\""),
        ("hosts: [a.com, x.localhost]", "6 spec.hosts[1]: x.localhost cannot be claimed"),
        ("hosts: [localhost]", "6 spec.hosts[0]: localhost cannot be claimed"),
        ("hosts: [A.b.SVC]", "6 spec.hosts[0]: a.b.svc cannot be claimed"),
        ("hosts: [a.b.svc.cluster.local]", "6 spec.hosts[0]: a.b.svc.cluster.local cannot be claimed"),
        ("hosts: [a.com, A.com]", "6 spec.hosts[1]: a.com twice"),
        ("models: llama", "6 spec.models: the text \"llama\""),
        ("models: [a b]", "6 spec.models[0]: the text \"a b\""),
        ("models: [\"\"]", "6 spec.models[0]: the text \"\""),
        ("models: [a, A, a]", "6 spec.models[2]: \"a\" twice"),
        ("heartbeat: 10", "6 spec.heartbeat: the number 10"),
        ("heartbeat: 99ms", "6 spec.heartbeat: the text \"99ms\""),
        ("heartbeat: 61m", "6 spec.heartbeat: the text \"61m\""),
        ("buffer: {requests: 0}", "6 spec.buffer.requests: the number 0"),
        ("buffer: {bytes: 256MB}", "6 spec.buffer.bytes: the text \"256MB\""),
        ("readiness: {httpGet: {path: health}}", "6 spec.readiness.httpGet.path: the text \"health\""),
        ("readiness: {httpget: {path: /}}", "6 spec.readiness.httpget: unknown field"),
        ("readiness: {exec: {command: []}}", "6 spec.readiness.exec.command: a list"),
        ("readiness: {tcpSocket: {port: web}}", "6 spec.readiness.tcpSocket.port: the text \"web\""),
        ("readiness: {tcpSocket: {}, grpc: {}}", "6 spec.readiness: more than one kind of probe"),
        ("scaling: {min: -1}", "6 spec.scaling.min: the number -1"),
        ("scaling: {min: 3, max: 2}", "6 spec.scaling.min: 3"),
        ("scaling: {initial: 3, max: 2}", "6 spec.scaling.initial: 3"),
        ("scaling: {activation: 3, max: 2}", "6 spec.scaling.activation: 3"),
        ("scaling: {activation: 0}", "6 spec.scaling.activation: the number 0"),
        ("scaling: {policy: hpa}", "6 spec.scaling.policy: the text \"hpa\""),
        ("scaling: {metric: cpu}", "6 spec.scaling.metric: cpu is not supported: it cannot wake from zero"),
        ("scaling: {target: 0}", "6 spec.scaling.target: the number 0"),
        ("scaling: {target: 170%}", "6 spec.scaling.target: the text \"170%\""),
        ("scaling: {target: .nan}", "6 spec.scaling.target: the number .nan"),
        ("scaling: {window: 5s}", "6 spec.scaling.window: the text \"5s\""),
        ("scaling: {window: 6500ms}", "6 spec.scaling.window: the text \"6500ms\""),
        ("scaling: {window: 60}", "6 spec.scaling.window: the number 60"),
        ("scaling: {window: 2h}", "6 spec.scaling.window: the text \"2h\""),
        ("scaling: {window: 10s, panicWindow: 11s}", "6 spec.scaling.panicWindow: 11s"),
        ("scaling: {panicThreshold: 109%}", "6 spec.scaling.panicThreshold: the text \"109%\""),
        ("scaling: {panicThreshold: 1001%}", "6 spec.scaling.panicThreshold: the text \"1001%\""),
        ("scaling: {maxUpRate: 1}", "6 spec.scaling.maxUpRate: the number 1"),
        ("scaling: {maxDownRate: 1.0}", "6 spec.scaling.maxDownRate: the number 1.0"),
        ("scaling: {scaleDownDelay: 61m}", "6 spec.scaling.scaleDownDelay: the text \"61m\""),
        ("scaling: {scaleToZeroAfter: -1s}", "6 spec.scaling.scaleToZeroAfter: the text \"-1s\""),
        ("scaling: {burstCapacity: -2}", "6 spec.scaling.burstCapacity: the number -2"),
        ("scaling: {slo: {percentile: 100}}", "6 spec.scaling.slo.percentile: the number 100"),
        ("timeouts: {activation: 10}", "6 spec.timeouts.activation: the number 10"),
        ("timeouts: {drain: 10d}", "6 spec.timeouts.drain: the text \"10d\""),
        ("limits: {rate: -1}", "6 spec.limits.rate: the number -1"),
        ("limits: {tenantRate: 5}", "6 spec.limits.tenantRate: a rate per tenant without tenantHeader"),
        ("limits: {tenantHeader: \"a b\"}", "6 spec.limits.tenantHeader: the text \"a b\""),
        ("noWake: [{}]", "6 spec.noWake[0]: a rule that says nothing"),
        ("noWake: [{path: /a}, {path: b}]", "6 spec.noWake[1].path: the text \"b\""),
        ("target: {apiVersion: apps/v1, kind: Deployment}", "6 spec.target.name: missing"),
    ] {
        expect(&service(&format!("  process: {{command: [sleep, \"9\"]}}\n  {spec}\n")), &[expected]);
    }
}

#[test]
fn processes() {
    for (process, expected) in [
        ("{}", "5 spec.process.command: missing"),
        ("{command: []}", "5 spec.process.command: a list"),
        ("{command: sleep 9}", "5 spec.process.command: the text \"sleep 9\""),
        ("{command: [\"\"]}", "5 spec.process.command[0]: the text \"\""),
        ("{command: [sleep, 9]}", "5 spec.process.command[1]: the number 9"),
        ("{command: [\"a\\0\"]}", "5 spec.process.command[0]: the text \"a\\0\""),
        ("{command: [a], env: {A: 1}}", "5 spec.process.env.A: the number 1"),
        ("{command: [a], env: [A]}", "5 spec.process.env: a list"),
        ("{command: [a], python: {}}", "5 spec.process.python.requirements: missing"),
        (
            "{command: [a], python: {requirements: [a], version: new}}",
            "5 spec.process.python.version: the text \"new\"",
        ),
        ("{command: [a], python: {requirements: a}}", "5 spec.process.python.requirements: the text \"a\""),
        ("{command: [a], resources: {memory: 4GB}}", "5 spec.process.resources.memory: the text \"4GB\""),
        ("{command: [a], resources: {cpu: 1}}", "5 spec.process.resources.cpu: unknown field"),
        ("[sleep]", "5 spec.process: a list"),
    ] {
        let problems = load_text(&service(&format!("  process: {process}\n"))).unwrap_err();
        assert_eq!(brief(&problems[..1]), [expected], "{process}");
    }
    let problems = load_text(&service("  process: {command: [a], workingDir: ./nowhere}\n")).unwrap_err();
    assert!(problems[0].given.starts_with("no such folder: /"), "{}", problems[0]);
}

#[test]
fn objects() {
    let head = "apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\n";
    let spec = "spec: {process: {command: [a]}}\n";
    for (text, expected) in [
        (service("  port: 80\n"), "5 spec: neither process nor target"),
        (format!("{head}metadata: {{name: a}}\n"), "1 spec: missing"),
        (format!("{head}metadata: {{name: a}}\nspec: 1\n"), "4 spec: the number 1"),
        (format!("{head}{spec}"), "1 metadata: missing"),
        (format!("{head}metadata: {{}}\n{spec}"), "3 metadata.name: missing"),
        (format!("{head}metadata: {{name: A}}\n{spec}"), "3 metadata.name: the text \"A\""),
        (format!("{head}metadata: {{name: a.b}}\n{spec}"), "3 metadata.name: the text \"a.b\""),
        (format!("{head}metadata: {{name: {}}}\n{spec}", "a".repeat(64)), "3 metadata.name: the text"),
        (
            format!("{head}metadata: {{name: a, namespace: \"-\"}}\n{spec}"),
            "3 metadata.namespace: the text \"-\"",
        ),
        (
            format!("{head}metadata: {{name: a, labels: {{x: 1}}}}\n{spec}"),
            "3 metadata.labels.x: the number 1",
        ),
        (format!("{head}metadata: {{name: a, nmae: b}}\n{spec}"), "3 metadata.nmae: unknown field"),
        (format!("{head}metadata: {{name: a}}\nspecs: 1\n{spec}"), "4 specs: unknown field"),
        ("kind: ScaledService\n".into(), "1 apiVersion: missing"),
        ("apiVersion: pilotlight.dev/v1alpha1\n".into(), "1 kind: missing"),
        ("apiVersion: v1\nkind: Pod\n".into(), "1 apiVersion: the unknown apiVersion \"v1\""),
        (
            "apiVersion: pilotlight.dev/v1\nkind: ScaledService\n".into(),
            "1 apiVersion: the unknown apiVersion",
        ),
        ("- a\n".into(), "1 : a list"),
        ("just text\n".into(), "1 : the text \"just text\""),
        ("a: [1\n".into(), "1 : not YAML"),
        ("a: \"\n".into(), ""),
    ] {
        let problems = load_text(&text).unwrap_err();
        let found = brief(&problems[..1]);
        assert!(found[0].starts_with(expected), "{text}\n{found:?}");
    }
}

#[test]
fn a_near_name_is_suggested_and_kinds_are_named() {
    let problems = load_text(&service("  process: {command: [a]}\n  concurency: {limit: 1}\n")).unwrap_err();
    assert!(problems[0].allowed.starts_with("did you mean concurrency?"), "{}", problems[0]);
    let problems = load_text("apiVersion: pilotlight.dev/v1alpha1\nkind: ScaledServise\n").unwrap_err();
    assert_eq!(brief(&problems), ["2 kind: the unknown kind \"ScaledServise\""]);
    assert!(problems[0].allowed.contains("InferenceService"));
}

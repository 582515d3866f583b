//! Replicas are seen while a run goes on: by pilotlight's admin API, Prometheus, and Kubernetes.
//!
//! The latter two need programs that a bare machine does not have, so they are ignored unless they are asked for:
//! `cargo test --test loadtest -- --ignored prometheus` (`apt-get install prometheus`), and
//! `../shared/cluster/run cargo test --test loadtest -- --ignored kubernetes`, where `KUBECONFIG` names the cluster.

use std::process::Command;

use crate::ran::{Ran, loadtest};
use crate::support::{Lab, Program, SOON, Serve, wait_until};

/// A service that needs a moment to start, and requests that fill more than one replica.
async fn serve(lab: &Lab) -> Serve {
    let app = lab.app("app").limit(1).max(3).args(["--start-delay", "300", "--delay", "100"]);
    lab.services(&[&app]).serve().start().await
}

/// From zero to several replicas and back.
fn scenario(serve: &Serve, observe: &str) -> String {
    format!(
        "load:\n  - {{for: 4s, constant: 25}}\n  - {{waitForZero: 60s}}\n\
         services:\n  - name: app\n    url: http://{}/\n    host: app.default.localhost\n    observe: {observe}\n",
        serve.traffic
    )
}

/// Writes a scenario and runs it, with `NAME.html` beside it.
async fn run(lab: &Lab, name: &str, scenario: &str) -> Ran {
    let (yaml, html) = (format!("{name}.yaml"), format!("{name}.html"));
    std::fs::write(lab.path(&yaml), scenario).unwrap();
    crate::ran::run(lab, &[&yaml, "--html", &html]).await
}

/// What was seen of one quantity, in order, repeats left out.
fn seen(ran: &Ran, quantity: &str) -> Vec<u64> {
    let looks = ran.service()["observed"].as_array().unwrap();
    let mut values: Vec<u64> = looks.iter().filter_map(|look| look[quantity].as_u64()).collect();
    values.dedup();
    values
}

/// Why nothing was seen.
fn errors(ran: &Ran) -> Vec<&str> {
    ran.service()["observe_errors"].as_array().unwrap().iter().map(|error| error.as_str().unwrap()).collect()
}

/// It was at zero, then started, then several were ready, and at the end none was.
fn from_zero_and_back(ran: &Ran) {
    let ready = seen(ran, "ready");
    let looks = &ran.service()["observed"];
    assert_eq!((ready.first(), ready.last()), (Some(&0), Some(&0)), "{looks:#}");
    assert!(ready.iter().any(|n| *n > 1), "{looks:#}");
    assert!(seen(ran, "starting").iter().any(|n| *n > 0), "{looks:#}");
    assert!(seen(ran, "desired").iter().any(|n| *n > 1), "{looks:#}");
}

#[tokio::test]
async fn by_pilotlights_admin_api() {
    let lab = Lab::new();
    let serve = serve(&lab).await;
    let observe = format!("{{every: 50ms, pilotlight: {{admin: 'http://{}'}}}}", serve.admin);
    let ran = run(&lab, "run", &scenario(&serve, &observe)).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(errors(&ran).is_empty(), "{}", ran.stderr);
    from_zero_and_back(&ran);
    assert!(seen(&ran, "queued").iter().any(|n| *n > 0) && seen(&ran, "in_flight").iter().any(|n| *n > 0));
    assert!(ran.stdout.contains("replica-seconds"), "{}", ran.stdout);
    let page = std::fs::read_to_string(lab.path("run.html")).unwrap();
    assert!(page.contains("Replicas over time") && page.contains("waitForZero: 60s"));
}

#[tokio::test]
async fn a_source_that_is_not_there_is_told_once_and_disturbs_nothing() {
    let lab = Lab::new();
    let serve = serve(&lab).await;
    // Takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (name, observe, reason) in [
        (
            "silent",
            format!("{{pilotlight: {{admin: 'http://{}'}}}}", silent.local_addr().unwrap()),
            "no answer in time",
        ),
        (
            "closed",
            "{every: 50ms, pilotlight: {admin: 'http://127.0.0.1:1'}}".to_owned(),
            "onnection refused",
        ),
        (
            "unknown",
            format!("{{every: 50ms, pilotlight: {{admin: 'http://{}', service: ml/none}}}}", serve.admin),
            "404",
        ),
        (
            "other",
            format!("{{every: 50ms, prometheus: {{url: 'http://{}', metrics: knative}}}}", serve.admin),
            "404",
        ),
        ("kubernetes", "{kubernetes: {server: 'http://127.0.0.1:1'}}".to_owned(), "onnection refused"),
    ] {
        let text = scenario(&serve, &observe).replace("  - {waitForZero: 60s}\n", "").replace("4s", "1s");
        let ran = run(&lab, name, &text).await;
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let errors = errors(&ran);
        assert!(errors.len() == 1 && errors[0].contains(reason), "{name}: {errors:?}");
        assert_eq!(ran.stderr.matches("replicas cannot be seen").count(), 1, "{}", ran.stderr);
        assert_eq!(ran.total()["ok"], 25, "{}", ran.stderr);
    }
}

#[tokio::test]
async fn mistakes_in_observe_are_found_with_their_place() {
    let lab = Lab::new();
    let text = "load: [{for: 1s, constant: 1}]\nservices:\n  - url: http://127.0.0.1:1/\n    observe:\n      \
                every: 1ms\n      prometheus: {url: 'http://x', metrics: keda}\n";
    std::fs::write(lab.path("s.yaml"), text).unwrap();
    let log = loadtest(&lab, &["validate", "s.yaml"]).await.exits(64).stderr;
    assert!(log.contains("s.yaml:5:") && log.contains("50ms"), "{log}");
    assert!(log.contains("s.yaml:6:") && log.contains("pilotlight, knative"), "{log}");
}

#[tokio::test]
#[ignore = "needs the program prometheus: apt-get install prometheus"]
async fn by_prometheus() {
    let lab = Lab::new();
    let serve = serve(&lab).await;
    let config = format!(
        "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\nscrape_configs:\n  - job_name: pilotlight\n    \
         static_configs: [{{targets: ['{}']}}]\n",
        serve.admin
    );
    std::fs::write(lab.path("prometheus.yml"), config).unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new("prometheus");
    command.args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]);
    command.arg(format!("--web.listen-address={address}")).current_dir(lab.dir());
    let _prometheus = Program::spawn(command, lab.dir());
    let asked = "/api/v1/query?query=pilotlight_service_desired_replicas";
    wait_until(SOON, "prometheus has scraped", async || {
        let reply = crate::support::Call::get("prometheus", asked).send(address).await?;
        if reply.text().contains("\"service\"") { Ok(()) } else { Err(reply.text()) }
    })
    .await;
    let observe = format!("{{every: 100ms, prometheus: {{url: 'http://{address}', metrics: pilotlight}}}}");
    let ran = run(&lab, "run", &scenario(&serve, &observe)).await;
    assert!(errors(&ran).is_empty(), "{}", ran.stderr);
    from_zero_and_back(&ran);

    let observe = format!(
        "{{every: 100ms, prometheus: {{url: 'http://{address}', queries: {{ready: 'sum(', queued: up}}}}}}"
    );
    let ran = run(&lab, "wrong", &scenario(&serve, &observe).replace("  - {waitForZero: 60s}\n", "")).await;
    let error = errors(&ran)[0];
    assert!(error.contains("query for ready (sum()") && error.contains("parse error"), "{error}");
}

#[tokio::test]
#[ignore = "needs a cluster: KUBECONFIG"]
async fn by_kubernetes() {
    let kubectl = |args: &[&str]| {
        let out = Command::new("kubectl").args(args).output().expect("kubectl");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let lab = Lab::new();
    let serve = serve(&lab).await;
    let namespace = format!("loadtest-{}", std::process::id());
    // Pods that never become ready: what is seen is what the cluster says, not what pods do.
    let objects = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n---\napiVersion: apps/v1\nkind: Deployment\n\
         metadata: {{name: app, namespace: {namespace}}}\nspec:\n  replicas: 2\n  selector: {{matchLabels: {{a: b}}}}\n  \
         template:\n    metadata: {{labels: {{a: b}}}}\n    spec: {{containers: [{{name: app, image: 'none:1'}}]}}\n---\n\
         apiVersion: v1\nkind: ReplicationController\nmetadata: {{name: app, namespace: {namespace}}}\nspec:\n  \
         replicas: 3\n  selector: {{c: d}}\n  template:\n    metadata: {{labels: {{c: d}}}}\n    \
         spec: {{containers: [{{name: app, image: 'none:1'}}]}}\n"
    );
    std::fs::write(lab.path("objects.yaml"), objects).unwrap();
    kubectl(&["apply", "-f", &lab.text_path("objects.yaml")]);
    wait_until(SOON, "the pods are there", async || {
        let pods = kubectl(&["get", "pods", "-n", &namespace, "-o", "name"]);
        if pods.lines().count() == 5 { Ok(()) } else { Err(pods) }
    })
    .await;
    // A Deployment says all itself; of a ReplicationController the scale and the pods are read.
    for (name, kind, replicas) in
        [("whole", "{", 2), ("scale", "{apiVersion: v1, kind: ReplicationController, ", 3)]
    {
        let observe = format!("{{every: 100ms, kubernetes: {kind}namespace: {namespace}}}}}");
        let ran = run(&lab, name, &scenario(&serve, &observe).replace("  - {waitForZero: 60s}\n", "")).await;
        assert!(errors(&ran).is_empty(), "{}", ran.stderr);
        assert_eq!(seen(&ran, "desired"), [replicas], "{}", ran.stderr);
        assert_eq!(
            (seen(&ran, "ready"), seen(&ran, "starting")),
            (vec![0], vec![replicas]),
            "{}",
            ran.stderr
        );
    }
    let observe = format!("{{every: 100ms, kubernetes: {{namespace: {namespace}, name: none}}}}");
    let ran = run(&lab, "none", &scenario(&serve, &observe).replace("  - {waitForZero: 60s}\n", "")).await;
    let error = errors(&ran)[0];
    assert!(error.contains("Deployment/none: 404"), "{error}");
    kubectl(&["delete", "namespace", &namespace, "--wait=false"]);
}

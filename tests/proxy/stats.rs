//! Load as it is reported, what counts as load, and every metric there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use pilotlight::stat::Stat;
use prost::Message as _;
use serde_json::json;

use crate::support::{
    Call, LONG, Lab, NAME, QueueProxy, Reply, SOON, Setup, Way, holds, host, testapp, value, wait_until,
};

async fn stat(proxy: &QueueProxy) -> (Reply, Stat) {
    let reply = proxy.admin("/stats").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/protobuf"), "{reply}");
    let stat = Stat::decode(&reply.body[..]).unwrap();
    (reply, stat)
}

#[tokio::test]
async fn the_queue_proxy_reports_as_knatives_does() {
    let lab = Lab::new();
    let gate = lab.gate("end");
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let variables = [("POD_NAME", "iris-7")];
    let (app, first) =
        (addr.to_string(), ["queue-proxy", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let args = [&first[..], &["--app", &app, "--concurrency", "1"]].concat();
    let program = lab.pilotlight_with(&args, &variables);
    let proxy = QueueProxy::of(program).await.ready().await;
    assert_eq!(stat(&proxy).await.1.average_concurrent_requests, 0.0);
    // One at the app and one in the queue: both are load.
    let calls: Vec<_> = (0..2)
        .map(|_| tokio::spawn(Call::get("x", &format!("/hold?file={gate}")).send(proxy.traffic)))
        .collect();
    let seen = wait_until(SOON, "a whole second with both", async || {
        let (_, stat) = stat(&proxy).await;
        if stat.average_concurrent_requests > 1.999 { Ok(stat) } else { Err(format!("{stat:?}")) }
    })
    .await;
    assert!(seen.average_concurrent_requests < 2.001, "{seen:?}");
    assert_eq!((&*seen.pod_name, seen.request_count), ("iris-7", 0.0), "{seen:?}");
    assert_eq!((seen.average_proxied_concurrent_requests, seen.proxied_request_count), (0.0, 0.0));
    assert!(seen.process_uptime > 1.0 && seen.process_uptime < 600.0, "{seen:?}");
    let now = pilotlight::clock::wall_millis().cast_signed();
    assert!((now - 60_000..=now).contains(&seen.timestamp), "{seen:?}");
    gate.open();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status, 200);
    }
    wait_until(SOON, "nothing is left", async || {
        let (_, stat) = stat(&proxy).await;
        holds(stat.average_concurrent_requests == 0.0, format!("{stat:?}"))
    })
    .await;
    let load = crate::support::Load::start(proxy.traffic, "x", "/", 1);
    wait_until(SOON, "a rate per second", async || {
        let (_, stat) = stat(&proxy).await;
        holds(stat.request_count > 1.0 && stat.average_concurrent_requests > 0.0, format!("{stat:?}"))
    })
    .await;
    load.stop().await;
}

#[tokio::test]
async fn the_admin_port_is_no_load() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let probe = ["--readiness", "http:/healthz", "--readiness-period", "10ms"];
    let proxy = QueueProxy::start(&lab, addr, &probe).await.ready().await;
    for path in ["/healthz", "/readyz", "/metrics", "/drain", "/stats"].repeat(20) {
        assert_eq!(proxy.admin(path).await.status, 200);
    }
    let before = stat(&proxy).await.1.timestamp;
    wait_until(SOON, "another second has passed", async || {
        let (_, stat) = stat(&proxy).await;
        assert_eq!((stat.average_concurrent_requests, stat.request_count), (0.0, 0.0), "{stat:?}");
        holds(stat.timestamp > before + 1_100, stat.timestamp)
    })
    .await;
}

/// What Kubernetes, Knative and we ourselves mark probes with, and what load balancers say of a hop before.
const MARKS: [(&str, &str); 10] = [
    ("user-agent", "kube-probe/1.30"),
    ("user-agent", "pilotlight-probe/0.1.0"),
    ("user-agent", "Knative-Ingress-Probe"),
    ("k-kubelet-probe", "value"),
    ("k-network-probe", "queue"),
    ("k-network-probe", "activator"),
    ("k-proxy-request", "activator"),
    ("knative-serving-revision", "other"),
    ("x-pilotlight-probe", "1"),
    ("x-pilotlight-hop", "activator"),
];

#[tokio::test]
async fn no_mark_from_outside_passes_the_limit_or_hides_from_the_load() {
    for setup in Setup::ALL {
        let way = Way::through(setup).args(&["--limit", "1"]).limit(1).queue(3).start().await;
        let gate = way.lab.gate("end");
        let hold = format!("/hold?file={gate}");
        let marked = |path: &str, (name, value): (&str, &str)| way.get(path).header(name, value);
        // A marked one takes the slot as any other, and three wait.
        let mut calls = vec![way.send(marked(&hold, MARKS[0]).id("held"))];
        way.reached("held").await;
        for (n, mark) in (1..).zip(&MARKS[1..4]) {
            calls.push(way.send(marked("/", *mark)));
            way.queued(n).await;
        }
        assert_eq!(way.metric("pilotlight_service_in_flight").await, 1.0, "{way}");
        // All the others find the line full, whatever they say they are.
        for mark in MARKS {
            for path in ["/", "/healthz", "/readyz", "/metrics"] {
                let refused = marked(path, mark).send(way.traffic).await.unwrap();
                assert_eq!(refused.status, 503, "{way} {path} {mark:?}: {refused}");
            }
        }
        gate.open();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap().status, 200);
        }
        assert_eq!(way.lab.events(NAME, "violation").len(), 0, "{way}");
        if setup != Setup::QueueProxy {
            continue;
        }
        // And the reported load has them: the next whole second, with one held.
        let again = way.lab.gate("again");
        let held = way.send(marked(&format!("/hold?file={again}"), MARKS[0]));
        wait_until(SOON, "it is in the load", async || {
            let reply = Call::get("localhost", "/stats").send(way.admin()).await.unwrap();
            let stat = Stat::decode(&reply.body[..]).unwrap();
            holds(stat.average_concurrent_requests > 0.999, format!("{stat:?}"))
        })
        .await;
        again.open();
        assert_eq!(held.await.unwrap().unwrap().status, 200);
    }
}

#[tokio::test]
async fn what_the_configuration_exempts_wakes_nothing_and_still_holds_a_slot() {
    let lab = Lab::new();
    let gate = lab.gate("end");
    let app = lab
        .app("app")
        .limit(1)
        .max(1)
        .set("noWake", json!([{ "userAgent": "kube-probe/*" }]))
        .args(["--limit", "1"]);
    let serve = lab.services(&[&app]).serve().start().await;
    let probe = |path: &str| Call::get(&host("app"), path).header("user-agent", "kube-probe/1.30");
    probe("/").send(serve.traffic).await.unwrap().error(503, "app");
    assert_eq!(serve.get("app", "/").await.status, 200);
    let held = serve.send(probe(&format!("/hold?file={gate}")).id("held"));
    wait_until(SOON, "it is at the app", async || holds(lab.reached("app", "held"), "no")).await;
    assert_eq!(serve.service("app").await["in_flight"], 1);
    let waits = serve.send(Call::get(&host("app"), "/"));
    serve.wait_queued("app", 1).await;
    gate.open();
    assert_eq!((held.await.unwrap().unwrap().status, waits.await.unwrap().unwrap().status), (200, 200));
    assert_eq!(lab.events("app", "violation").len(), 0);
}

#[tokio::test]
async fn bytes_connections_and_times_are_counted() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).start().await;
        let before = way.metrics().await;
        let n = 3 << 20;
        assert_eq!(
            Call::post_zeros(&way.host(), "/sink", n).send(way.traffic).await.unwrap().json()["bytes"],
            n
        );
        assert_eq!(way.get(&format!("/bytes?n={n}")).send(way.traffic).await.unwrap().body.len() as u64, n);
        assert_eq!(way.post("/echo", "four").h2().send(way.traffic).await.unwrap().text(), "four");
        let after = way.metrics().await;
        let more = |name: &str| value(&after, name) - value(&before, name);
        assert_eq!(more("pilotlight_request_bytes_total"), n as f64 + 4.0);
        assert!(more("pilotlight_response_bytes_total") >= n as f64 + 4.0, "{after}");
        assert_eq!(more("pilotlight_connections_total"), 3.0);
        assert_eq!(more("pilotlight_requests_total{code=\"200\"}"), 3.0);
        for name in ["pilotlight_request_duration_seconds", "pilotlight_response_start_seconds"] {
            assert_eq!(more(&format!("{name}_count")), 3.0, "{name}");
            assert!(reaches_an_hour(&after, name), "{after}");
        }
        assert_eq!(value(&after, "pilotlight_service_concurrency_limit"), 1.0);
        // What waits in line is counted and timed as well.
        let gate = way.lab.gate("end");
        let held = way.send(way.get(&format!("/hold?file={gate}")).id("held"));
        way.reached("held").await;
        let waits = way.send(way.get("/"));
        way.queued(1).await;
        assert_eq!(way.metric("pilotlight_service_in_flight").await, 1.0);
        gate.open();
        assert_eq!((held.await.unwrap().unwrap().status, waits.await.unwrap().unwrap().status), (200, 200));
        assert_eq!(way.metric("pilotlight_queue_wait_seconds_count").await, 1.0);
        assert!(reaches_an_hour(&way.metrics().await, "pilotlight_queue_wait_seconds"));
        way.until_metric("pilotlight_connections_open", "is back at zero", |open| open == 0.0).await;
    }
}

/// A histogram has a bucket for it.
fn reaches_an_hour(metrics: &str, name: &str) -> bool {
    let bucket = format!("{name}_bucket{{");
    metrics.lines().any(|line| line.starts_with(&bucket) && line.contains("le=\"3600\""))
}

/// `docs/metrics.md` is what the programs say of themselves. `UPDATE=1` writes it anew.
#[tokio::test]
async fn the_table_in_the_docs_is_complete() {
    let lab = Lab::new();
    let gate = lab.gate("end");
    let app = lab.app("app").limit(1).max(1).set("buffer.requests", 1).set("heartbeat", "100ms");
    let dead = lab
        .app("dead")
        .max(1)
        .set("readiness", json!({ "exec": { "command": ["true"] } }))
        .command(&["sleep", "3600"]);
    let serve = lab.services(&[&app, &dead]).serve().start().await;
    assert_eq!(serve.get("app", "/").await.status, 200);
    serve.get("dead", "/").await.error(502, "dead");
    let held = serve.send(Call::get(&host("app"), &format!("/hold?file={gate}")).id("held"));
    wait_until(SOON, "the slot is taken", async || holds(lab.reached("app", "held"), "no")).await;
    let waits = Call::get(&host("app"), "/sse").header("accept", "text/event-stream");
    let waits = waits.open(serve.traffic).await.unwrap();
    serve.get("app", "/").await.error(503, "app");
    serve.get("no.such.host", "/").await.error(404, "");
    gate.open();
    assert_eq!((held.await.unwrap().unwrap().status, waits.rest().await.unwrap().status), (200, 200));
    wait_until(LONG, "a decision was made", async || {
        holds(serve.admin("/metrics").await.text().contains("stable_average"), "none yet")
    })
    .await;
    let of_serve = families(&serve.admin("/metrics").await.text());
    let of_proxy = {
        let way = Way::through(Setup::QueueProxy).limit(1).queue(1).start().await;
        let gate = way.lab.gate("end");
        let held = way.send(way.get(&format!("/hold?file={gate}")).id("held"));
        way.reached("held").await;
        let waits = way.send(way.get("/"));
        way.queued(1).await;
        way.get("/").send(way.traffic).await.unwrap().error(503, "");
        gate.open();
        assert_eq!((held.await.unwrap().unwrap().status, waits.await.unwrap().unwrap().status), (200, 200));
        way.get("/crash").send(way.traffic).await.unwrap().error(502, "");
        way.until_metric("pilotlight_ejections_total", "counts it", |n| n >= 1.0).await;
        families(&way.metrics().await)
    };
    let text = table(&of_serve, &of_proxy);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == text, "docs/metrics.md is stale: run this test with UPDATE=1\n{text}");
}

#[derive(Clone, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

fn families(text: &str) -> BTreeMap<String, Family> {
    let mut all: BTreeMap<String, Family> = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some((found, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            found.clone_into(&mut name);
            let family = Family { kind: String::new(), help: help.to_owned(), labels: BTreeSet::new() };
            all.insert(name.clone(), family);
        } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kind.clone_into(&mut all.get_mut(&name).unwrap().kind);
        } else if let Some((_, labels)) = line.split_once('{') {
            let names = labels.split("\",").filter_map(|label| label.split_once("=\"")).map(|(name, _)| name);
            let family = all.get_mut(&name).unwrap();
            family.labels.extend(names.filter(|name| *name != "le").map(str::to_owned));
        }
    }
    all
}

fn table(of_serve: &BTreeMap<String, Family>, of_proxy: &BTreeMap<String, Family>) -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         `GET /metrics` on the admin port, in Prometheus' text format. This table is made of what the programs say of\n\
         themselves; `UPDATE=1 cargo test --test proxy the_table_in_the_docs` writes it anew.\n\n\
         Histograms of times have buckets from half a millisecond to an hour. What has never been counted may be left\n\
         out until it is: histograms without a value, refusals and ejections by a reason that never was.\n\n\
         | name | type | labels | at | what |\n|---|---|---|---|---|\n",
    );
    let names: BTreeSet<&String> = of_serve.keys().chain(of_proxy.keys()).collect();
    for name in names {
        let (serve, proxy) = (of_serve.get(name), of_proxy.get(name));
        let at = match (serve, proxy) {
            (Some(_), Some(_)) => "serve, queue-proxy",
            (Some(_), None) => "serve",
            _ => "queue-proxy",
        };
        let family = serve.or(proxy).unwrap();
        let labels: Vec<&str> = family.labels.iter().map(String::as_str).collect();
        writeln!(text, "| `{name}` | {} | {} | {at} | {} |", family.kind, labels.join(", "), family.help)
            .unwrap();
        if let (Some(serve), Some(proxy)) = (serve, proxy) {
            assert_eq!((&serve.kind, &serve.help), (&proxy.kind, &proxy.help), "{name} is one thing");
        }
    }
    text
}

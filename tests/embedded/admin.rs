//! The admin port.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use crate::support::{Call, Lab, Reply, Serve, host};

const FIELDS: [&str; 9] =
    ["namespace", "name", "url", "state", "desired", "replicas", "in_flight", "queued", "last_decision"];

fn has_all(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(value.get(field).is_some(), "{field} is missing in {value}");
    }
}

#[tokio::test]
async fn services_have_the_shape_of_the_design() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris"), &lab.app("other")]).serve().start().await;
    let all = serve.api("/api/services").await;
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all}");
    all.as_array().unwrap().iter().for_each(|service| has_all(service, &FIELDS));
    let zero = serve.service("iris").await;
    has_all(&zero, &FIELDS);
    let expected = json!(["default", "iris", "zero", 0, [], 0, 0]);
    let seen = ["namespace", "name", "state", "desired", "replicas", "in_flight", "queued"].map(|f| &zero[f]);
    assert_eq!(json!(seen), expected);
    let url = format!("http://{}:{}", host("iris"), serve.traffic.port());
    assert_eq!(zero["url"].as_str().unwrap().trim_end_matches('/'), url);

    assert_eq!(serve.get("iris", "/").await.status, 200);
    let one = serve.wait_service("iris", "ready", |s| s["state"] == "ready").await;
    assert_eq!((&one["desired"], one["replicas"].as_array().unwrap().len()), (&json!(1), 1), "{one}");
    let replica = &one["replicas"][0];
    has_all(replica, &["id", "pid", "port", "phase", "in_flight"]);
    assert_eq!(replica["phase"], "ready");
    assert_eq!(replica["pid"], lab.replicas()[0].pid);
    let port = u16::try_from(replica["port"].as_u64().unwrap()).unwrap();
    let direct = Call::get("x", "/stats").send(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.unwrap();
    assert_eq!(direct.json()["pid"], replica["pid"]);
    has_all(&one["last_decision"], &["desired", "reason"]);

    assert_eq!(serve.admin("/api/services/default/nobody").await.status, 404);
    assert_eq!(serve.admin("/api/services/default/nobody/logs").await.status, 404);
    let logs = serve.admin("/api/services/default/iris/logs").await;
    assert!(logs.status == 200 && logs.text().contains("testapp listening on"), "{logs}");
}

#[tokio::test]
async fn health_metrics_and_config_answer() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    assert_eq!((serve.admin("/healthz").await.status, serve.admin("/readyz").await.status), (200, 200));
    assert_eq!(serve.get("iris", "/").await.status, 200);
    let metrics = serve.admin("/metrics").await;
    assert!(metrics.status == 200 && metrics.header("content-type").starts_with("text/plain"), "{metrics}");
    let text = metrics.text();
    assert!(text.lines().any(|l| l.starts_with("pilotlight_") && l.contains("iris")), "{text}");
    let config = serve.api("/api/config").await;
    assert!(config.to_string().contains("iris"), "{config}");
    assert_eq!(serve.admin("/nothing").await.status, 404);
}

#[tokio::test]
async fn events_tell_of_a_wake() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    let mut events = Call::get("localhost", "/api/events").open(serve.admin).await.unwrap();
    assert_eq!(events.status, 200);
    assert!(events.headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    assert_eq!(serve.get("iris", "/").await.status, 200);
    let mut text = String::new();
    while !(text.contains("data:") && text.contains("iris")) {
        text += &String::from_utf8_lossy(&events.chunk().await.expect("it goes on").unwrap());
    }
}

#[tokio::test]
async fn wake_and_sleep_are_for_the_same_origin() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    let own = format!("http://{}", serve.admin);
    let refused = [
        post(&serve, "wake", &serve.admin.to_string(), "http://evil.example.com").await,
        post(&serve, "wake", &serve.admin.to_string(), "null").await,
        post(&serve, "wake", &serve.admin.to_string(), "http://127.0.0.1:1").await,
        // A name that was made to resolve to 127.0.0.1: same origin to the browser, not to us.
        post(&serve, "wake", "evil.example.com", "http://evil.example.com").await,
        post(&serve, "sleep", &serve.admin.to_string(), "http://evil.example.com").await,
    ];
    assert!(refused.iter().all(|r| r.status == 403), "{refused:?}");
    let get = serve.admin("/api/services/default/iris/wake").await;
    assert_eq!(get.status, 405, "a GET changes nothing: {get}");
    assert_eq!(lab.records("iris").len(), 0, "nothing was started");
    assert_eq!(serve.service("iris").await["state"], "zero");

    let woken = post(&serve, "wake", &serve.admin.to_string(), &own).await;
    assert!((200..300).contains(&woken.status), "{woken}");
    serve.wait_service("iris", "ready without a request", |s| s["state"] == "ready").await;
    let slept = post(&serve, "sleep", &serve.admin.to_string(), &own).await;
    assert!((200..300).contains(&slept.status), "{slept}");
    serve.wait_zero(&lab, "iris").await;
    assert_eq!(serve.get("iris", "/").await.status, 200, "it sleeps, it is not off");
}

#[tokio::test]
async fn an_open_admin_port_answers_probes_and_scrapers_by_any_name() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris")]).serve().admin("0.0.0.0:0").start().await;
    let get = async |path: &str| Call::get("scraped.example.com", path).send(serve.admin).await.unwrap();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(path).await.status, 200, "{path}");
    }
    for path in ["/api/services", "/api/config", "/api/services/default/iris/logs"] {
        assert_eq!(get(path).await.status, 403, "{path}");
    }
    let wake = post(&serve, "wake", "scraped.example.com", "http://scraped.example.com").await;
    assert_eq!(wake.status, 403, "{wake}");
    let closed = lab_on_loopback().await;
    assert_eq!(closed.status, 403, "opened to nobody: {closed}");
}

/// `/metrics` by a foreign name, of a port that only this machine reaches.
async fn lab_on_loopback() -> Reply {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    Call::get("scraped.example.com", "/metrics").send(serve.admin).await.unwrap()
}

async fn post(serve: &Serve, verb: &str, host: &str, origin: &str) -> Reply {
    let call = Call::post(host, &format!("/api/services/default/iris/{verb}"), "");
    call.header("origin", origin).send(serve.admin).await.unwrap()
}

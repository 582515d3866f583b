//! The whole admin API over a real fleet with real processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use futures_util::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use super::guard::Guard;
use super::{ServeState, server};
use crate::activator::Activator;
use crate::activator::wake::Wakeups;
use crate::autoscaler::Autoscaler;
use crate::clock;
use crate::config::spec::{
    Buffer, Concurrency, Limits, Models, Probe, ProcessSpec, Protocol, Resources, Scaling, ServiceKey,
    ServiceSpec, Source, Timeouts, Workload,
};
use crate::drain::Drain;
use crate::events::{Events, Kind};
use crate::fleet::ports::ServicePorts;
use crate::fleet::{Fleet, Parts};
use crate::runtime::process::machine::Machine;
use crate::runtime::process::orphans::StateDir;

/// A fleet on a state directory of its own. Replicas of a test that fails are killed with the test's runtime.
pub(super) struct World {
    pub(super) state: Arc<ServeState>,
    router: Router,
    _dir: tempfile::TempDir,
}

/// A service of this command that is ready as soon as it runs.
pub(crate) fn spec(name: &str, command: &[&str]) -> ServiceSpec {
    ServiceSpec {
        key: ServiceKey::new("default", name),
        source: Source { file: "/test.yaml".into(), line: 1 },
        workload: Workload::Process(ProcessSpec {
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            env: vec![("SECRET".into(), "hunter2".into())],
            working_dir: "/".into(),
            python: None,
            resources: Resources::default(),
        }),
        port: 8080,
        grpc_port: 0,
        protocol: Protocol::Auto,
        hosts: vec![format!("{name}.default.localhost")],
        concurrency: Concurrency::default(),
        buffer: Buffer::default(),
        readiness: Probe::Exec { command: vec!["true".into()] },
        scaling: Scaling::default(),
        timeouts: Timeouts::default(),
        limits: Limits::default(),
        no_wake: Vec::new(),
        models: Models::own(name),
        heartbeat: Duration::ZERO,
    }
}

// === impl World ===

impl World {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (events, wakeups, drain) =
            (Arc::new(Events::default()), Arc::new(Wakeups::default()), Drain::new());
        let (autoscaler, handle) = Autoscaler::new(wakeups.clone(), events.clone(), clock::now());
        tokio::spawn(autoscaler.run());
        let machine = Arc::new(Machine::new(StateDir::open(dir.path()).unwrap(), events.clone()));
        let fleet = Arc::new(Fleet::new(Parts {
            activator: Arc::new(Activator::new(drain.clone())),
            wakeups,
            autoscaler: handle.clone(),
            machine,
            events: events.clone(),
            data: tokio::runtime::Handle::current(),
            connections: crate::proxy::server::Connections {
                places: crate::proxy::places::Places::new(8),
                patience: crate::proxy::guarded::Patience {
                    header: std::time::Duration::ZERO,
                    rest: std::time::Duration::ZERO,
                },
            },
            drain: drain.clone(),
            listen: "127.0.0.1:8080".parse().unwrap(),
            ports: ServicePorts::new(None, dir.path()),
        }));
        let state = Arc::new(ServeState {
            fleet,
            autoscaler: handle,
            events,
            drain,
            ready: Arc::new(AtomicBool::new(true)),
            config: Arc::new(|| json!({"state_dir": "/somewhere"})),
        });
        let router = super::router(state.clone(), Guard::new("127.0.0.1:8081".parse().unwrap(), []));
        Self { state, router, _dir: dir }
    }

    /// Services at zero.
    pub(super) async fn apply_keys(&self, keys: &[(&str, &str)]) {
        let specs = keys.iter().map(|(namespace, name)| {
            let key = ServiceKey::new(namespace, name);
            ServiceSpec { key, hosts: Vec::new(), ..spec(name, &["sleep", "1000"]) }
        });
        self.state.fleet.apply(specs.collect()).await;
    }

    async fn send(&self, method: Method, path: &str) -> Response<Body> {
        let request = Request::builder().method(method).uri(path).header("host", "localhost:8081");
        self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn text(&self, method: Method, path: &str) -> (StatusCode, String) {
        let response = self.send(method, path).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn json(&self, method: Method, path: &str) -> (StatusCode, Value) {
        let (status, text) = self.text(method, path).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}")))
    }

    async fn until(&self, path: &str, done: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        for _ in 0..500 {
            last = self.json(Method::GET, path).await.1;
            if done(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it never came to be: {last:#}");
    }
}

/// Reads a stream until `wanted` was seen.
async fn read_until(body: &mut axum::body::BodyDataStream, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let chunk = tokio::time::timeout(Duration::from_secs(10), body.next()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("no {wanted:?} in {text:?}"));
        let chunk = chunk.unwrap_or_else(|| panic!("the end before {wanted:?}: {text:?}")).unwrap();
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    text
}

#[tokio::test]
async fn health_follows_loading_and_draining() {
    let world = World::new();
    world.state.ready.store(false, Ordering::Release);
    assert_eq!(world.text(Method::GET, "/healthz").await, (StatusCode::OK, "ok\n".into()));
    let (status, json) = world.json(Method::GET, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json["error"]["code"], "not_ready");
    world.state.ready.store(true, Ordering::Release);
    assert_eq!(world.text(Method::GET, "/readyz").await.0, StatusCode::OK);
    assert_eq!(world.text(Method::HEAD, "/readyz").await, (StatusCode::OK, String::new()));
    world.state.drain.begin();
    let (status, json) = world.json(Method::GET, "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json["error"]["message"], "pilotlight is draining");
    assert_eq!(world.text(Method::GET, "/healthz").await.0, StatusCode::OK);
}

#[tokio::test]
async fn errors_have_one_shape() {
    let world = World::new();
    world.apply_keys(&[("default", "a")]).await;
    for (method, path, status, code, service) in [
        (Method::GET, "/nothing", 404, "no_such_path", ""),
        (Method::GET, "/api/services/default/b", 404, "no_such_service", "default/b"),
        (Method::POST, "/api/services/default/b/wake", 404, "no_such_service", "default/b"),
        (Method::GET, "/api/services/default/b/logs", 404, "no_such_service", "default/b"),
        (Method::GET, "/api/services/default/a/logs?replica=x", 404, "no_such_replica", "default/a"),
        (Method::GET, "/api/services/default/a/logs?tail=many", 400, "bad_query", ""),
        (Method::GET, "/api/services/default/a/logs?lines=5", 400, "bad_query", ""),
        (Method::DELETE, "/api/services", 405, "method_not_allowed", ""),
        (Method::GET, "/api/services/default/a/sleep", 405, "method_not_allowed", ""),
    ] {
        let (answered, json) = world.json(method, path).await;
        let error = &json["error"];
        assert_eq!((answered.as_u16(), error["code"].as_str()), (status, Some(code)), "{path}");
        assert_eq!((&error["service"], &error["retry_after"]), (&json!(service), &Value::Null), "{path}");
        assert!(error["message"].is_string());
    }
    let refused = world.send(Method::PUT, "/api/services").await;
    assert_eq!(refused.headers()["allow"], "GET,HEAD");
}

#[tokio::test]
async fn the_guard_is_before_everything() {
    let world = World::new();
    for path in ["/healthz", "/metrics", "/api/services", "/api/config", "/api/events", "/nothing"] {
        let request = Request::get(path).header("host", "evil.example").body(Body::empty()).unwrap();
        let response = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{path}");
    }
    let metrics = world.send(Method::GET, "/metrics").await;
    assert_eq!(metrics.status(), StatusCode::OK);
    assert_eq!(metrics.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(metrics.headers()["x-content-type-options"], "nosniff");
}

#[tokio::test]
async fn wakes_shows_and_puts_to_sleep() {
    let world = World::new();
    let service = spec("a", &["sh", "-c", "echo hello $SECRET; echo there; exec sleep 1000"]);
    world.state.fleet.apply(vec![service]).await;
    let (status, list) = world.json(Method::GET, "/api/services").await;
    assert_eq!((status, list.as_array().map(Vec::len)), (StatusCode::OK, Some(1)));
    assert_eq!((&list[0]["state"], &list[0]["last_decision"]), (&json!("zero"), &Value::Null));
    assert_eq!(list[0]["url"], "http://a.default.localhost:8080");

    assert_eq!(world.text(Method::POST, "/api/services/default/a/wake").await.0, StatusCode::ACCEPTED);
    let ready = world.until("/api/services/default/a", |service| service["state"] == "ready").await;
    assert_eq!((&ready["namespace"], &ready["name"]), (&json!("default"), &json!("a")));
    assert_eq!((&ready["desired"], &ready["in_flight"], &ready["queued"]), (&json!(1), &json!(0), &json!(0)));
    assert_eq!(ready["last_decision"]["desired"], 1);
    assert!(ready["last_decision"]["reason"].is_string());
    let replica = &ready["replicas"][0];
    assert_eq!((&replica["phase"], &replica["in_flight"]), (&json!("ready"), &json!(0)));
    assert!(replica["pid"].as_u64().unwrap() > 1 && replica["port"].as_u64().unwrap() > 0);
    let id = replica["id"].as_str().unwrap();

    let logs = "/api/services/default/a/logs";
    let (_, text) = world.text(Method::GET, logs).await;
    assert!(text.starts_with(&format!("==> {id} (ready, process ")), "{text}");
    assert!(text.ends_with("<==\nhello hunter2\nthere\n"), "{text}");
    let one = format!("{logs}?replica={id}&tail=1");
    assert_eq!(world.text(Method::GET, &one).await.1, "there\n");
    let mut follow =
        world.send(Method::GET, &format!("{one}&follow=true")).await.into_body().into_data_stream();
    assert_eq!(read_until(&mut follow, "there").await, "there\n");

    let (_, config) = world.text(Method::GET, "/api/config").await;
    assert!(config.contains("/somewhere") && config.contains("SECRET") && !config.contains("hunter2"));

    let member = world.state.fleet.members().values().next().unwrap().clone();
    let request = member.managed.service.meter.enter(clock::now());
    let (status, busy) = world.json(Method::POST, "/api/services/default/a/sleep").await;
    assert_eq!((status, &busy["error"]["code"]), (StatusCode::CONFLICT, &json!("busy")));
    drop(request);
    assert_eq!(world.text(Method::POST, "/api/services/default/a/sleep").await.0, StatusCode::ACCEPTED);
    world.until("/api/services/default/a", |service| service["state"] == "zero").await;
    // The replica that was followed is gone: the stream ends, and its log can be read on.
    let end =
        tokio::time::timeout(Duration::from_secs(5), StreamExt::collect::<Vec<_>>(follow)).await.unwrap();
    assert!(end.iter().all(Result::is_ok));
    assert!(world.text(Method::GET, logs).await.1.starts_with(&format!("==> {id} (gone) <==\nhello")));
    world.state.fleet.stop().await;
}

#[tokio::test]
async fn a_service_that_cannot_start_says_why() {
    let world = World::new();
    world
        .state
        .fleet
        .apply(vec![
            spec("missing", &["/no/such/program"]),
            ServiceSpec {
                readiness: Probe::TcpSocket { port: None },
                ..spec("broken", &["sh", "-c", "echo it is broken; exit 7"])
            },
        ])
        .await;
    let follow = world.send(Method::GET, "/api/services/default/broken/logs?follow=true").await;
    for (name, status) in [("missing", "not found"), ("broken", "7")] {
        let path = format!("/api/services/default/{name}");
        world.text(Method::POST, &format!("{path}/wake")).await;
        let failing = world.until(&path, |service| service["state"] == "failing").await;
        let trouble = &failing["trouble"];
        assert!(trouble["reason"].as_str().unwrap().contains(status), "{trouble}");
        assert!(trouble["failures"].as_u64().unwrap() >= 1 && trouble["retry_in_s"].is_number());
        let (_, text) = world.text(Method::GET, &format!("{path}/logs")).await;
        assert!(text.starts_with(&format!("==> default/{name}: ")), "{text}");
        assert!(text.contains(" (gone) <==\n") && text.contains(status), "{text}");
    }
    let mut follow = follow.into_body().into_data_stream();
    let text = read_until(&mut follow, "it is broken").await;
    assert!(text.starts_with("==> broken-"), "{text}");
    // The program leaves: nobody who follows holds it up.
    world.state.drain.begin();
    tokio::time::timeout(Duration::from_secs(5), StreamExt::collect::<Vec<_>>(follow)).await.unwrap();
    world.state.fleet.stop().await;
}

#[tokio::test]
async fn events_come_past_ones_first_and_end_with_the_program() {
    let world = World::new();
    world.apply_keys(&[("default", "a")]).await;
    let response = world.send(Method::GET, "/api/events").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let loaded = read_until(&mut stream, "\n\n").await;
    assert!(loaded.contains("id: 1\n") && loaded.contains("event: loaded\n"), "{loaded}");
    let data = loaded.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let json: Value = serde_json::from_str(data).unwrap();
    assert_eq!((&json["id"], &json["service"]), (&json!(1), &json!("default/a")));
    world.state.events.emit(Kind::Draining, None, "leaving");
    world.state.drain.begin();
    let last = read_until(&mut stream, "event: draining").await;
    assert!(last.contains("id: 2\n"), "{last}");
    assert!(tokio::time::timeout(Duration::from_secs(5), stream.next()).await.unwrap().is_none());

    let request = Request::get("/api/events").header("host", "localhost").header("last-event-id", "1");
    let resumed = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let text = resumed.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&text).unwrap();
    assert!(text.contains("id: 2\n") && !text.contains("id: 1\n"), "{text}");
}

#[tokio::test]
async fn streams_leave_room_for_probes() {
    let world = World::new();
    let mut open = Vec::new();
    for _ in 0..super::STREAMS {
        open.push(world.send(Method::GET, "/api/events").await);
    }
    let (status, json) = world.json(Method::GET, "/api/events").await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("too_many_streams"))
    );
    drop(open.pop());
    assert_eq!(world.send(Method::GET, "/api/events").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_socket_is_answered_until_the_drain_is_over() {
    async fn ask(stream: &mut TcpStream, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![0; 4096];
        let read = stream.read(&mut head).await.unwrap();
        String::from_utf8_lossy(&head[..read]).into_owned()
    }
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let drain = world.state.drain.clone();
    let serving = tokio::spawn(server::serve(listener, world.router.clone(), drain.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut stream, "/readyz").await.starts_with("HTTP/1.1 200 OK\r\n"));
    let mut events = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut events, "/api/events").await.contains("text/event-stream"));

    let open = drain.open();
    drain.begin();
    // Something is still in flight: known connections and new ones are told so.
    assert!(ask(&mut stream, "/readyz").await.starts_with("HTTP/1.1 503 "));
    let mut late = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut late, "/healthz").await.starts_with("HTTP/1.1 200 "));
    assert!(!serving.is_finished());
    drop(open);
    tokio::time::timeout(Duration::from_millis(500), serving).await.expect("at once").unwrap();
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).await.unwrap(), 0, "closed");
    assert!(TcpStream::connect(address).await.is_err());
}

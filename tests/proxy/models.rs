//! Requests that name a model instead of a host.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{
    Call, LONG, Lab, Raw, Reply, SOON, Serve, Setup, Yaml, holds, host, raise_open_files, wait_until,
};

/// One of the default shared hosts.
const SHARED: &str = "localhost";
const CHAT: &str = "/v1/sink?sha=1";

/// A service that runs this command, which listens on `$(PORT)`, behind a queue-proxy where the setup has one.
pub(crate) fn service(lab: &Lab, setup: Setup, name: &str, command: &[&str]) -> Yaml {
    let service = lab.app(name).set("scaling.scaleToZeroAfter", "60s").set("scaling.max", 1);
    if setup == Setup::Activator {
        return service.command(command);
    }
    // It finds a free port for the app by itself; the queue-proxy waits for it.
    let free = "$(python3 -c 'import socket; s = socket.socket(); s.bind((\"127.0.0.1\", 0)); print(s.getsockname()[1])')";
    let app: Vec<String> = command.iter().map(|word| word.replace("$(PORT)", "$APP")).collect();
    let app: Vec<String> = app.iter().map(|word| format!("\"{word}\"")).collect();
    let script = format!(
        "APP={free}; PORT=$APP {} & exec {} queue-proxy --listen 127.0.0.1:$PORT --admin 127.0.0.1:0 \
         --app 127.0.0.1:$APP --concurrency 0",
        app.join(" "),
        env!("CARGO_BIN_EXE_pilotlight"),
    );
    service.command(&["sh", "-c", &script])
}

fn testapp(lab: &Lab, setup: Setup, name: &str) -> Yaml {
    let record = lab.text_path(&format!("{name}.jsonl"));
    let program = crate::support::testapp_path().to_str().unwrap().to_owned();
    service(lab, setup, name, &[&program, "--port", "$(PORT)", "--record", &record])
}

pub(crate) const WAYS: [Setup; 2] = [Setup::Activator, Setup::Both];

pub(crate) async fn state(serve: &Serve, name: &str) -> Value {
    serve.service(name).await["state"].clone()
}

/// A chat whose messages are so long, with the model behind them.
fn chat(model: &str, before: usize, after: usize) -> Vec<u8> {
    let message =
        |n: usize| "\\\"{[é".chars().cycle().take(n).collect::<String>().trim_end_matches('\\').to_owned();
    let (before, after) = (json!(message(before / 2)), message(after / 2));
    json!({"messages": [{"role": "user", "content": before}], "model": model, "more": after})
        .to_string()
        .into_bytes()
}

fn sha(body: &[u8]) -> Value {
    json!({"bytes": body.len(), "sha256": format!("{:x}", Sha256::digest(body))})
}

fn json_post(body: impl Into<Bytes>) -> Call {
    Call::post(SHARED, CHAT, body).header("content-type", "application/json")
}

#[tokio::test]
async fn the_body_goes_on_byte_for_byte() {
    for setup in WAYS {
        let lab = Lab::new();
        let serve = lab.services(&[&testapp(&lab, setup, "llama")]).serve().start().await;
        // From zero, and with a replica; over both protocols; what is read for the name, and much more.
        for (after, h2) in [(100, false), (100, true), (3_000_000, false), (3_000_000, true)] {
            let body = chat("llama", 40_000, after);
            let model = body.windows(7).position(|w| w == b"\"model\"").unwrap();
            assert!((20_000..64 * 1024).contains(&model), "{model}");
            let call = json_post(body.clone());
            let reply = if h2 { call.h2() } else { call }.send(serve.traffic).await.unwrap();
            assert_eq!((reply.status, reply.json()), (200, sha(&body)), "{setup:?} {after} {h2}");
        }
        // Chunks of a byte each.
        let body = chat("llama", 500, 500);
        let (call, pieces) = Call::post_pieces(SHARED, CHAT);
        let sent = serve.send(call);
        for byte in &body {
            pieces.send(Bytes::copy_from_slice(&[*byte])).await.unwrap();
        }
        drop(pieces);
        assert_eq!(sent.await.unwrap().unwrap().json(), sha(&body), "{setup:?}");
    }
}

#[tokio::test]
async fn the_name_must_be_in_the_first_64_kib() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("llama")]).serve().start().await;
    let body = |n: usize| format!("{{\"x\":\"{}\",\"model\":\"llama\"}}", "x".repeat(n));
    let found = json_post(body(60 << 10)).send(serve.traffic).await.unwrap();
    assert_eq!((found.status, found.json()), (200, sha(body(60 << 10).as_bytes())));
    for h2 in [false, true] {
        // One that never ends.
        let (call, pieces) = Call::post_pieces(SHARED, CHAT);
        let sent = serve.send(if h2 { call.h2() } else { call });
        for piece in body(70 << 10).into_bytes().chunks(10_000) {
            if pieces.send(Bytes::copy_from_slice(piece)).await.is_err() {
                break;
            }
        }
        let message = sent.await.unwrap().unwrap().error(400, "");
        assert!(message.contains("no \"model\""), "{message}");
        drop(pieces);
        let far = json_post(body(70 << 10));
        let message = if h2 { far.h2() } else { far }.send(serve.traffic).await.unwrap().error(400, "");
        assert!(
            message.contains("the first 65536 bytes of the body have no \"model\": put it first"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn paths_and_forms_name_it_too() {
    for setup in WAYS {
        let lab = Lab::new();
        let named = testapp(&lab, setup, "llama").set("models", json!(["meta-llama/Llama-3", "whisper-1"]));
        let serve = lab.services(&[&named, &lab.app("iris")]).serve().start().await;
        let path = |call: Call| async {
            let reply = call.send(serve.traffic).await.unwrap();
            assert_eq!(reply.status, 200, "{setup:?} {reply}");
            reply.json()["path"].as_str().unwrap_or_default().to_owned()
        };
        for on in ["/v1/models/whisper-1:predict", "/v1/models/meta-llama/Llama-3:explain"] {
            assert_eq!(path(Call::post(SHARED, on, "{}")).await, on);
        }
        for on in ["/v2/models/default%2Fllama/ready", "/v2/models/meta-llama%2FLlama-3/versions/1/infer?x=1"]
        {
            assert_eq!(path(Call::get("127.0.0.1", on)).await, on, "the path goes on as it came");
            assert_eq!(path(Call::get("[::1]:80", on).h2()).await, on);
        }
        assert_eq!(state(&serve, "iris").await, "zero");
        let form = "--b\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b\r\n\
                    content-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n";
        let form = format!("{form}{}\r\n--b--\r\n", "x".repeat(200_000));
        let call = Call::post(SHARED, "/v1/sink?sha=1", form.clone());
        let call = call.header("content-type", "multipart/form-data; boundary=b");
        assert_eq!(call.send(serve.traffic).await.unwrap().json(), sha(form.as_bytes()));
    }
}

#[tokio::test]
async fn the_list_wakes_nobody() {
    let lab = Lab::new();
    let there = lab.app("iris").text().replace("  name: iris\n", "  name: iris\n  namespace: lab\n");
    let awake = lab.app("awake").set("scaling.min", 1).text();
    lab.write("services.yaml", &(lab.app("iris").text() + &there + &awake));
    let serve = lab.serve().start().await;
    serve.wait_service("awake", "ready", |s| s["state"] == "ready").await;
    for path in ["/v1/models", "/openai/v1/models"] {
        for h2 in [false, true] {
            let call = Call::get("models.localhost", path);
            let reply = if h2 { call.h2() } else { call }.send(serve.traffic).await.unwrap();
            assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
            let list = reply.json();
            assert_eq!(list["object"], "list");
            assert_eq!(list["models"], json!(["awake", "iris", "lab/iris"]), "KServe's V1 reads this");
            let seen: Vec<_> = list["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|m| (m["id"].clone(), m["ready"].clone()))
                .collect();
            let expected = [("awake", true), ("iris", false), ("lab/iris", false)];
            assert_eq!(seen, expected.map(|(id, ready)| (json!(id), json!(ready))));
        }
    }
    let mut raw = Raw::connect(serve.traffic).await;
    raw.send("HEAD /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    let (head, _) = raw.closed().await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n") && head.contains("content-length: "),
        "{head}"
    );
    let one = Call::get(SHARED, "/v1/models/lab/iris").send(serve.traffic).await.unwrap().json();
    assert_eq!(
        (&one["name"], &one["ready"], &one["id"]),
        (&json!("lab/iris"), &json!(false), &json!("lab/iris"))
    );
    assert_eq!(state(&serve, "iris").await, "zero");
    assert_eq!(lab.events("iris", "boot").len(), 0);
}

#[tokio::test]
async fn a_name_in_two_namespaces_is_the_default_s_or_is_asked_for_in_full() {
    let lab = Lab::new();
    let within = |namespace: &str, version: &str| {
        let app = lab.app("iris").args(["--version", version]).text();
        app.replace("  name: iris\n", &format!("  name: iris\n  namespace: {namespace}\n"))
    };
    lab.write("services.yaml", &(within("a", "a") + &within("b", "b")));
    let serve = lab.serve().start().await;
    let ask = |model: &str| {
        let call = Call::post(SHARED, "/v1/completions", json!({"model": model}).to_string());
        async { call.send(serve.traffic).await.unwrap() }
    };
    let message = ask("iris").await.error(404, "");
    assert!(message.contains("a/iris, b/iris"), "{message}");
    assert_eq!(ask("b/iris").await.json()["version"], "b");
    lab.write("services.yaml", &(within("default", "here") + &within("b", "b")));
    wait_until(SOON, "the default's", async || {
        let reply = ask("iris").await;
        holds(reply.status == 200 && reply.json()["version"] == "here", &reply)
    })
    .await;
    assert_eq!(ask("b/iris").await.json()["version"], "b");
}

#[tokio::test]
async fn a_reload_changes_names_at_once() {
    let lab = Lab::new();
    let named =
        |name: &str, model: &str| lab.app(name).args(["--version", name]).set("models", json!([model]));
    let (x, y) = (named("a", "x"), named("b", "y"));
    let serve = lab.services(&[&x, &y]).serve().start().await;
    let ask = |model: &str| {
        let call = Call::post(SHARED, "/v1/completions", json!({"model": model}).to_string());
        async { call.send(serve.traffic).await.unwrap() }
    };
    assert_eq!(
        (ask("x").await.json()["version"].clone(), ask("y").await.json()["version"].clone()),
        (json!("a"), json!("b"))
    );
    ask("a").await.error(404, "");
    // They change places; at no time is either name missing.
    lab.services(&[&named("a", "y"), &named("b", "x")]);
    wait_until(LONG, "they change places", async || {
        let (x, y) = (ask("x").await, ask("y").await);
        assert_eq!((x.status, y.status), (200, 200), "{x} {y}");
        holds(x.json()["version"] == "b" && y.json()["version"] == "a", &x)
    })
    .await;
    // A name that is another's is refused, and everything stays.
    lab.services(&[&named("a", "y"), &named("b", "y")]);
    wait_until(SOON, "it is refused", async || {
        let log = serve.log();
        holds(log.contains("belongs to default/a"), log)
    })
    .await;
    assert_eq!(ask("x").await.json()["version"], "b");
}

#[tokio::test]
async fn what_names_no_model_says_why() {
    let lab = Lab::new();
    let services: Vec<Yaml> = (0..12).map(|i| lab.app(&format!("m{i:02}"))).collect();
    let serve = lab.services(&services.iter().collect::<Vec<_>>()).serve().start().await;
    let post = |body: &str| Call::post(SHARED, "/v1/chat/completions", body.to_owned());
    let long = format!("{{\"model\":\"{}\"}}", "x".repeat(300));
    let form = "multipart/form-data; boundary=b";
    for (call, status, code, text) in [
        (Call::get(SHARED, "/"), 404, "no_such_model", "GET /v1/models"),
        (Call::get(SHARED, "/v2/health/ready"), 404, "no_such_model", "names none"),
        (
            post("{\"model\":\"x\"}"),
            404,
            "no_such_model",
            "known: m00, m01, m02, m03, m04, m05, m06, m07, m08, m09 and 2 more",
        ),
        (Call::get(SHARED, "/v1/models/x"), 404, "no_such_model", "known: m00"),
        (Call::get(SHARED, "/v2/models/x/ready"), 404, "no_such_model", "known: m00"),
        (post("{\"messages\":[]}"), 400, "no_model", "the body has no \"model\""),
        (post(""), 400, "no_model", "no \"model\""),
        (post("{\"messages\":[{"), 400, "no_model", "ends in the middle"),
        (post("model=x"), 400, "no_model", "not a JSON object"),
        (post("{\"model\":7}"), 400, "no_model", "not a text"),
        (post("{\"model\":\"\"}"), 400, "no_model", "not a text of 1"),
        (post(&long), 400, "no_model", "not a text of 1 to 256 bytes"),
        (post("x").header("content-encoding", "gzip"), 400, "no_model", "compressed"),
        (post("--b--").header("content-type", form), 400, "no_model", "no field \"model\""),
    ] {
        let reply = call.send(serve.traffic).await.unwrap();
        let message = reply.error(status, "");
        assert!(reply.json()["error"]["code"] == code && message.contains(text), "{text}: {reply}");
    }
    let plain = Call::get("example.com", "/v1/models").send(serve.traffic).await.unwrap();
    assert_eq!(plain.error(404, ""), "no service has the host \"example.com\"");
    for (reason, n) in [("no_such_model", 5.0), ("no_model", 9.0), ("no_such_service", 1.0)] {
        let series = format!("pilotlight_unrouted_total{{reason=\"{reason}\"}}");
        assert_eq!(serve.metric(&series).await, n, "{reason}");
    }
    assert_eq!(lab.processes().len(), 1, "nobody was woken");
}

#[tokio::test]
async fn a_service_s_host_wins_and_others_can_be_shared() {
    let lab = Lab::new();
    let claims = lab.app("claims").set("hosts", json!(["llm.example.com"]));
    let serve = lab.services(&[&claims, &lab.app("other")]).serve();
    let serve = serve.arg("--model-hosts").arg("llm.example.com, Models.example.com,[fd00::1]").start().await;
    let body = json!({"model": "other"}).to_string();
    let ask = |host: &str| {
        let call = Call::post(host, "/v1/completions", body.clone());
        async { call.send(serve.traffic).await.unwrap() }
    };
    assert_eq!(ask("llm.example.com").await.status, 200);
    assert_eq!((lab.events("claims", "request").len(), lab.events("other", "request").len()), (1, 0));
    for shared in ["models.example.com", "MODELS.example.com:81", "[fd00::1]:8080"] {
        assert_eq!(ask(shared).await.status, 200, "{shared}");
    }
    assert_eq!(lab.events("other", "request").len(), 3);
    ask("localhost").await.error(404, "");
}

#[tokio::test]
async fn a_name_that_does_not_come_is_408() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("llama")]).serve().arg("--header-timeout").arg("500ms").start().await;
    for h2 in [false, true] {
        let (call, pieces) = Call::post_pieces(SHARED, CHAT);
        let sent = serve.send(if h2 { call.h2() } else { call });
        pieces.send(Bytes::from_static(b"{\"messages\":[")).await.unwrap();
        let message = sent.await.unwrap().unwrap().error(408, "");
        assert!(message.contains("did not come in 500ms"), "{message}");
    }
    assert_eq!(state(&serve, "llama").await, "zero");
}

#[tokio::test]
async fn bodies_that_wait_for_a_name_are_bounded() {
    raise_open_files(4096);
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("llama")]).serve().start().await;
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 70000\r\n\r\n");
    let mut waiting = Vec::new();
    for _ in 0..1024 {
        let mut raw = Raw::connect(serve.traffic).await;
        raw.send(&head).await;
        waiting.push(raw);
    }
    let body = json!({"model": "llama"}).to_string();
    let (big, small) = (chat("llama", 10, 80_000), body.clone());
    let refused = wait_until(SOON, "no room is left", async || {
        let reply = json_post(big.clone()).send(serve.traffic).await.unwrap();
        if reply.status == 503 { Ok(reply) } else { Err(reply) }
    })
    .await;
    assert!(refused.error(503, "").contains("67108864") && refused.header("retry-after") == "1", "{refused}");
    assert_eq!(
        Call::get(SHARED, "/v1/models").send(serve.traffic).await.unwrap().status,
        200,
        "needs no room"
    );
    drop(waiting);
    wait_until(SOON, "who goes gives it back", async || {
        let reply = json_post(small.clone()).send(serve.traffic).await.unwrap();
        holds(reply.status == 200, &reply)
    })
    .await;
}

#[tokio::test]
async fn who_waits_to_continue_is_told_to_when_the_name_is_needed() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("llama").limit(1).max(1)]).serve().start().await;
    let gate = lab.gate("go");
    let held = serve.send(Call::get(&host("llama"), &format!("/hold?file={gate}")));
    serve.wait_service("llama", "busy", |s| s["in_flight"] == 1).await;
    let body = json!({"model": "llama"}).to_string();
    let mut raw = Raw::connect(serve.traffic).await;
    let length = body.len();
    raw.send(format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    ))
    .await;
    raw.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    raw.send(&body).await;
    serve.wait_queued("llama", 1).await;
    gate.open();
    let answer = raw.until("sha256").await;
    assert!(answer.matches("100 Continue").count() == 1 && answer.contains("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(held.await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn from_there_on_it_is_like_any_other() {
    let lab = Lab::new();
    let app = lab.app("llama").limit(1).max(1).set("buffer.requests", 1).set("limits.rate", 100);
    let app = app.set("noWake", json!([{"path": "/v2/models/llama/ready"}]));
    let serve = lab.services(&[&app]).serve().start().await;
    Call::get(SHARED, "/v2/models/llama/ready").send(serve.traffic).await.unwrap().error(503, "llama");
    assert_eq!(state(&serve, "llama").await, "zero");
    let gate = lab.gate("go");
    let call = || Call::post(SHARED, &format!("/v1/hold?file={gate}"), json!({"model": "llama"}).to_string());
    let first = serve.send(call());
    serve.wait_service("llama", "busy", |s| s["in_flight"] == 1).await;
    let second = serve.send(call());
    serve.wait_queued("llama", 1).await;
    let full = call().send(serve.traffic).await.unwrap();
    full.error(503, "default/llama");
    gate.open();
    let replies: [Reply; 2] = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
    assert!(replies.iter().all(|r| r.status == 200), "{} {}", replies[0], replies[1]);
    assert!(replies[0].header("server-timing").contains("start;dur="), "{}", replies[0]);
    assert_eq!(replies[0].json()["method"], Method::POST.as_str());
    let forwarded = |name: &str| {
        let headers = replies[0].json()["headers"].as_array().unwrap().clone();
        headers.into_iter().find(|h| h[0] == name).map(|h| h[1].clone())
    };
    assert_eq!(forwarded("host"), Some(json!("localhost")), "as the client named it");
    assert_eq!(forwarded("x-forwarded-host"), Some(json!("localhost")));
}

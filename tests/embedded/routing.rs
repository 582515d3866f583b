//! Which service a request reaches, and with which headers.

use serde_json::{Value, json};

use crate::support::{Call, Lab, SOON, holds, host, wait_until};

#[tokio::test]
async fn hosts_reach_their_service() {
    let lab = Lab::new();
    let iris = lab.app("iris").set("hosts", json!(["iris.example.com"]));
    let serve = lab.services(&[&iris, &lab.app("other")]).serve().start().await;
    let port = serve.traffic.port();
    let own = host("iris");
    let names = [own.as_str(), "IRIS.default.LOCALHOST", "iris.example.com", &format!("{own}:{port}")];
    let mut pids = Vec::new();
    for name in names {
        for call in [Call::get(name, "/"), Call::get(name, "/").h2()] {
            let reply = call.send(serve.traffic).await.unwrap();
            assert_eq!(reply.status, 200, "{name}: {reply}");
            pids.push(reply.json()["pid"].clone());
        }
    }
    assert!(pids.iter().all(|pid| *pid == pids[0]), "one service, one replica: {pids:?}");
    assert_ne!(serve.get("other", "/").await.json()["pid"], pids[0]);
    for name in ["example.com", "x.iris.example.com", "iris.elsewhere.localhost"] {
        serve.get(name, "/").await.error(404, "");
    }
}

#[tokio::test]
async fn a_service_port_takes_any_host() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris"), &lab.app("other")]).serve().service_ports(10);
    let mut serve = serve.start().await;
    let (iris, other) = (serve.listening("default/iris").await, serve.listening("default/other").await);
    assert_ne!(iris.port(), other.port());
    for name in ["anything.example.com", "127.0.0.1", &host("other")] {
        let reply = Call::get(name, "/").send(iris).await.unwrap();
        assert_eq!(reply.status, 200, "{name}: {reply}");
        assert_eq!(reply.json()["host"], name);
    }
    assert_eq!(lab.events("iris", "request").len(), 3);
    assert_eq!(lab.events("other", "boot").len(), 0);
    // Stable: the port of one does not move when another goes.
    lab.services(&[&lab.app("iris")]);
    wait_until(SOON, "the other's port is closed", async || match Call::get("x", "/").send(other).await {
        Ok(reply) => Err(reply.to_string()),
        Err(_) => Ok(()),
    })
    .await;
    assert_eq!(Call::get("x", "/").send(iris).await.unwrap().status, 200);
}

#[tokio::test]
async fn server_timing_tells_who_waited() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris").args(["--start-delay", "100"])]).serve().start().await;
    let cold = serve.get("iris", "/").await;
    let timing = cold.header("server-timing");
    let part = |name: &str| {
        let of = timing.split(',').find_map(|part| part.trim().strip_prefix(&format!("{name};dur=")));
        of.unwrap_or_else(|| panic!("{name} in {timing:?}")).parse::<f64>().unwrap()
    };
    let parts = ["queue", "start", "ready"].map(part);
    assert!(parts.iter().all(|ms| *ms >= 0.0) && parts.iter().sum::<f64>() >= 100.0, "{timing}");
    assert_eq!(serve.get("iris", "/").await.header("server-timing"), "");
}

#[tokio::test]
async fn the_app_learns_who_asked_and_hop_headers_end_here() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let call = Call::get(&host("iris"), "/")
        .header("traceparent", trace)
        .header("x-forwarded-for", "192.0.2.1")
        .header("connection", "x-hop")
        .header("connection", "x-other-hop")
        .header("x-hop", "1")
        .header("x-other-hop", "1")
        .header("x-kept", "1");
    let seen = call.send(serve.traffic).await.unwrap().json();
    let all = |name: &str| -> Vec<String> {
        let headers = seen["headers"].as_array().unwrap().iter();
        headers.filter(|h| h[0] == name).map(|h| h[1].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(all("traceparent"), [trace]);
    let forwarded_for = all("x-forwarded-for").join(", ");
    assert!(
        forwarded_for.starts_with("192.0.2.1") && forwarded_for.ends_with("127.0.0.1"),
        "{forwarded_for}"
    );
    assert_eq!(
        (all("x-forwarded-proto"), all("x-forwarded-host")),
        (vec!["http".into()], vec![host("iris")])
    );
    assert!(all("forwarded").join(", ").contains("host="), "{seen}");
    assert_eq!(all("x-kept"), ["1"]);
    assert!(all("x-hop").is_empty() && all("x-other-hop").is_empty(), "{seen}");
    let headers: Vec<Value> = seen["headers"].as_array().unwrap().clone();
    let ours = |h: &Value| h[0].as_str().unwrap().contains("pilotlight");
    assert!(!headers.iter().any(ours), "internal headers never leak: {seen}");
}

#[tokio::test]
async fn two_namespaces_may_share_a_name() {
    let lab = Lab::new();
    let there = lab.app("iris").text().replace("  name: iris\n", "  name: iris\n  namespace: lab\n");
    lab.write("services.yaml", &(lab.app("iris").text() + &there));
    let serve = lab.serve().start().await;
    let here = serve.get("iris.default.localhost", "/").await.json();
    let there = serve.get("iris.lab.localhost", "/").await.json();
    assert_ne!(here["pid"], there["pid"]);
    let listed = serve.api("/api/services/lab/iris").await;
    wait_until(SOON, "each has its own", async || holds(lab.replicas().len() == 2, &listed)).await;
    assert_eq!(listed["namespace"], "lab");
}

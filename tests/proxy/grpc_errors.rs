//! What gRPC clients are told when we answer ourselves, and whose deadline counts.

use crate::h2_front::Hop;
use crate::support::{Call, Lab, Reply, SOON, holds, host, wait_until};

fn call(host: &str) -> Call {
    Call::post(host, "/test.Test/Unary", &b"\0\0\0\0\0"[..])
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .h2()
}

/// A status made here: in the only head, which is a 200.
#[track_caller]
fn status(reply: &Reply, code: &str) -> String {
    assert_eq!((reply.status, reply.header("grpc-status")), (200, code), "{reply}");
    assert_eq!(reply.header("content-type"), "application/grpc", "{reply}");
    assert!(reply.body.is_empty() && reply.trailers.is_empty(), "{reply}");
    reply.header("grpc-message").to_owned()
}

#[tokio::test]
async fn a_deadline_bounds_the_wait_in_line() {
    for hop in Hop::ALL {
        let front = hop.setup().protocol("h2c").limit(1).testapp().await;
        let gate = front.lab.gate("end");
        let hold = front.get(&format!("/hold?file={gate}")).id("held");
        let hold = tokio::spawn(hold.send(front.addr));
        wait_until(SOON, "it is held", async || holds(front.lab.reached("app", "held"), "no")).await;
        let reply =
            call(&front.host()).header("grpc-timeout", "300m").id("late").send(front.addr).await.unwrap();
        let message = status(&reply, "4");
        assert!(message.contains("grpc-timeout 300ms") && message.contains("replica"), "{hop:?}: {message}");
        gate.open();
        assert_eq!(hold.await.unwrap().unwrap().status, 200);
        assert!(!front.lab.reached("app", "late"), "{hop:?}");
        front.settled().await;
    }
}

#[tokio::test]
async fn a_deadline_bounds_a_start() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let serve = lab.services(&[&lab.app("iris").args(["--start-gate", &*gate])]).serve().start().await;
    let late = call(&host("iris")).header("grpc-timeout", "300m").send(serve.traffic).await.unwrap();
    let message = status(&late, "4");
    assert!(message.contains("grpc-timeout 300ms"), "{message}");
    gate.open();
    assert_eq!(call(&host("iris")).send(serve.traffic).await.unwrap().trailers["grpc-status"], "0");
}

#[tokio::test]
async fn a_deadline_bounds_the_answer_and_bad_ones_are_refused() {
    for hop in Hop::ALL {
        let app = crate::h2_apps::h2_only(|mut asked: crate::h2_apps::Asked| async move {
            if asked.request.uri().path() == "/" {
                return asked.ok("started");
            }
            let _ = std::future::poll_fn(|cx| asked.answer.poll_reset(cx)).await;
        })
        .await;
        let front = hop.setup().app(app).await;
        assert_eq!(front.get("/").send(front.addr).await.unwrap().status, 200);
        let reply = call(&front.host()).header("grpc-timeout", "500000u").send(front.addr).await.unwrap();
        let message = status(&reply, "4");
        assert!(message.contains("grpc-timeout 500ms") && message.contains("answer"), "{hop:?}: {message}");
        for bad in ["1", "100000000m", "1s", "-1S", "1.5S"] {
            let reply = call(&front.host()).header("grpc-timeout", bad).send(front.addr).await.unwrap();
            assert!(status(&reply, "3").contains("grpc-timeout"), "{hop:?} {bad}: {reply}");
        }
        front.settled().await;
    }
}

#[tokio::test]
async fn grpc_to_an_app_without_http2_says_so() {
    for hop in Hop::ALL {
        for protocol in ["auto", "http1", "h2c"] {
            let lab = Lab::new();
            let dir = lab.dir().display().to_string();
            let app = format!("python3 -m http.server -d {dir} -b 127.0.0.1 APP_PORT");
            let front = hop.setup().protocol(protocol).command(lab, &app).await;
            let reply = call(&front.host()).send(front.addr).await.unwrap();
            let message = status(&reply, "13");
            assert!(message.contains("does not speak HTTP/2"), "{hop:?} {protocol}: {message}");
            if protocol != "h2c" {
                for http in [front.get("/"), front.get("/").h2()] {
                    assert_eq!(http.send(front.addr).await.unwrap().status, 200, "{hop:?} {protocol}");
                }
            }
            front.settled().await;
        }
    }
}

#[tokio::test]
async fn grpc_web_is_http() {
    let lab = Lab::new();
    let serve = lab.services(&[]).serve().start().await;
    let ask = async |kind: &str| {
        let call = Call::post("nobody.example.com", "/test.Test/Unary", &b"\0\0\0\0\0"[..]).h2();
        call.header("content-type", kind).send(serve.traffic).await.unwrap()
    };
    ask("application/grpc-web+proto").await.error(404, "");
    ask("application/grpc-web-text").await.error(404, "");
    assert!(status(&ask("application/grpc+proto").await, "12").contains("nobody.example.com"));
}

#[tokio::test]
async fn grpc_goes_to_its_own_port_and_a_dead_one_hurts_nobody() {
    let lab = Lab::new();
    let with = lab.app("with").args(["--grpc-port", "$(GRPC_PORT)"]).set("grpcPort", 9000);
    let without = lab.app("without").set("grpcPort", 9000).set("process.env.GRPC_PORT", "");
    let without =
        without.command(&["env", "-u", "GRPC_PORT", crate::support::testapp_path().to_str().unwrap()]);
    let serve = lab.services(&[&with, &without]).serve().start().await;
    let reply = call(&host("with")).id("grpc").send(serve.traffic).await.unwrap();
    assert_eq!(reply.trailers["grpc-status"], "0", "{reply}");
    assert_eq!(serve.get("with", "/").await.status, 200);
    let ports: std::collections::BTreeSet<_> =
        lab.events("with", "request").iter().map(|request| request.port).collect();
    assert_eq!(ports.len(), 2, "{ports:?}");
    // An app that does not listen there: its HTTP stays in the set.
    let message = status(&call(&host("without")).send(serve.traffic).await.unwrap(), "14");
    assert!(message.contains("cannot connect"), "{message}");
    assert_eq!(serve.get("without", "/").await.status, 200);
}

//! What gRPC clients are told when we answer ourselves, and whose deadline counts.

use crate::support::{Call, Lab, NAME, QueueProxy, Reply, Setup, Way, free_range, host, testapp};

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
    for setup in Setup::ALL {
        let way = Way::through(setup).protocol("h2c").limit(1).start().await;
        let gate = way.lab.gate("end");
        let hold = way.send(way.get(&format!("/hold?file={gate}")).id("held"));
        way.reached("held").await;
        let reply =
            call(&way.host()).header("grpc-timeout", "300m").id("late").send(way.traffic).await.unwrap();
        let message = status(&reply, "4");
        assert!(message.contains("grpc-timeout 300ms") && message.contains("replica"), "{way}: {message}");
        gate.open();
        assert_eq!(hold.await.unwrap().unwrap().status, 200);
        assert!(!way.lab.reached(NAME, "late"), "{way}");
        way.idle().await;
    }
}

#[tokio::test]
async fn a_deadline_bounds_a_start() {
    for setup in Setup::ALL {
        let way = Way::through(setup);
        let gate = way.lab.gate("start");
        let way = way.start_gate(&gate).start().await;
        let late = call(&way.host()).header("grpc-timeout", "300m").send(way.traffic).await.unwrap();
        let message = status(&late, "4");
        assert!(message.contains("grpc-timeout 300ms"), "{way}: {message}");
        gate.open();
        let reply = call(&way.host()).send(way.traffic).await.unwrap();
        assert_eq!(reply.trailers["grpc-status"], "0", "{way}: {reply}");
    }
}

#[tokio::test]
async fn a_deadline_bounds_the_answer_and_bad_ones_are_refused() {
    for setup in Setup::ALL {
        let app = crate::h2_apps::h2_only(|mut asked: crate::h2_apps::Asked| async move {
            if asked.request.uri().path() == "/" {
                return asked.ok("started");
            }
            let _ = std::future::poll_fn(|cx| asked.answer.poll_reset(cx)).await;
        })
        .await;
        let way = Way::through(setup).at(app).cold().start().await;
        assert_eq!(way.get("/").send(way.traffic).await.unwrap().status, 200);
        let reply = call(&way.host()).header("grpc-timeout", "500000u").send(way.traffic).await.unwrap();
        let message = status(&reply, "4");
        assert!(message.contains("grpc-timeout 500ms") && message.contains("answer"), "{way}: {message}");
        for bad in ["1", "100000000m", "1s", "-1S", "1.5S"] {
            let reply = call(&way.host()).header("grpc-timeout", bad).send(way.traffic).await.unwrap();
            assert!(status(&reply, "3").contains("grpc-timeout"), "{way} {bad}: {reply}");
        }
        way.idle().await;
    }
}

#[tokio::test]
async fn grpc_to_an_app_without_http2_says_so() {
    for setup in Setup::ALL {
        for protocol in ["auto", "http1", "h2c"] {
            let way = Way::through(setup).protocol(protocol).cold();
            let dir = way.lab.text_path("services");
            let app = ["python3", "-m", "http.server", "-d", &dir, "-b", "127.0.0.1", "$(PORT)"];
            let way = way.app(&app).start().await;
            let reply = call(&way.host()).send(way.traffic).await.unwrap();
            let message = status(&reply, "13");
            assert!(message.contains("does not speak HTTP/2"), "{way} {protocol}: {message}");
            if protocol != "h2c" {
                for http in [way.get("/"), way.get("/").h2()] {
                    assert_eq!(http.send(way.traffic).await.unwrap().status, 200, "{way} {protocol}");
                }
            }
            way.idle().await;
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

/// The ports at which it was reached, in this order.
fn ports(lab: &Lab, service: &str) -> Vec<u16> {
    lab.events(service, "request").iter().map(|request| request.port.unwrap()).collect()
}

#[tokio::test]
async fn a_queue_proxy_takes_grpc_to_its_own_port() {
    let lab = Lab::new();
    let (record, port) = (lab.text_path("app.jsonl"), free_range(1).0);
    let grpc = port.to_string();
    let (_app, addr) = testapp(lab.dir(), &["--record", &record, "--grpc-port", &grpc]).await;
    let grpc_app = format!("127.0.0.1:{port}");
    let proxy = QueueProxy::start(&lab, addr, &["--grpc-app", &grpc_app]).await.ready().await;
    assert_eq!(call("x").send(proxy.traffic).await.unwrap().trailers["grpc-status"], "0");
    assert_eq!(Call::get("x", "/").h2().send(proxy.traffic).await.unwrap().status, 200);
    assert_eq!(ports(&lab, NAME), [port, addr.port()]);
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
    let ports = ports(&lab, "with");
    assert!(ports.len() == 2 && ports[0] != ports[1], "{ports:?}");
    // An app that does not listen there: its HTTP stays in the set.
    let message = status(&call(&host("without")).send(serve.traffic).await.unwrap(), "14");
    assert!(message.contains("cannot connect"), "{message}");
    assert_eq!(serve.get("without", "/").await.status, 200);
}

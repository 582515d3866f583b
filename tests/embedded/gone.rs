//! Clients that go away.

use std::time::Duration;

use crate::support::{Call, Lab, Raw, SOON, Wire, holds, host, wait_until};

fn head(method: &str, id: &str, more: &str) -> String {
    format!("{method} / HTTP/1.1\r\nhost: {}\r\nx-request-id: {id}\r\n{more}\r\n", host("iris"))
}

#[tokio::test]
async fn while_queued_they_never_reach_the_app() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let serve = lab.services(&[&lab.app("iris").args(["--start-gate", &gate])]).serve().start().await;

    let mut get = Raw::connect(serve.traffic).await;
    get.send(head("GET", "gone-get", "")).await;
    serve.wait_queued("iris", 1).await;
    drop(get);
    serve.wait_queued("iris", 0).await;

    // Less of the body than pilotlight reads ahead, then the end of the connection.
    let mut part = Raw::connect(serve.traffic).await;
    part.send(head("POST", "gone-part", "content-length: 1000000\r\n")).await;
    part.stuff(32 * 1024, Duration::from_millis(200)).await;
    serve.wait_queued("iris", 1).await;
    drop(part);
    serve.wait_queued("iris", 0).await;

    // More than it reads ahead: back-pressure, and the end is seen all the same.
    let mut large = Raw::connect(serve.traffic).await;
    large.send(head("POST", "gone-large", "content-length: 100000000\r\n")).await;
    let sent = large.stuff(100_000_000, Duration::from_millis(300)).await;
    assert!(sent < 50_000_000, "a waiting body is not read to its end: {sent}");
    serve.wait_queued("iris", 1).await;
    large.reset();
    serve.wait_queued("iris", 0).await;

    // A client that asks first is not told to go on while it waits.
    let mut expect = Raw::connect(serve.traffic).await;
    expect.send(head("POST", "gone-expect", "content-length: 5\r\nexpect: 100-continue\r\n")).await;
    serve.wait_queued("iris", 1).await;
    assert_eq!(expect.peek(), "");
    drop(expect);
    serve.wait_queued("iris", 0).await;

    // A stream of HTTP/2 that is reset while its connection lives on.
    let mut wire = Wire::open(serve.traffic, true).await.unwrap();
    tokio::select! {
        early = wire.send(Call::get(&host("iris"), "/").id("gone-h2")) => panic!("answered: {early:?}"),
        _ = serve.wait_queued("iris", 1) => {}
    }
    serve.wait_queued("iris", 0).await;

    // One who stays is served, and alone.
    let stays = serve.send(Call::get(&host("iris"), "/").id("stays"));
    serve.wait_queued("iris", 1).await;
    gate.open();
    assert_eq!(stays.await.unwrap().unwrap().status, 200);
    let ids: Vec<_> = lab.events("iris", "request").into_iter().filter_map(|r| r.id).collect();
    assert_eq!(ids, ["stays"]);
}

#[tokio::test]
async fn at_the_app_it_is_told_and_the_slot_is_free() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris").limit(1).max(1)]).serve().start().await;
    let mut client = Raw::connect(serve.traffic).await;
    client.send(head("GET", "gone", "").replace("GET /", "GET /hang")).await;
    wait_until(SOON, "it is at the app", async || holds(lab.reached("iris", "gone"), "not yet")).await;
    let waits = serve.send(Call::get(&host("iris"), "/"));
    serve.wait_queued("iris", 1).await;
    drop(client);
    assert_eq!(waits.await.unwrap().unwrap().status, 200);
    let cut = wait_until(SOON, "the app is rid of it", async || {
        let done = lab.events("iris", "done");
        done.iter().find(|r| r.id.as_deref() == Some("gone")).cloned().ok_or(format!("{done:?}"))
    })
    .await;
    assert_eq!(cut.complete, Some(false));
}

#[tokio::test]
async fn expect_continue_is_answered_once_a_slot_is_there() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let serve = lab.services(&[&lab.app("iris").args(["--start-gate", &gate])]).serve().start().await;
    let mut client = Raw::connect(serve.traffic).await;
    let first = head("POST", "asks", "content-length: 5\r\nexpect: 100-continue\r\n");
    client.send(first.replace("POST /", "POST /echo")).await;
    serve.wait_queued("iris", 1).await;
    assert_eq!(client.peek(), "", "no `100 Continue` before there is a slot");
    gate.open();
    client.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("hello").await;
    let answer = client.until("hello").await;
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
}

//! Leaving: not ready at once, what is in flight finishes, and nobody waits longer than that takes.

use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::support::{
    Call, Lab, NAME, QueueProxy, Raw, SOON, Setup, Way, Wire, holds, host, testapp, wait_until,
};

#[tokio::test]
async fn what_is_in_flight_finishes_and_keep_alive_ends() {
    for setup in Setup::ALL {
        let mut way = Way::through(setup).limit(2).start().await;
        // It rests, and has nothing to finish.
        let mut resting = Wire::open(way.traffic, false).await.unwrap();
        let _ = resting.send(way.get("/").id("resting")).await.unwrap();
        let gate = way.lab.gate("end");
        // It rests, and has nothing to finish. First: the others take both slots.
        let mut resting = Wire::open(way.traffic, false).await.unwrap();
        let _ = resting.send(way.get("/").id("resting")).await.unwrap();
        let mut raw = Raw::connect(way.traffic).await;
        raw.send(format!(
            "GET /hold?file={gate} HTTP/1.1\r\nhost: {}\r\nx-request-id: h1\r\n\r\n",
            host(NAME)
        ))
        .await;
        let h2 = way.send(way.get(&format!("/hold?file={gate}")).id("h2").h2());
        way.reached("h1").await;
        way.reached("h2").await;
        let waits = way.send(way.get("/").id("waits"));
        way.front().signal(Signal::TERM);
        let admin = way.admin();
        wait_until(SOON, "not ready", async || match Call::get("localhost", "/readyz").send(admin).await {
            Ok(reply) if reply.status == 200 => Err(reply.to_string()),
            _ => Ok(()),
        })
        .await;
        assert!(way.front().exited().is_none() && !h2.is_finished(), "{way}");
        gate.open();
        let answer = raw.until("\r\n\r\n").await.to_ascii_lowercase();
        assert!(
            answer.starts_with("http/1.1 200") && answer.contains("connection: close"),
            "{way}: {answer}"
        );
        raw.end().await.unwrap();
        assert_eq!(h2.await.unwrap().unwrap().status, 200, "{way}");
        // It was in line before the signal, or it came too late to be taken.
        if let Ok(reply) = waits.await.unwrap() {
            assert!([200, 503].contains(&reply.status), "{way}: {reply}");
        }
        assert_eq!(way.front().wait(SOON).await, 0, "{way}");
    }
}

#[tokio::test]
async fn http_2_is_told_to_go_and_its_streams_finish() {
    for setup in Setup::ALL {
        let mut way = Way::through(setup).start().await;
        let gate = way.lab.gate("end");
        let stream = TcpStream::connect(way.traffic).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = |path: &str| http::Request::get(format!("http://{}{path}", host(NAME)));
        let held = request(&format!("/hold?file={gate}")).header("x-request-id", "held").body(()).unwrap();
        let (held, _) = send.clone().ready().await.unwrap().send_request(held, true).unwrap();
        way.reached("held").await;
        way.front().signal(Signal::TERM);
        wait_until(SOON, format!("{way}: no new streams after GOAWAY"), async || {
            let mut send = match send.clone().ready().await {
                Ok(send) => send,
                Err(error) => return holds(error.is_go_away(), error.to_string()),
            };
            match send.send_request(request("/").body(()).unwrap(), true) {
                Ok((response, _)) => match response.await {
                    Ok(response) => Err(format!("{response:?}")),
                    Err(_) => Ok(()),
                },
                Err(_) => Ok(()),
            }
        })
        .await;
        gate.open();
        assert_eq!(held.await.unwrap().status(), 200, "{way}");
        drop(send);
        connection.await.unwrap().unwrap();
        assert_eq!(way.front().wait(SOON).await, 0, "{way}");
    }
}

#[tokio::test]
async fn the_drain_timeout_cuts_what_is_left() {
    for setup in Setup::ALL {
        let mut way = Way::through(setup).timeout("drain", "1s").start().await;
        let gate = way.lab.gate("never");
        let mut open = way.get(&format!("/sse?n=2&hold={gate}")).id("left").open(way.traffic).await.unwrap();
        open.chunk().await.unwrap().unwrap();
        way.front().signal(Signal::TERM);
        assert!(matches!(open.chunk().await, Some(Err(_))), "{way}: cut, not ended");
        assert_eq!(way.front().wait(SOON).await, 0, "{way}");
        let log = way.front().settled_log().await;
        assert!(log.contains("1 requests were still there"), "{way}: {log}");
    }
}

#[tokio::test]
async fn with_a_quiet_period_work_is_taken_until_nobody_sends() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let mut proxy = QueueProxy::start(&lab, addr, &["--drain-quiet", "2s"]).await.ready().await;
    proxy.signal(Signal::TERM);
    wait_until(SOON, "not ready", async || {
        let ready = proxy.admin("/readyz").await;
        holds(ready.status == 503, ready)
    })
    .await;
    // Who has not heard yet is served, and sent away.
    let late = Call::get("x", "/").send(proxy.traffic).await.unwrap();
    assert_eq!((late.status, late.header("connection")), (200, "close"), "{late}");
    assert_eq!(proxy.wait(SOON).await, 0);
}

#[tokio::test]
async fn nothing_in_flight_leaves_at_once() {
    for setup in Setup::ALL {
        let mut way = Way::through(setup).start().await;
        let mut wire = Wire::open(way.traffic, false).await.unwrap();
        assert_eq!(wire.send(way.get("/")).await.unwrap().status, 200);
        if setup == Setup::QueueProxy {
            let drained = Call::get("localhost", "/drain").send(way.admin()).await.unwrap();
            assert_eq!((drained.status, &drained.json()["in_flight"]), (200, &0.into()));
        }
        let start = pilotlight::clock::now();
        assert_eq!(way.front().terminate().await, 0, "{way}");
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{way}: {:?}", start.elapsed());
    }
}

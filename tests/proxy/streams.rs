//! Streams: each piece as it comes, in both directions, and the slot until the last.

use bytes::Bytes;

use crate::support::{Call, NAME, SOON, Setup, Way, host};

#[tokio::test]
async fn each_piece_comes_before_the_next_is_made() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).start().await;
        for h2 in [false, true] {
            let (call, pieces) = Call::post_pieces(&host(NAME), "/echo");
            let call = if h2 { call.h2() } else { call };
            pieces.send("0".into()).await.unwrap();
            let mut open = tokio::time::timeout(SOON, call.open(way.traffic)).await.unwrap().unwrap();
            for i in 0..5 {
                // The app has nothing more to send before it gets more: neither direction may hold back a byte.
                assert_eq!(open.chunk().await.unwrap().unwrap(), i.to_string(), "{way} h2 {h2}");
                pieces.send(Bytes::from((i + 1).to_string())).await.unwrap();
            }
            let waits = way.send(way.get("/"));
            assert_eq!(open.chunk().await.unwrap().unwrap(), "5", "{way} h2 {h2}");
            assert!(!waits.is_finished(), "{way} h2 {h2}: the slot is held to the end");
            drop(pieces);
            // HTTP/2 may end with an empty piece.
            let rest = open.rest().await.unwrap();
            assert_eq!(rest.text(), "", "{way} h2 {h2}: a clean end");
            assert_eq!(waits.await.unwrap().unwrap().status, 200, "{way} h2 {h2}");
        }
    }
}

#[tokio::test]
async fn events_come_one_by_one() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).start().await;
        for h2 in [false, true] {
            let gate = way.lab.gate(&format!("rest-{h2}"));
            let call = way.get(&format!("/sse?n=3&ms=1&hold={gate}"));
            let mut events = if h2 { call.h2() } else { call }.open(way.traffic).await.unwrap();
            assert_eq!(events.headers["content-type"], "text/event-stream");
            assert_eq!(events.chunk().await.unwrap().unwrap(), "data: 0\n\n", "{way} h2 {h2}");
            gate.open();
            assert_eq!(events.rest().await.unwrap().text(), "data: 1\n\ndata: 2\n\n", "{way} h2 {h2}");
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_in_the_middle_is_told_to_the_app() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).start().await;
        let gate = way.lab.gate("never");
        for (id, h2) in [("h1", false), ("h2", true)] {
            let call = way.get(&format!("/sse?n=2&hold={gate}")).id(id);
            let mut events = if h2 { call.h2() } else { call }.open(way.traffic).await.unwrap();
            events.chunk().await.unwrap().unwrap();
            drop(events);
            assert!(!way.done(id).await, "{way} {id}: the app knows that it was cut");
            assert_eq!(
                way.get("/").send(way.traffic).await.unwrap().status,
                200,
                "{way} {id}: the slot is free"
            );
        }
        way.idle().await;
    }
}

#[tokio::test]
async fn an_answer_may_come_before_the_upload_ends() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).start().await;
        for h2 in [false, true] {
            let (call, pieces) = Call::post_pieces(&host(NAME), "/early");
            let call = if h2 { call.h2() } else { call };
            pieces.send("begun".into()).await.unwrap();
            let early = call.send(way.traffic).await.unwrap();
            assert_eq!((early.status, early.text().as_str()), (200, "not read"), "{way} h2 {h2}");
            drop(pieces);
            assert_eq!(
                way.get("/").send(way.traffic).await.unwrap().status,
                200,
                "{way} h2 {h2}: the slot is free"
            );
        }
    }
}

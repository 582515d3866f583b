//! The end of `serve`: asked for, or not.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Call, LONG, Lab, SOON, alive, holds, host, kill, testapp, wait_until};

#[tokio::test]
async fn sigterm_and_ctrl_c_leave_no_process() {
    for signal in [Signal::TERM, Signal::INT] {
        let lab = Lab::new();
        // The child is not told by the app: it is only gone if its whole group was stopped.
        let iris = lab.app("iris").set("scaling.min", 2).args(["--child"]);
        let mut serve = lab.services(&[&iris]).serve().start().await;
        wait_until(SOON, "two replicas with a child each", async || {
            let all = lab.processes();
            let children = all.iter().filter(|p| p.command == "sleep 3600").count();
            holds(lab.events("iris", "listen").len() == 2 && children == 2, format!("{all:?}"))
        })
        .await;
        serve.signal(signal);
        assert_eq!(serve.wait(SOON).await, 0);
        lab.until_empty().await;
    }
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight() {
    let lab = Lab::new();
    let gate = lab.gate("end");
    let mut serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    let held = serve.send(Call::get(&host("iris"), &format!("/hold?file={gate}")).id("held"));
    wait_until(SOON, "one is in flight", async || holds(lab.reached("iris", "held"), "no")).await;
    serve.signal(Signal::TERM);
    wait_until(SOON, "not ready any more", async || {
        match Call::get("localhost", "/readyz").send(serve.admin).await {
            Ok(reply) if reply.status == 200 => Err(reply.to_string()),
            // Closed is not ready either.
            _ => Ok(()),
        }
    })
    .await;
    // New requests are refused, one way or the other, once the listeners know too.
    wait_until(SOON, "new requests are refused", async || {
        match Call::get(&host("iris"), "/").send(serve.traffic).await {
            Ok(reply) if reply.status == 200 => Err(reply.to_string()),
            _ => Ok(()),
        }
    })
    .await;
    assert!(serve.exited().is_none() && !held.is_finished());
    gate.open();
    assert_eq!(held.await.unwrap().unwrap().status, 200);
    assert_eq!(serve.wait(SOON).await, 0);
    lab.until_empty().await;
}

#[tokio::test]
async fn a_second_sigterm_does_not_wait() {
    let lab = Lab::new();
    let mut serve = lab.services(&[&lab.app("iris").args(["--ignore-sigterm"])]).serve().start().await;
    let held = serve.send(Call::get(&host("iris"), "/hang").id("held"));
    wait_until(SOON, "one is in flight", async || holds(lab.reached("iris", "held"), "no")).await;
    serve.signal(Signal::TERM);
    wait_until(SOON, "it drains", async || match Call::get("localhost", "/readyz").send(serve.admin).await {
        Ok(reply) if reply.status == 200 => Err(reply.to_string()),
        _ => Ok(()),
    })
    .await;
    assert!(serve.exited().is_none() && !held.is_finished(), "the first one waits for what is in flight");
    serve.signal(Signal::TERM);
    // The drain timeout is 10 minutes: this is the second signal's doing.
    serve.wait(SOON).await;
    lab.until_empty().await;
}

#[tokio::test]
async fn an_app_that_ignores_sigterm_is_killed() {
    let lab = Lab::new();
    let iris = lab.app("iris").set("timeouts.drain", "1s").args(["--ignore-sigterm", "--child"]);
    let mut serve = lab.services(&[&iris]).serve().start().await;
    assert_eq!(serve.get("iris", "/").await.status, 200);
    assert_eq!(serve.terminate().await, 0);
    lab.until_empty().await;
    assert_eq!(lab.events("iris", "term").len(), 1, "it was asked first");
}

#[tokio::test]
async fn nothing_in_flight_stops_at_once_also_at_zero() {
    let lab = Lab::new();
    let mut serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    // A connection that is kept alive but idle is nothing to wait for.
    let mut wire = crate::support::Wire::open(serve.traffic, false).await.unwrap();
    assert_eq!(wire.send(Call::get("nobody", "/")).await.unwrap().status, 404);
    assert_eq!(serve.terminate().await, 0);
    lab.until_empty().await;
}

#[tokio::test]
async fn after_sigkill_the_next_one_sweeps() {
    let lab = Lab::new();
    let iris = lab.app("iris").set("scaling.min", 1).args(["--child", "--ignore-sigterm"]);
    let mut serve = lab.services(&[&iris]).serve().start().await;
    assert_eq!(serve.get("iris", "/").await.status, 200);
    // Same program, same directory, but not a replica: it must survive.
    let (stranger, _) = testapp(lab.dir(), &["--record", &lab.text_path("stranger.jsonl")]).await;
    let old: Vec<u32> = lab.processes().iter().map(|p| p.pid).filter(|p| *p != stranger.pid()).collect();
    serve.signal(Signal::KILL);
    assert_eq!(serve.wait(SOON).await, 128 + 9);
    let serve = lab.serve().start().await;
    wait_until(LONG, "replicas of the killed one are gone", async || {
        let left: Vec<_> = old.iter().filter(|pid| alive(**pid)).collect();
        holds(left.is_empty(), format!("{left:?}"))
    })
    .await;
    assert!(alive(stranger.pid()), "a stranger was killed");
    let reply = serve.get("iris", "/").await;
    assert_eq!(reply.status, 200);
    assert!(!old.contains(&u32::try_from(reply.json()["pid"].as_u64().unwrap()).unwrap()));
}

#[tokio::test]
async fn one_serve_per_state_directory() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris")]).serve().start().await;
    assert_eq!(serve.get("iris", "/").await.status, 200);
    let mut second = lab.serve().spawn();
    assert_ne!(second.wait(SOON).await, 0);
    assert!(second.log().contains("state"), "it says why: {}", second.log());
    assert_eq!(lab.replicas().len(), 1, "the first one's replica is no orphan");
    assert_eq!(serve.get("iris", "/").await.status, 200);
}

#[tokio::test]
async fn a_request_that_hangs_is_given_the_drain_timeout_once() {
    let lab = Lab::new();
    let mut serve = lab.services(&[&lab.app("iris").set("timeouts.drain", "4s")]).serve().start().await;
    let _hung = serve.send(Call::get(&host("iris"), "/hang").id("hung"));
    wait_until(SOON, "one is in flight", async || holds(lab.reached("iris", "hung"), "no")).await;
    let told = pilotlight::clock::now();
    serve.signal(Signal::TERM);
    wait_until(SOON, "the app is told", async || lab.events("iris", "term").pop().ok_or("not yet")).await;
    let took = told.elapsed();
    let log = serve.log();
    assert!(log.contains("still there after 4s") && !log.contains("the drain timeout passed"), "{log}");
    assert!(took >= Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
    // It hangs for ever, and is killed for it.
    for replica in lab.replicas() {
        kill(replica.pid, Signal::KILL);
    }
    assert_eq!(serve.wait(SOON).await, 0);
}

#[tokio::test]
async fn who_waits_for_a_start_is_answered_before_the_end() {
    let lab = Lab::new();
    let gate = lab.gate("start");
    let iris = lab.app("iris").limit(1).max(1).args(["--start-gate", &gate]);
    let mut serve = lab.services(&[&iris]).serve().start().await;
    let waiting: Vec<_> = (0..3).map(|_| serve.send(Call::get(&host("iris"), "/"))).collect();
    serve.wait_queued("iris", 3).await;
    serve.signal(Signal::TERM);
    wait_until(SOON, "it drains", async || holds(serve.log().contains("once more ends at once"), "no")).await;
    assert!(serve.exited().is_none());
    gate.open();
    for reply in waiting {
        let reply = reply.await.unwrap().unwrap();
        assert_eq!(reply.status, 200, "{reply}");
    }
    assert_eq!(serve.wait(SOON).await, 0);
    lab.until_empty().await;
}

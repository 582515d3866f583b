//! Without the terminal it was started from.

use rustix::process::Signal;

use crate::support::{Call, Lab, SOON, holds, kill, wait_until};

#[tokio::test]
async fn a_closed_standard_error_ends_nothing() {
    let lab = Lab::new();
    let mut serve = lab.services(&[&lab.app("iris"), &lab.app("other")]).serve().start().await;
    serve.stop_reading();
    // Each of these logs: the first line is the last that anybody reads, and all after it cannot be written.
    assert_eq!(serve.get("iris", "/").await.status, 200);
    wait_until(SOON, "nobody reads standard error", async || holds(serve.is_deaf(), "open")).await;
    serve.wait_zero(&lab, "iris").await;
    assert_eq!(serve.get("iris", "/").await.status, 200, "it wakes once more");
    let wake =
        Call::post("localhost", "/api/services/default/other/wake", "").send(serve.admin).await.unwrap();
    assert!((200..300).contains(&wake.status), "{wake}");
    serve.wait_service("other", "woken by hand", |s| s["state"] == "ready").await;
    for replica in lab.replicas() {
        kill(replica.pid, Signal::KILL);
    }
    // A death is logged too.
    wait_until(SOON, "it answers after the death", async || match serve.get("iris", "/").await {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply),
    })
    .await;
    assert_eq!(serve.terminate().await, 0);
    lab.until_empty().await;
}

#[tokio::test]
async fn a_closed_terminal_and_quit_leave_no_process() {
    for signal in [Signal::HUP, Signal::QUIT] {
        let lab = Lab::new();
        let gate = lab.gate("end");
        let mut serve = lab.services(&[&lab.app("iris").args(["--child"])]).serve().start().await;
        let held = serve.send(Call::get("iris.default.localhost", &format!("/hold?file={gate}")).id("held"));
        wait_until(SOON, "one is in flight", async || holds(lab.reached("iris", "held"), "no")).await;
        serve.signal(signal);
        wait_until(SOON, "it drains", async || holds(serve.log().contains("once more ends at once"), "no"))
            .await;
        gate.open();
        assert_eq!(held.await.unwrap().unwrap().status, 200, "{signal:?} lets what is in flight finish");
        assert_eq!(serve.wait(SOON).await, 0);
        lab.until_empty().await;
    }
}

#[tokio::test]
async fn under_nohup_a_closed_terminal_is_nothing() {
    let lab = Lab::new();
    let mut serve = lab.services(&[&lab.app("iris")]).serve().after("trap '' HUP").start().await;
    serve.signal(Signal::HUP);
    // A signal that was taken would be seen before the request that comes after it.
    assert_eq!(serve.get("iris", "/").await.status, 200);
    serve.signal(Signal::HUP);
    serve.wait_zero(&lab, "iris").await;
    assert_eq!(serve.admin("/readyz").await.status, 200);
    assert_eq!(serve.get("iris", "/").await.status, 200);
    assert!(!serve.log().contains("SIGHUP"), "it was ignored: {}", serve.log());
    assert_eq!(serve.terminate().await, 0);
}

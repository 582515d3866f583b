//! Sent to sleep by hand.

use std::time::Duration;

use crate::support::{Call, LONG, Lab, Load, Reply, SOON, Serve, holds, host, wait_until};

async fn sleep(serve: &Serve) -> Reply {
    let call = Call::post("localhost", "/api/services/default/iris/sleep", "");
    call.send(serve.admin).await.unwrap()
}

#[tokio::test]
async fn load_that_was_does_not_bring_it_back() {
    let lab = Lab::new();
    // It takes its 10 s to be killed: decisions go on meanwhile.
    let iris = lab.app("iris").max(1).args(["--ignore-sigterm"]);
    let serve = lab.services(&[&iris]).serve().start().await;
    let load = Load::start(serve.traffic, &host("iris"), "/", 4);
    serve
        .wait_service("iris", "load is seen", |s| s["last_decision"]["inputs"]["stable"].as_f64() > Some(0.5))
        .await;
    load.stop().await;
    wait_until(SOON, "it goes to sleep", async || {
        let slept = sleep(&serve).await;
        if slept.status < 300 { Ok(()) } else { Err(slept) }
    })
    .await;
    serve.wait_zero(&lab, "iris").await;
    assert_eq!(lab.events("iris", "boot").len(), 1, "{}", serve.log());
    assert_eq!(serve.log().matches("\"waking").count(), 1, "{}", serve.log());
    assert_eq!(serve.get("iris", "/").await.status, 200, "it sleeps, it is not off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_at_the_moment_of_sleep_is_answered() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris").limit(1).max(2)]).serve().start().await;
    assert_eq!(serve.get("iris", "/").await.status, 200);
    let mut slept = 0;
    for round in 0..300_u32 {
        let pause = Duration::from_micros(u64::from(round % 16) * 100);
        let traffic = serve.traffic;
        let calls: Vec<_> = (0..=round % 3)
            .map(|_| {
                tokio::spawn(async move {
                    // Not a wait for something: the moment to hit is different in each round.
                    tokio::time::sleep(pause).await;
                    Call::get(&host("iris"), "/").send(traffic).await
                })
            })
            .collect();
        slept += u32::from(sleep(&serve).await.status < 300);
        for call in calls {
            let reply = tokio::time::timeout(SOON, call).await;
            let reply = reply.unwrap_or_else(|_| panic!("round {round}: waits for ever")).unwrap().unwrap();
            assert_eq!(reply.status, 200, "round {round}: {reply}");
        }
    }
    assert!(slept > 30, "it has to be sent to sleep: {slept} times");
    eprintln!("slept {slept} of 300 times, {} starts", lab.events("iris", "boot").len());
    serve.wait_service("iris", "nothing is left over", |s| s["in_flight"] == 0 && s["queued"] == 0).await;
    wait_until(LONG, "every process of old is gone", async || {
        let all = lab.replicas();
        holds(all.len() <= 2, format!("{all:?}"))
    })
    .await;
}

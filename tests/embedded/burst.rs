//! Zero, a burst, zero again; and the ways up and down between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Call, LONG, Lab, Load, SOON, host, tally, wait_until};

/// The most replicas ever seen, by looking at processes, not by asking pilotlight.
async fn most_replicas(lab: Arc<Lab>, stop: Arc<AtomicBool>, most: Arc<AtomicUsize>) {
    while !stop.load(Ordering::Relaxed) {
        most.fetch_max(lab.replicas().len(), Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn two_hundred_at_once_at_zero() {
    let lab = Arc::new(Lab::new());
    let iris = lab.app("iris").limit(1).max(4).args(["--delay", "20", "--limit", "1"]);
    let serve = lab.services(&[&iris]).serve().start().await;
    assert_eq!(serve.service("iris").await["state"], "zero");
    let (stop, most) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let watch = tokio::spawn(most_replicas(lab.clone(), stop.clone(), most.clone()));
    let calls: Vec<_> =
        (0..200).map(|i| serve.send(Call::get(&host("iris"), "/").id(&i.to_string()))).collect();
    for call in calls {
        let reply = call.await.unwrap().unwrap();
        assert_eq!(reply.status, 200, "{reply}");
    }
    stop.store(true, Ordering::Relaxed);
    watch.await.unwrap();
    let records = lab.records("iris");
    assert_eq!(records.iter().filter(|r| r.is("request")).count(), 200);
    assert_eq!(records.iter().filter(|r| r.is("violation")).count(), 0, "one in flight at most");
    let boots = records.iter().filter(|r| r.is("boot")).count();
    assert!(
        (2..=4).contains(&boots) && most.load(Ordering::Relaxed) <= 4,
        "{boots} starts, {most:?} at once"
    );
    serve.wait_zero(&lab, "iris").await;
}

#[tokio::test]
async fn one_then_many_then_zero_under_load() {
    let lab = Lab::new();
    let iris =
        lab.app("iris").limit(4).max(4).set("scaling.target", 2).args(["--delay", "20", "--limit", "4"]);
    let serve = lab.services(&[&iris]).serve().start().await;
    let light = Load::start(serve.traffic, &host("iris"), "/", 1);
    serve.wait_service("iris", "one replica is ready", |s| s["state"] == "ready" && ready(s) == 1).await;
    let enough = light.answered() + 20;
    wait_until(SOON, "light load flows", async || {
        if light.answered() > enough { Ok(()) } else { Err(light.answered()) }
    })
    .await;
    assert_eq!(lab.replicas().len(), 1, "light load needs one replica");
    let heavy = Load::start(serve.traffic, &host("iris"), "/", 16);
    let many = serve.wait_service("iris", "four replicas are ready", |s| ready(s) == 4).await;
    assert!(many["last_decision"]["desired"] == 4 && many["last_decision"]["reason"].is_string(), "{many}");
    let outcomes = [heavy.stop().await, light.stop().await].concat();
    assert_eq!(tally(&outcomes).into_iter().collect::<Vec<_>>(), [("200".to_owned(), outcomes.len())]);
    assert_eq!(lab.events("iris", "violation").len(), 0);
    serve.wait_zero(&lab, "iris").await;
    // And it wakes again.
    assert_eq!(serve.get("iris", "/").await.status, 200);
}

#[tokio::test]
async fn min_starts_without_a_request_and_stays() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris").set("scaling.min", 1)]).serve().start().await;
    let state = serve.wait_service("iris", "ready", |s| ready(s) == 1 && s["state"] == "ready").await;
    let pid = state["replicas"][0]["pid"].as_u64().unwrap();
    let reply = serve.get("iris", "/").await;
    assert_eq!(reply.json()["pid"], pid);
    assert_eq!(reply.header("server-timing"), "", "nothing was waited for");
    // A neighbour that does go to zero shows that time enough went by for this one.
    lab.services(&[&lab.app("iris").set("scaling.min", 1), &lab.app("other")]);
    wait_until(SOON, "the neighbour answers", async || {
        let reply = serve.get("other", "/").await;
        if reply.status == 200 { Ok(()) } else { Err(reply) }
    })
    .await;
    serve.wait_service("other", "at zero", |s| s["state"] == "zero").await;
    wait_until(LONG, "only the one is left", async || match lab.replicas()[..] {
        [ref one] if u64::from(one.pid) == pid => Ok(()),
        ref all => Err(format!("{all:?}")),
    })
    .await;
}

/// Replicas of which the admin API says that they are ready.
fn ready(service: &serde_json::Value) -> usize {
    service["replicas"].as_array().unwrap().iter().filter(|r| r["phase"] == "ready").count()
}

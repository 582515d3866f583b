//! New specs and old replicas, when starts fail.

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    LONG, Lab, Load, Reply, SOON, Serve, Yaml, holds, host, kill, tally, testapp_path, wait_until,
};

fn version(lab: &Lab, version: &str) -> Yaml {
    let iris = lab.app("iris").limit(4).max(2).set("scaling.min", 1);
    iris.set("process.env", json!({ "TESTAPP_VERSION": version }))
}

async fn until_version(serve: &Serve, version: &str) -> Reply {
    wait_until(LONG, format!("answers as version {version}"), async || {
        let reply = serve.get("iris", "/").await;
        if reply.status == 200 && reply.json()["version"] == version { Ok(reply) } else { Err(reply) }
    })
    .await
}

async fn until_log(serve: &Serve, text: &str) {
    wait_until(LONG, format!("it says {text:?}"), async || holds(serve.log().contains(text), serve.log()))
        .await;
}

/// Nothing but 200, and 502 for at most `lost` that were in flight at a death.
#[track_caller]
fn unharmed(outcomes: &[crate::support::Outcome], lost: usize) {
    let bad: Vec<_> = outcomes.iter().filter(|o| o.status != Ok(200)).collect();
    let broken = bad.iter().filter(|o| o.status == Ok(502)).count();
    let some: Vec<_> = bad.iter().take(5).collect();
    assert!(bad.len() == broken && broken <= lost, "{:?}, such as {some:?}", tally(outcomes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_replica_is_replaced_at_once_although_scale_ups_fail() {
    let lab = Lab::new();
    let run = format!("if [ -e {} ]; then exit 9; fi; exec \"$0\" \"$@\"", lab.text_path("broken"));
    let app = testapp_path().to_str().unwrap();
    let record = lab.text_path("iris.jsonl");
    let iris = lab.app("iris").limit(1).max(3).set("scaling.target", 1);
    let iris = iris.command(&["sh", "-c", &run, app, "--port", "$(PORT)", "--record", &record]);
    let serve = lab.services(&[&iris]).serve().start().await;
    let pid = serve.get("iris", "/").await.json()["pid"].as_u64().unwrap();
    std::fs::write(lab.path("broken"), "").unwrap();
    let held = serve.send(crate::support::Call::get(&host("iris"), "/hang"));
    let waiting: Vec<_> = (0..4).map(|_| serve.send(crate::support::Call::get(&host("iris"), "/"))).collect();
    until_log(&serve, "cannot start (6 failed in a row); next attempt in 8").await;
    std::fs::remove_file(lab.path("broken")).unwrap();
    let killed = pilotlight::clock::now();
    kill(u32::try_from(pid).unwrap(), Signal::KILL);
    held.await.unwrap().unwrap().error(502, "iris");
    // Newcomers wait as those who already did: no old failure is theirs.
    for reply in [serve.get("iris", "/").await, serve.get("iris", "/").await] {
        assert_eq!(reply.status, 200, "{reply}");
    }
    for reply in waiting {
        let reply = reply.await.unwrap().unwrap();
        assert_eq!(reply.status, 200, "{reply}");
    }
    let took = killed.elapsed();
    assert!(took.as_secs() < 6, "{took:?}: the next start waited for the back-off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spec_that_cannot_start_does_not_end_what_runs() {
    let lab = Lab::new();
    // Slower than the bad one fails: who waits for it must not be told of the other.
    let good = version(&lab, "good").args(["--start-delay", "300"]);
    let serve = lab.services(&[&good]).serve().start().await;
    let first = until_version(&serve, "good").await.json()["pid"].as_u64().unwrap();
    let load = Load::start(serve.traffic, &host("iris"), "/sleep?ms=5", 2);
    lab.services(&[&version(&lab, "bad").args(["--fail-start", "9"])]);
    until_log(&serve, "failed in a row").await;
    assert_eq!(serve.get("iris", "/").await.json()["pid"], first, "the old one serves on");
    for round in 0..2 {
        let pid = serve.get("iris", "/").await.json()["pid"].as_u64().unwrap();
        kill(u32::try_from(pid).unwrap(), Signal::KILL);
        wait_until(SOON, format!("another one of the old spec, round {round}"), async || {
            let reply = serve.get("iris", "/").await;
            let other = reply.status == 200 && reply.json()["pid"] != pid;
            if other { Ok(()) } else { Err(reply) }
        })
        .await;
        assert_eq!(serve.get("iris", "/").await.json()["version"], "good");
    }
    lab.services(&[&version(&lab, "mended")]);
    until_version(&serve, "mended").await;
    wait_until(SOON, "the old ones are gone", async || {
        let all = lab.replicas();
        holds(all.len() == 1, format!("{all:?}"))
    })
    .await;
    unharmed(&load.stop().await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_quick_edits_end_in_the_last() {
    let lab = Lab::new();
    let never = lab.gate("never");
    let serve = lab.services(&[&version(&lab, "0")]).serve().start().await;
    until_version(&serve, "0").await;
    let load = Load::start(serve.traffic, &host("iris"), "/sleep?ms=5", 2);
    for round in 0..3 {
        let stuck = version(&lab, "stuck").args(["--start-gate", &never]);
        lab.services(&[&stuck]);
        if round > 0 {
            // Not only one after the other, but while the first one's replica starts.
            let boots = lab.events("iris", "boot").len();
            let started = async || holds(lab.events("iris", "boot").len() > boots, "not started");
            if round == 2 {
                wait_until(SOON, "the first edit's replica starts", started).await;
            }
        }
        let last = format!("last-{round}");
        lab.services(&[&version(&lab, &last)]);
        until_version(&serve, &last).await;
    }
    unharmed(&load.stop().await, 0);
    wait_until(SOON, "one replica is left", async || {
        let all = lab.replicas();
        holds(all.len() == 1, format!("{all:?}"))
    })
    .await;
    assert!(lab.events("iris", "done").iter().all(|r| r.complete == Some(true)), "no request was cut");
}

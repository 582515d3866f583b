//! How a run ends: by itself, by a limit, by Ctrl-C.

use rustix::process::{Pid, Signal, kill_process};

use crate::ran::{Running, run, start_run};
use crate::support::{LONG, Lab, testapp, wait_until};

fn interrupt(running: &Running) {
    let pid = Pid::from_raw(i32::try_from(running.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
}

async fn arrived(lab: &Lab, least: usize) {
    wait_until(LONG, format!("{least} requests at the app"), async || {
        let n = lab.events("app", "request").len();
        if n >= least { Ok(()) } else { Err(n) }
    })
    .await;
}

#[tokio::test]
async fn ctrl_c_ends_it_early_and_reports() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &["--record", &lab.text_path("app.jsonl")]).await;
    let url = format!("http://{addr}/");
    let running = start_run(&lab, &["--url", &url, "--rate", "50", "--duration", "10m"]);
    arrived(&lab, 20).await;
    interrupt(&running);
    let ran = running.end().await.checked().exits(130);
    assert_eq!(ran.run["finished"], "interrupted");
    assert!(ran.total()["ok"].as_u64() >= Some(20), "{}", ran.total());
    assert_eq!(ran.total()["failed"], 0);
    assert!(ran.stdout.contains("interrupted"), "{}", ran.stdout);
    assert!(ran.stderr.contains("nothing more is sent"), "{}", ran.stderr);
}

#[tokio::test]
async fn ctrl_c_twice_cuts_off_what_is_open() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &["--record", &lab.text_path("app.jsonl")]).await;
    let url = format!("http://{addr}/hang");
    let running = start_run(&lab, &["--url", &url, "--rate", "50", "--duration", "10m"]);
    arrived(&lab, 5).await;
    interrupt(&running);
    interrupt(&running);
    let ran = running.end().await.checked();
    // No request was answered, and that is said, too.
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert_eq!(ran.service()["codes"], serde_json::json!({ "cut off": ran.total()["sent"] }));
    assert_eq!(ran.run["finished"], "interrupted");
}

#[tokio::test]
async fn limits_end_it() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let services =
        format!("services: [{{name: a, url: 'http://{addr}/'}}, {{name: b, url: 'http://{addr}/'}}]");
    let of = |limits: &str, load: &str| {
        std::fs::write(lab.path("s.yaml"), format!("{services}\nlimits: {limits}\nload: {load}\n")).unwrap();
    };
    of("{requests: 25}", "[{burst: 100}]");
    let ran = run(&lab, &["s.yaml"]).await.exits(0);
    assert_eq!(
        (ran.run["finished"].clone(), ran.run["generator"]["sent"].clone()),
        ("limitReached".into(), 25.into())
    );

    of("{duration: 500ms}", "[{constant: 50, for: 5m}]");
    let ran = run(&lab, &["s.yaml"]).await.exits(0);
    assert_eq!(ran.run["finished"], "limitReached");
    let sent = ran.run["generator"]["sent"].as_u64().unwrap();
    assert!((1..1000).contains(&sent), "of 30,000: {sent}");
    assert!(ran.stderr.contains("limits.duration ends the run after 500ms"), "{}", ran.stderr);
}

#[tokio::test]
async fn own_loads_beside_the_shared_one() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let scenario = format!(
        "services:
  - {{name: a, url: 'http://{addr}/'}}
  - {{name: b, url: 'http://{addr}/', load: [{{name: own, burst: 7}}, {{pause: 100ms}}, {{burst: 2, warmUp: true}}]}}
load: [{{constant: 10, for: 500ms}}]\n"
    );
    std::fs::write(lab.path("s.yaml"), scenario).unwrap();
    let ran = run(&lab, &["s.yaml"]).await.exits(0);
    let phases = ran.run["phases"].as_array().unwrap();
    let names: Vec<_> = phases.iter().map(|p| (p["name"].as_str().unwrap(), p["service"].as_str())).collect();
    let expected =
        [("10/s", None), ("own", Some("b")), ("pause of 100ms", Some("b")), ("burst of 2", Some("b"))];
    assert_eq!(names, expected);
    let sent = |service: usize| {
        let phases = ran.run["services"][service]["phases"].as_array().unwrap();
        phases.iter().map(|p| p["sent"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((sent(0), sent(1)), (vec![5, 0, 0, 0], vec![0, 7, 0, 2]));
    assert_eq!(ran.run["services"][1]["total"]["sent"], 7);
}

#[tokio::test]
async fn several_threads_send_the_same() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let url = format!("http://{addr}/");
    let args = ["--url", &url, "--rate", "101", "--duration", "1s", "--threads", "3"];
    let ran = run(&lab, &args).await.exits(0);
    assert_eq!(ran.total()["ok"], 101);
}

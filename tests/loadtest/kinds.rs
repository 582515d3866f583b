//! Every kind of load and every protocol, with the scenarios that come with the program.

use crate::ran::{Ran, loadtest, run};
use crate::support::{Lab, testapp};

/// The built-in scenarios' names.
async fn names(lab: &Lab) -> Vec<String> {
    let list = loadtest(lab, &["scenarios"]).await.exits(0).stdout;
    list.lines().map(|line| line.split("  ").next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_scenario_that_comes_with_it_is_sound() {
    let lab = Lab::new();
    let names = names(&lab).await;
    assert_eq!(names.len(), 12);
    for name in names {
        let ran = loadtest(&lab, &["validate", &name]).await.exits(0);
        assert!(ran.stdout.starts_with(&format!("sound: {name}: ")), "{}", ran.stdout);
        // What is printed is a file that can be used.
        let text = loadtest(&lab, &["scenarios", &name]).await.exits(0).stdout;
        let file = lab.text_path(&format!("{name}.yaml"));
        std::fs::write(&file, text).unwrap();
        loadtest(&lab, &["validate", &file]).await.exits(0);
    }
}

/// Runs a built-in scenario against an app instead of its services.
async fn against_testapp(name: &str, app_args: &[&str], sets: &[&str]) -> Ran {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), app_args).await;
    let url = format!("http://{addr}");
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    run(&lab, &[&[name, "--url", &url], sets.as_slice()].concat()).await
}

#[tokio::test]
async fn constant_leaves_the_warm_up_out() {
    let sets =
        ["load[0].for=500ms", "load[1].for=1s", "services[0].thresholds.p99=60s", "load[1].constant=40"];
    let ran = against_testapp("constant", &[], &sets).await.exits(0);
    assert_eq!(ran.total()["sent"], 40);
    assert_eq!(ran.service()["phases"][0]["sent"], 10);
    assert_eq!(ran.run["phases"][0]["warm_up"], true);
    assert_eq!(ran.service()["codes"], serde_json::json!({"200": 40}));
    assert_eq!(ran.run["finished"], "complete");
    for shown in ["constant", "hello", "200 40", "pass"] {
        assert!(ran.stdout.contains(shown), "{shown}:\n{}", ran.stdout);
    }
}

#[tokio::test]
async fn steps_have_sums_of_their_own() {
    let sets = ["load[0].for=200ms", "load[1].steps.each=500ms", "load[1].spacing=even"];
    let ran =
        against_testapp("steps", &[], &[&sets[..], &["services[0].observe=null"]].concat()).await.exits(0);
    let sent: Vec<_> =
        ran.service()["phases"].as_array().unwrap().iter().map(|p| p["sent"].clone()).collect();
    assert_eq!(sent, [2, 10, 25, 50, 100]);
    assert_eq!(ran.run["phases"][4]["name"], "step, 200/s");
}

#[tokio::test]
async fn ramp_and_on_off_and_trace() {
    let none = "services[0].observe=null";
    let sets = ["load[0].for=1s", "load[1].for=100ms", "load[2].for=1s", none];
    let ran = against_testapp("ramp", &[], &sets).await.exits(0);
    assert_eq!(ran.total()["sent"], 220);

    let sets = ["load[0].onOff.on=250ms", "load[0].onOff.off=500ms", "load[0].for=1s", none];
    let ran = against_testapp("on-off", &[], &sets).await.exits(0);
    // On for 250 ms twice, at 20/s.
    assert_eq!(ran.total()["sent"], 10);

    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let url = format!("http://{addr}");
    let args = ["trace", "--url", &url, "--time-scale", "100", "--set", "load[0].for=1s", "--set", none];
    let ran = run(&lab, &args).await.exits(0);
    // As many as the file has in its first hundred seconds.
    let file = include_str!("../../loadtest/scenarios/arrivals.csv");
    assert!(file.lines().nth(3).unwrap().starts_with("2023-11-16 18:17:03.97"));
    let hundred = |line: &&str| (&line[11..] >= "18:17:03.9") && (&line[11..] < "18:18:43.9799600");
    assert_eq!(ran.total()["sent"], file.lines().skip(3).filter(hundred).count());
}

#[tokio::test]
async fn a_seed_gives_the_same_arrivals() {
    let mut seconds = Vec::new();
    for seed in ["seed=5", "seed=5", "seed=6"] {
        let sets = [seed, "load[0].for=100ms", "load[1].for=2s", "services[0].thresholds.p50=60s"];
        let ran = against_testapp("poisson", &[], &sets).await.exits(0);
        let sent = |s: &serde_json::Value| (s["at_s"].clone(), s["sent"].clone());
        seconds.push(ran.service()["seconds"].as_array().unwrap().iter().map(sent).collect::<Vec<_>>());
    }
    assert_eq!(seconds[0], seconds[1]);
    assert_ne!(seconds[0], seconds[2]);
}

#[tokio::test]
async fn h2c_shares_connections() {
    let sets = ["load[0].for=100ms", "load[1].for=1s", "services[0].path=/sleep?ms=50"];
    let ran = against_testapp("h2c", &[], &sets).await.exits(0);
    assert_eq!(ran.service()["protocol"], "h2c");
    assert_eq!(ran.total()["ok"], ran.total()["sent"]);
    assert!(ran.total()["sent"].as_u64() > Some(50));
}

#[tokio::test]
async fn grpc_counts_statuses() {
    let sets = ["load[0].for=500ms", "services[0].thresholds.p99=60s"];
    let ran = against_testapp("grpc", &[], &sets).await.exits(0);
    assert_eq!(ran.service()["codes"], serde_json::json!({"grpc 0": 50}));
    // A prefix of five bytes, a key, a length, and "iris": echoed.
    assert_eq!((ran.total()["bytes_out"].clone(), ran.total()["bytes_in"].clone()), (550.into(), 550.into()));
}

#[tokio::test]
async fn sse_counts_tokens() {
    let sets = [
        "load[0].for=1s",
        "services[0].thresholds.firstToken.p95=60s",
        "services[0].thresholds.tokensPerSecond=0",
    ];
    let ran = against_testapp("sse", &[], &sets).await.exits(0);
    let sent = ran.total()["sent"].as_u64().unwrap();
    assert_eq!(ran.total()["messages"], sent * 5);
    assert_eq!(ran.total()["first_token_ms"]["count"], sent);
    assert_eq!(ran.total()["token_gap_ms"]["count"], sent * 4);
    assert_eq!(ran.total()["tokens_per_s"]["count"], sent);
    // Four pauses of 20 ms: at least that.
    assert!(ran.total()["latency_ms"]["p50"].as_f64() >= Some(80.0), "{}", ran.total());
}

#[tokio::test]
async fn websockets_count_round_trips() {
    let sets =
        ["load[0].for=500ms", "services[0].websocket.every=1ms", "services[0].thresholds.roundTrip.p99=60s"];
    let ran = against_testapp("websocket", &[], &sets).await.exits(0);
    assert_eq!(ran.service()["codes"], serde_json::json!({"101": 10}));
    assert_eq!(ran.total()["messages"], 100);
    assert_eq!(ran.total()["round_trip_ms"]["count"], 100);
}

#[tokio::test]
async fn templates_bodies_and_headers_reach_the_app() {
    let lab = Lab::new();
    let record = lab.text_path("app.jsonl");
    let (_app, addr) = testapp(lab.dir(), &["--record", &record]).await;
    std::fs::write(lab.path("body.json"), r#"{"from": "a file"}"#).unwrap();
    let scenario = format!(
        "services:
  - name: \"s-{{{{index}}}}\"
    count: 2
    url: http://{addr}/echo/{{{{service}}}}/{{{{index}}}}
    headers: {{x-request-id: \"{{{{service}}}}/{{{{copy}}}}/{{{{index}}}}\"}}
    body: {{file: body.json}}
load: [{{burst: 2}}]\n"
    );
    std::fs::write(lab.path("s.yaml"), scenario).unwrap();
    let ran = run(&lab, &["s.yaml"]).await.exits(0);
    let mut seen: Vec<String> = lab.events("app", "request").iter().filter_map(|r| r.id.clone()).collect();
    seen.sort();
    assert_eq!(seen, ["s-0/0/0", "s-0/0/1", "s-1/1/0", "s-1/1/1"]);
    assert_eq!(ran.total()["bytes_out"], 2 * 18);
    assert_eq!(ran.run["scenario"], "s");
}

#[tokio::test]
async fn without_a_file() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let url = format!("http://{addr}/echo");
    let args = ["--url", &url, "--rate", "20", "--duration", "1s", "--body", "hello", "--poisson"];
    let ran = run(&lab, &args).await.exits(0);
    assert_eq!(ran.total()["bytes_in"], ran.total()["bytes_out"]);
    assert_eq!(ran.total()["bytes_out"].as_u64(), ran.total()["sent"].as_u64().map(|n| n * 5));
}

//! Thresholds and what the shell sees of them.

use crate::ran::{loadtest, run};
use crate::support::{Lab, testapp};

#[tokio::test]
async fn thresholds_decide_the_exit_code() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let scenario = |service: &str, all: &str| {
        let text = format!(
            "services: [{{name: iris, url: 'http://{addr}/sleep?ms=20', thresholds: {service}}}]
thresholds: {all}
load: [{{burst: 5}}]\n"
        );
        std::fs::write(lab.path("s.yaml"), text).unwrap();
    };
    scenario("{p99: 1m, errors: 0%, requests: 5}", "{max: 1m, perSecond: 0, late: {max: 1m}}");
    let ran = run(&lab, &["s.yaml"]).await.exits(0);
    assert_eq!(ran.run["thresholds"].as_array().unwrap().len(), 6);

    // It sleeps for 20 ms: this cannot hold. And no stream was there to measure.
    scenario("{p50: 10ms, requests: 6, errors: 0%}", "{firstToken: {p50: 1m}}");
    let ran = run(&lab, &["s.yaml", "--quiet"]).await.exits(1);
    assert_eq!(ran.stdout, "", "--quiet");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for what in ["iris p50", "iris requests", "all first token p50"] {
        assert!(lines.iter().any(|line| line.contains(what)), "{what}: {lines:?}");
    }
    assert!(ran.stderr.contains("nothing measured"), "{}", ran.stderr);
}

#[tokio::test]
async fn json_to_standard_output_is_alone_there() {
    let lab = Lab::new();
    let (_app, addr) = testapp(lab.dir(), &[]).await;
    let url = format!("http://{addr}/");
    let args = ["run", "--url", &url, "--rate", "10", "--duration", "500ms", "--json", "-"];
    let ran = loadtest(&lab, &args).await.exits(0);
    let run: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(run["services"][0]["total"]["sent"], 5);
}

//! What is left of a run is of use later: `report` and `compare`.

use crate::runner::{loadtest, run};
use crate::support::{Lab, testapp};

#[tokio::test]
async fn a_kept_run_is_shown_and_compared() {
    let lab = Lab::new();
    let (_app, address) = testapp(lab.dir(), &[]).await;
    let scenario = format!(
        "name: <b>kept</b>\nload:\n  - {{warmUp: true, for: 1s, constant: 20}}\n  - {{for: 2s, constant: 40}}\n\
         services:\n  - {{name: app, url: 'http://{address}/'}}\n"
    );
    let ran = run(&lab, "a", &scenario).await;
    assert_eq!(ran.code, 0, "{}", ran.log);
    assert_eq!(ran.run["services"][0]["total"]["ok"], 80, "{}", ran.log);
    // What was measured is what was measured: a millisecond is more than 2 µs and less than a minute.
    let p50 = ran.run["services"][0]["total"]["latency_ms"]["p50"].as_f64().unwrap();
    assert!(p50 > 0.01 && p50 < 60_000.0, "{p50}");

    // The table is the same as after the run.
    let (code, table) = loadtest(&lab, &["report", "a.json"]).await;
    assert_eq!(code, 0, "{table}");
    let lines: Vec<_> = table.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(lines.len() > 8 && lines.iter().all(|line| ran.log.contains(*line)), "{table}\n---\n{}", ran.log);
    let (code, log) = loadtest(&lab, &["report", "a.json", "--html", "again.html"]).await;
    assert_eq!((code, log.trim()), (0, ""));
    let page = |name: &str| std::fs::read_to_string(lab.path(name)).unwrap();
    assert_eq!(page("again.html"), page("a.html"));
    assert!(page("a.html").contains("&lt;b&gt;kept&lt;/b&gt;") && !page("a.html").contains("<b>kept"));

    let (code, log) = loadtest(&lab, &["compare", "a.json", "a.json", "--html", "c.html"]).await;
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains("Better: ") && !log.contains("Worse: ") && log.contains("p99"), "{log}");
    assert!(page("c.html").contains("Two runs compared"));
}

#[tokio::test]
async fn what_is_no_run_is_refused() {
    let lab = Lab::new();
    std::fs::write(lab.path("x.json"), "{\"version\": 99}").unwrap();
    for (args, expected) in [
        (&["report", "none.json"][..], "none.json: No such file"),
        (&["report", "x.json"], "form 99"),
        (&["compare", "x.json", "x.json"], "form 99"),
    ] {
        let (code, log) = loadtest(&lab, args).await;
        assert!(code == 64 && log.contains(expected), "{args:?}: {code} {log}");
    }
}

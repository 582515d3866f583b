//! What is left of a run is of use later.

use crate::ran::{loadtest, run};
use crate::support::{Lab, testapp};

#[tokio::test]
async fn a_kept_run_is_shown_again() {
    let lab = Lab::new();
    let (_app, address) = testapp(lab.dir(), &[]).await;
    let scenario = format!(
        "name: <b>kept</b>\nload:\n  - {{warmUp: true, for: 1s, constant: 20}}\n  - {{for: 2s, constant: 40}}\n\
         services:\n  - {{name: app, url: 'http://{address}/'}}\n"
    );
    std::fs::write(lab.path("a.yaml"), scenario).unwrap();
    let ran = run(&lab, &["a.yaml", "--html", "a.html"]).await.exits(0);
    assert_eq!(ran.total()["ok"], 80, "{}", ran.stdout);
    // What was measured is what was measured: a millisecond is more than 2 µs and less than a minute.
    let p50 = ran.total()["latency_ms"]["p50"].as_f64().unwrap();
    assert!(p50 > 0.01 && p50 < 60_000.0, "{p50}");
    std::fs::rename(lab.path("run.json"), lab.path("kept.json")).unwrap();

    let again = loadtest(&lab, &["report", "kept.json"]).await.exits(0);
    assert_eq!(again.stdout, ran.stdout);
    assert!(ran.stdout.contains("app  http1") && !ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
    let again = loadtest(&lab, &["report", "kept.json", "--html", "again.html"]).await.exits(0);
    assert_eq!(again.stdout, "");
    let page = |name: &str| std::fs::read_to_string(lab.path(name)).unwrap();
    assert_eq!(page("again.html"), page("a.html"));
    assert!(page("a.html").contains("&lt;b&gt;kept&lt;/b&gt;") && !page("a.html").contains("<b>kept"));

    let same = loadtest(&lab, &["compare", "kept.json", "kept.json"]).await.exits(0).stdout;
    assert!(!same.contains("Better: ") && !same.contains("Worse: ") && same.contains("p99"), "{same}");
}

#[tokio::test]
async fn what_is_no_run_is_refused() {
    let lab = Lab::new();
    std::fs::write(lab.path("x.json"), "{\"version\": 99}").unwrap();
    for (file, expected) in [("none.json", "none.json: No such file"), ("x.json", "form 99")] {
        let stderr = loadtest(&lab, &["report", file]).await.exits(64).stderr;
        assert!(stderr.contains(expected), "{stderr}");
    }
}

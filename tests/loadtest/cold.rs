//! Cold starts of `pilotlight serve`, as loadtest sees them.

use crate::ran::run;
use crate::support::Lab;

const BURST: &str = "
name: cold
services:
  - name: iris
    url: URL
    host: iris.default.localhost
    observe: {every: 50ms, pilotlight: {admin: ADMIN}}
    thresholds: {errors: 0%, start: {atLeast: 2}}
load:
  - repeat: 2
    load: [{waitForZero: 90s}, {burst: 30}]
";

const STORM: &str = "
services:
  - name: \"storm-{{index}}\"
    count: 4
    url: URL
    host: \"storm-{{index}}.default.localhost\"
    observe: {every: 100ms, pilotlight: {admin: ADMIN}}
    thresholds: {errors: 0%, start: {atLeast: 1}}
thresholds: {errors: 0%, start: {atLeast: 4}}
load:
  - waitForZero: 90s
  - {name: wake, burst: 3}
  - {name: awake, constant: 5, for: 1s}
";

/// Starts `serve` with these services, runs the scenario against it, and returns both.
async fn against_serve(lab: &Lab, services: &[&str], scenario: &str) -> crate::ran::Ran {
    let apps: Vec<_> = services.iter().map(|name| lab.app(name).limit(4).max(2)).collect();
    let serve = lab.services(&apps.iter().collect::<Vec<_>>()).serve().start().await;
    let (url, admin) = (format!("http://{}/", serve.traffic), format!("http://{}", serve.admin));
    let scenario = scenario.replace("URL", &url).replace("ADMIN", &format!("\"{admin}\""));
    std::fs::write(lab.path("scenario.yaml"), scenario).unwrap();
    run(lab, &["scenario.yaml", "--html", "report.html"]).await
}

#[tokio::test]
async fn bursts_at_zero_each_find_a_cold_start() {
    let lab = Lab::new();
    let ran = against_serve(&lab, &["iris"], BURST).await.exits(0);
    let service = ran.service();
    assert_eq!(ran.total()["ok"], 60);
    let starts = service["starts"].as_array().unwrap();
    assert_eq!(starts.len() as u64, service["starts_count"].as_u64().unwrap());
    assert!(
        starts.iter().all(|start| start["ready_ms"].is_f64() || start["start_ms"].is_f64()),
        "{starts:?}"
    );
    // Each burst found nothing running: it began after the wait before it was over, and has starts of its own.
    let phases = ran.run["phases"].as_array().unwrap();
    assert_eq!(phases.len(), 4);
    for burst in [1, 3] {
        let (from, to) = (phases[burst]["from_s"].as_f64().unwrap(), phases[burst]["to_s"].as_f64().unwrap());
        assert!(
            starts.iter().any(|s| (from - 0.001..=to).contains(&s["at_s"].as_f64().unwrap())),
            "{phases:?}"
        );
    }
    assert!(
        ran.run["generator"]["warnings"].as_array().unwrap().iter().all(|w| !w.to_string().contains("zero"))
    );
    // Replicas were seen, at zero and not.
    let ready: Vec<u64> =
        service["observed"].as_array().unwrap().iter().filter_map(|o| o["ready"].as_u64()).collect();
    assert!(ready.contains(&0) && ready.iter().any(|n| *n > 0), "{ready:?}");
    assert!(std::fs::read_to_string(lab.path("report.html")).unwrap().contains("<svg"));
}

#[tokio::test]
async fn a_wake_storm_wakes_every_service() {
    let lab = Lab::new();
    let names = ["storm-0", "storm-1", "storm-2", "storm-3"];
    let ran = against_serve(&lab, &names, STORM).await.exits(0);
    for (place, name) in names.iter().enumerate() {
        let service = &ran.run["services"][place];
        assert_eq!(service["name"], *name);
        assert_eq!(service["total"]["ok"], 8, "{service}");
        assert!(service["starts_count"].as_u64() >= Some(1));
        assert_eq!(lab.events(name, "request").len(), 8);
    }
    assert!(ran.run["thresholds"].as_array().unwrap().iter().all(|v| v["passed"] == true));
}

#[tokio::test]
async fn a_service_that_is_never_at_zero_is_told() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("iris").set("scaling.min", 1)]).serve().start().await;
    serve.wait_service("iris", "ready", |s| s["state"] == "ready").await;
    let scenario = BURST.replace("90s", "200ms").replace("atLeast: 2", "atLeast: 0");
    let (url, admin) = (format!("http://{}/", serve.traffic), format!("\"http://{}\"", serve.admin));
    let scenario = scenario.replace("URL", &url).replace("ADMIN", &admin);
    std::fs::write(lab.path("scenario.yaml"), scenario).unwrap();
    let ran = run(&lab, &["scenario.yaml"]).await.exits(0);
    let warnings = ran.run["generator"]["warnings"].to_string();
    assert!(warnings.contains("iris was not at zero in time"), "{warnings}");
    assert_eq!(ran.service()["starts_count"], 0);
}

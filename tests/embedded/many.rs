//! Many services that nobody uses.

use std::time::Duration;

use pilotlight::clock;

use crate::support::{Lab, cpu_time, host, rss_bytes};

#[tokio::test]
async fn three_hundred_at_zero_cost_little() {
    let lab = Lab::new();
    let services: Vec<_> = (0..300).map(|i| lab.app(&format!("service-{i}"))).collect();
    lab.services(&services.iter().collect::<Vec<_>>());
    let start = clock::now();
    let serve = lab.serve().start().await;
    let ready = start.elapsed();
    let cpu = cpu_time(serve.pid());
    // A span to measure over, not a wait for something.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (cpu, rss) = (cpu_time(serve.pid()).checked_sub(cpu).unwrap(), rss_bytes(serve.pid()));
    eprintln!("300 services: ready in {ready:?}, {} KiB, {cpu:?} CPU in 2 s idle", rss >> 10);
    assert!(rss < 60 << 20, "{rss} bytes");
    // Time is reported, not asserted; this only tells "idle" from "spinning".
    assert!(cpu < Duration::from_secs(1), "{cpu:?} CPU in 2 s idle");
    assert_eq!(lab.replicas(), []);
    assert_eq!(serve.api("/api/services").await.as_array().map(Vec::len), Some(300));
    let reply = serve.get("service-299", "/").await;
    assert_eq!(reply.json()["host"], host("service-299"));
    assert_eq!(lab.replicas().len(), 1);
}

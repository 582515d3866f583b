//! Many services that nobody uses.

use std::time::Duration;

use pilotlight::clock;

use crate::support::{Call, Lab, Reply, SOON, Wire, cpu_time, free_range, host, rss_bytes};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_at_rest_hold_no_place_of_a_connection() {
    let lab = Lab::new();
    let services: Vec<_> = (0..300).map(|i| lab.app(&format!("service-{i}"))).collect();
    lab.services(&services.iter().collect::<Vec<_>>());
    let serve = lab.serve().after("ulimit -n 600").service_port_range(free_range(300)).start().await;
    let mut wires = Vec::new();
    for i in 0..62 {
        let mut wire = Wire::open(serve.traffic, false).await.unwrap();
        let answer = tokio::time::timeout(SOON, wire.send(Call::get(&host("service-0"), "/"))).await;
        let reply = answer.unwrap_or_else(|_| panic!("connection {i} is not answered")).unwrap();
        assert_eq!(reply.status, 200, "connection {i}: {reply}");
        wires.push(wire);
    }
    // All of them are still open, and so is the way by a service's own port once one of them has gone.
    for wire in &mut wires {
        assert_eq!(wire.send(Call::get(&host("service-0"), "/")).await.unwrap().status, 200);
    }
}

/// From the request's arrival to its replica's process, in ms; 0 when it waited for no start.
fn start_ms(reply: &Reply) -> f64 {
    let timing = reply.header("server-timing");
    let start = timing.split(',').find_map(|part| part.trim().strip_prefix("start;dur="));
    start.map_or(0.0, |ms| ms.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_while_its_service_is_added_does_not_wait_for_a_decision() {
    let lab = Lab::new();
    let serve = lab.services(&[&lab.app("first")]).serve().start().await;
    let services: Vec<_> = (0..300).map(|i| lab.app(&format!("service-{i:03}"))).collect();
    // Those that are added last: routes are there before the control loop has heard of them.
    let eager: Vec<_> = (295..300)
        .map(|i| {
            let (traffic, host) = (serve.traffic, host(&format!("service-{i}")));
            tokio::spawn(async move {
                let mut wire = Wire::open(traffic, false).await.unwrap();
                // Without a pause: the moment to hit is short.
                let answered = async {
                    loop {
                        let reply = wire.send(Call::get(&host, "/")).await.unwrap();
                        if reply.status != 404 {
                            return reply;
                        }
                    }
                };
                tokio::time::timeout(SOON, answered).await.expect("its service is there")
            })
        })
        .collect();
    lab.services(&services.iter().collect::<Vec<_>>());
    for call in eager {
        let reply = call.await.unwrap();
        assert_eq!(reply.status, 200, "{reply}");
        // A decision comes 2 s after a service was first looked at.
        assert!(start_ms(&reply) < 1500.0, "the start waited: {reply}");
    }
}

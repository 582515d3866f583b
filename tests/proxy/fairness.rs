//! Tenants: turns in the line, and rates.

use tokio::task::JoinSet;

use crate::support::{Call, NAME, Reply, Setup, Way, WayBuilder, Wire, host, rss_bytes};

const TENANT: &str = "x-tenant";

fn by_tenant(setup: Setup) -> WayBuilder {
    Way::through(setup).set("limits.tenantHeader", "tenant-header", TENANT)
}

#[tokio::test]
async fn a_flood_neither_starves_nor_shuts_out_another_tenant() {
    for setup in Setup::ALL {
        let way = by_tenant(setup).limit(1).queue(20).start().await;
        let gate = way.lab.gate("end");
        let mut flood: JoinSet<(usize, Reply)> = JoinSet::new();
        let mut send = |n: usize| {
            let call = if n == 0 { way.get(&format!("/hold?file={gate}")) } else { way.get("/") };
            let call = call.header(TENANT, "flood").id(&format!("flood-{n}"));
            let to = way.traffic;
            flood.spawn(async move { (n, call.send(to).await.unwrap()) });
        };
        send(0);
        way.reached("flood-0").await;
        for n in 1..=30 {
            send(n);
        }
        // One at the app, twenty in line: while the gate is closed nothing else than a refusal can come.
        for _ in 0..10 {
            let (_, refused) = flood.join_next().await.unwrap().unwrap();
            refused.error(503, "");
            assert_eq!(refused.json()["error"]["code"], "overflow", "{way}: {refused}");
        }
        let mut quiet = JoinSet::new();
        for n in 1..=2 {
            let call = way.get("/").header(TENANT, "quiet").id(&format!("quiet-{n}"));
            quiet.spawn(call.send(way.traffic));
            // Each pushed the newest of the flood out of the full line.
            let (_, displaced) = flood.join_next().await.unwrap().unwrap();
            displaced.error(503, "");
        }
        gate.open();
        for reply in quiet.join_all().await {
            let reply = reply.unwrap();
            assert_eq!(reply.status, 200, "{way}: {reply}");
        }
        let rest = flood.join_all().await;
        assert_eq!(rest.len(), 19);
        assert!(rest.iter().all(|(_, reply)| reply.status == 200), "{way}");
        let arrived = way.arrived();
        let (_, after) = arrived.split_at(2); // "warm" and the one that held the slot
        let places: Vec<_> =
            (0..after.len()).filter(|at| after[*at].starts_with("quiet")).map(|at| at + 1).collect();
        assert!(places.len() == 2 && places[0] <= 2 && places[1] <= 4, "{way}: {places:?} of {after:?}");
        assert_eq!(after.len(), 20, "{way}: who was refused reached nothing: {after:?}");
    }
}

#[tokio::test]
async fn without_a_tenant_header_first_come_is_first_served() {
    for setup in Setup::ALL {
        let way = Way::through(setup).limit(1).queue(20).start().await;
        let gate = way.lab.gate("end");
        let mut calls = JoinSet::new();
        calls.spawn(way.get(&format!("/hold?file={gate}")).id("held").send(way.traffic));
        way.reached("held").await;
        let names: Vec<String> = (0..6).map(|n| format!("{n}")).collect();
        for (n, name) in (0..).zip(&names) {
            let tenant = if n < 5 { "flood" } else { "quiet" };
            calls.spawn(way.get("/").header(TENANT, tenant).id(name).send(way.traffic));
            way.queued(n + 1).await;
        }
        gate.open();
        assert!(calls.join_all().await.into_iter().all(|reply| reply.unwrap().status == 200));
        assert_eq!(way.arrived()[2..], names, "{way}");
    }
}

#[tokio::test]
async fn a_tenant_beyond_its_rate_gets_429_and_others_do_not() {
    for setup in Setup::ALL {
        let way =
            by_tenant(setup).set("limits.tenantRate", "tenant-rate", 0.001).set("limits.burst", "burst", 2);
        let way = way.start().await;
        for tenant in ["a", "b"] {
            for n in 1..=4 {
                let reply = way.get("/").header(TENANT, tenant).send(way.traffic).await.unwrap();
                assert_eq!(reply.status, if n <= 2 { 200 } else { 429 }, "{way} {tenant} {n}: {reply}");
                if n > 2 {
                    reply.error(429, "");
                    assert_eq!(reply.json()["error"]["code"], "tenant_rate_limit");
                    let seconds: u64 = reply.header("retry-after").parse().unwrap();
                    assert!((1..=1000).contains(&seconds), "{reply}");
                }
            }
            let refused = grpc().header(TENANT, tenant).send(way.traffic).await.unwrap();
            assert_eq!((refused.status, refused.header("grpc-status")), (200, "8"), "{way}: {refused}");
            assert!(!refused.header("retry-after").is_empty(), "{refused}");
        }
        assert_eq!(way.metric("pilotlight_refused_total{reason=\"tenant_rate_limit\"}").await, 6.0);
        assert_eq!(way.lab.events(NAME, "request").len(), 5);
    }
}

#[tokio::test]
async fn a_service_beyond_its_rate_answers_429() {
    for setup in Setup::ALL {
        let way = Way::through(setup).set("limits.rate", "rate", 0.001).set("limits.burst", "burst", 3);
        let way = way.start().await;
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(way.get("/").send(way.traffic).await.unwrap().status);
        }
        assert_eq!(seen, [200, 200, 429, 429, 429], "{way}");
        let refused = grpc().send(way.traffic).await.unwrap();
        assert_eq!(refused.header("grpc-status"), "8", "{way}: {refused}");
    }
}

#[tokio::test]
async fn made_up_tenants_cost_no_memory() {
    const FEW: usize = 2_000;
    let way = by_tenant(Setup::QueueProxy).set("limits.tenantRate", "tenant-rate", 1).start().await;
    let mut wire = Wire::open(way.traffic, false).await.unwrap();
    let long = "x".repeat(8_000);
    let mut rss = Vec::new();
    for n in 0..2 * FEW {
        let reply = wire.send(way.get("/").header(TENANT, &format!("{long}{n}"))).await.unwrap();
        assert_eq!(reply.status, 200);
        if n % FEW == FEW - 1 {
            rss.push(rss_bytes(way.pid()));
        }
    }
    // The names alone are 16 MB.
    assert!(rss[1] < rss[0] + (4 << 20), "{rss:?}");
}

fn grpc() -> Call {
    Call::post(&host(NAME), "/pkg.Service/Method", &b"\0\0\0\0\0"[..])
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .h2()
}

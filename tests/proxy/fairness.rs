//! Tenants: turns in the line, and rates.

use serde_json::json;
use tokio::task::JoinSet;

use crate::hop::{ALL, Hop, Kind, Setup};
use crate::support::{Call, Lab, Reply, SOON, holds, host, wait_until};

const TENANT: &str = "x-tenant";

fn by_tenant() -> Setup {
    let spec = [("limits.tenantHeader", json!(TENANT))];
    Setup { limit: 1, queue: 20, ..Setup::default() }.set(&["--tenant-header", TENANT], &spec)
}

#[tokio::test]
async fn a_flood_neither_starves_nor_shuts_out_another_tenant() {
    for kind in ALL {
        let lab = Lab::new();
        let gate = lab.gate("end");
        let hop = Hop::start(kind, lab, &by_tenant(), true).await;
        let mut flood: JoinSet<(usize, Reply)> = JoinSet::new();
        let mut send = |hop: &Hop, n: usize| {
            let call = if n == 0 { hop.get(&format!("/hold?file={gate}")) } else { hop.get("/") };
            let call = call.header(TENANT, "flood").id(&format!("flood-{n}"));
            let to = hop.traffic;
            flood.spawn(async move { (n, call.send(to).await.unwrap()) });
        };
        send(&hop, 0);
        wait_until(SOON, "the slot is taken", async || holds(hop.lab.reached("app", "flood-0"), "no")).await;
        for n in 1..=30 {
            send(&hop, n);
        }
        // One at the app, twenty in line: while the gate is closed nothing else than a refusal can come.
        for _ in 0..10 {
            let (_, refused) = flood.join_next().await.unwrap().unwrap();
            refused.error(503, "");
            assert_eq!(refused.json()["error"]["code"], "overflow", "{kind:?}: {refused}");
        }
        let mut quiet = JoinSet::new();
        for n in 1..=2 {
            let call = hop.get("/").header(TENANT, "quiet").id(&format!("quiet-{n}"));
            quiet.spawn(call.send(hop.traffic));
            // Each pushed the newest of the flood out of the full line.
            let (_, displaced) = flood.join_next().await.unwrap().unwrap();
            displaced.error(503, "");
        }
        gate.open();
        for reply in quiet.join_all().await {
            let reply = reply.unwrap();
            assert_eq!(reply.status, 200, "{kind:?}: {reply}");
        }
        let rest = flood.join_all().await;
        assert_eq!(rest.len(), 19);
        assert!(rest.iter().all(|(_, reply)| reply.status == 200), "{kind:?}");
        let reached = hop.reached();
        let (_, after) = reached.split_at(2); // "first" and the one that held the slot
        let places: Vec<_> =
            (0..after.len()).filter(|at| after[*at].starts_with("quiet")).map(|at| at + 1).collect();
        assert!(places.len() == 2 && places[0] <= 2 && places[1] <= 4, "{kind:?}: {places:?} of {after:?}");
        assert_eq!(after.len(), 20, "{kind:?}: who was refused reached nothing: {after:?}");
    }
}

#[tokio::test]
async fn without_a_tenant_header_first_come_is_first_served() {
    for kind in ALL {
        let lab = Lab::new();
        let gate = lab.gate("end");
        let hop = Hop::start(kind, lab, &Setup { limit: 1, queue: 20, ..Setup::default() }, true).await;
        let mut calls = JoinSet::new();
        calls.spawn(hop.get(&format!("/hold?file={gate}")).id("held").send(hop.traffic));
        wait_until(SOON, "the slot is taken", async || holds(hop.lab.reached("app", "held"), "no")).await;
        let names: Vec<String> = (0..6).map(|n| format!("{n}")).collect();
        for (n, name) in names.iter().enumerate() {
            let tenant = if n < 5 { "flood" } else { "quiet" };
            calls.spawn(hop.get("/").header(TENANT, tenant).id(name).send(hop.traffic));
            let waiting = (n + 1) as f64;
            hop.until_metric("pilotlight_service_queued", "counts it", |queued| queued == waiting).await;
        }
        gate.open();
        assert!(calls.join_all().await.into_iter().all(|reply| reply.unwrap().status == 200));
        assert_eq!(hop.reached()[2..], names, "{kind:?}");
    }
}

#[tokio::test]
async fn a_tenant_beyond_its_rate_gets_429_and_others_do_not() {
    for kind in [Kind::QueueProxy, Kind::Activator] {
        let spec = [
            ("limits.tenantHeader", json!(TENANT)),
            ("limits.tenantRate", json!(0.001)),
            ("limits.burst", json!(2)),
        ];
        let flags = ["--tenant-header", TENANT, "--tenant-rate", "0.001", "--burst", "2"];
        let setup = Setup { limit: 0, queue: 20, ..Setup::default() }.set(&flags, &spec);
        let hop = Hop::start(kind, Lab::new(), &setup, true).await;
        for tenant in ["a", "b"] {
            for n in 1..=4 {
                let reply = hop.send(hop.get("/").header(TENANT, tenant)).await;
                assert_eq!(reply.status, if n <= 2 { 200 } else { 429 }, "{kind:?} {tenant} {n}: {reply}");
                if n > 2 {
                    reply.error(429, "");
                    assert_eq!(reply.json()["error"]["code"], "tenant_rate_limit");
                    let seconds: u64 = reply.header("retry-after").parse().unwrap();
                    assert!((1..=1000).contains(&seconds), "{reply}");
                }
            }
            let refused = grpc().header(TENANT, tenant).send(hop.traffic).await.unwrap();
            assert_eq!((refused.status, refused.header("grpc-status")), (200, "8"), "{kind:?}: {refused}");
            assert!(!refused.header("retry-after").is_empty(), "{refused}");
        }
        assert_eq!(hop.metric("pilotlight_refused_total{reason=\"tenant_rate_limit\"}").await, 6.0);
        assert_eq!(hop.lab.events("app", "request").len(), 5);
    }
}

#[tokio::test]
async fn a_service_beyond_its_rate_answers_429() {
    for kind in [Kind::QueueProxy, Kind::Activator] {
        let spec = [("limits.rate", json!(0.001)), ("limits.burst", json!(3))];
        let setup = Setup { limit: 0, queue: 20, ..Setup::default() }
            .set(&["--rate", "0.001", "--burst", "3"], &spec);
        let hop = Hop::start(kind, Lab::new(), &setup, true).await;
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(hop.send(hop.get("/")).await.status);
        }
        assert_eq!(seen, [200, 200, 429, 429, 429], "{kind:?}");
        let refused = grpc().send(hop.traffic).await.unwrap();
        assert_eq!(refused.header("grpc-status"), "8", "{kind:?}: {refused}");
    }
}

#[tokio::test]
async fn made_up_tenants_cost_no_memory() {
    const FEW: usize = 2_000;
    let spec = [("limits.tenantHeader", json!(TENANT)), ("limits.tenantRate", json!(1))];
    let flags = ["--tenant-header", TENANT, "--tenant-rate", "1"];
    let setup = Setup { limit: 0, queue: 20, ..Setup::default() }.set(&flags, &spec);
    let hop = Hop::start(Kind::QueueProxy, Lab::new(), &setup, true).await;
    let mut wire = crate::support::Wire::open(hop.traffic, false).await.unwrap();
    let long = "x".repeat(8_000);
    let mut rss = Vec::new();
    for n in 0..2 * FEW {
        let reply = wire.send(hop.get("/").header(TENANT, &format!("{long}{n}"))).await.unwrap();
        assert_eq!(reply.status, 200);
        if n % FEW == FEW - 1 {
            rss.push(crate::support::rss_bytes(hop.pid));
        }
    }
    // The names alone are 16 MB.
    assert!(rss[1] < rss[0] + (4 << 20), "{rss:?}");
}

fn grpc() -> Call {
    Call::post(&host("app"), "/pkg.Service/Method", &b"\0\0\0\0\0"[..])
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .h2()
}

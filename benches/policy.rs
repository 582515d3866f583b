//! The parts of a request and of a decision that are ours alone, without I/O: `cargo bench --bench policy`.
#![allow(clippy::unwrap_used, reason = "a bench panics with the place")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use pilotlight::activator::route::Routes;
use pilotlight::activator::service::Service;
use pilotlight::activator::wake::Wakeups;
use pilotlight::clock;
use pilotlight::config::load::{self, Loaded};
use pilotlight::config::spec::Aggregation;
use pilotlight::policy::dispatch::Dispatch;
use pilotlight::policy::line::Tenant;
use pilotlight::policy::{Decider, Knobs, Observation, Window};
use pilotlight::proxy::breaker::Breaker;

const SERVICES: usize = 10_000;

/// Every request takes a slot and gives it back.
fn breaker(c: &mut Criterion) {
    for (limit, replicas) in [(0, 1), (32, 1), (4, 10), (4, 1000), (0, 1000)] {
        let breaker: Breaker<Arc<u64>, &str> = Breaker::new(limit, 100, 1);
        (0..replicas).for_each(|id| breaker.join(id, Arc::new(id)));
        c.bench_function(&format!("breaker/acquire_release/limit_{limit}/replicas_{replicas}"), |b| {
            b.iter(|| black_box(breaker.try_acquire().unwrap()));
        });
    }
    // One that has to wait: joins the line, and is handed the slot that another gives back.
    let breaker: Breaker<Arc<u64>, &str> = Breaker::new(1, 100, 1);
    breaker.join(1, Arc::new(1));
    c.bench_function("breaker/wait_for_slot", |b| {
        b.iter(|| {
            let first = breaker.try_acquire().unwrap();
            let waiting = breaker.acquire(Tenant::NONE).unwrap();
            drop(first);
            drop(black_box(waiting));
        });
    });
}

/// Which replica: with a limit all are looked at, without one two are.
fn dispatch(c: &mut Criterion) {
    for limit in [0, 4] {
        for replicas in [10u64, 1000] {
            let mut dispatch: Dispatch<(), u64> = Dispatch::new(limit, 100);
            (0..replicas).for_each(|id| assert!(dispatch.join(id, id, None).is_none()));
            // Half of the slots of a limit of 4 are taken.
            for n in 0..replicas * 2 {
                dispatch.try_take(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).unwrap();
            }
            for id in 0..replicas {
                dispatch.answered(id, Duration::from_micros(100 + id));
            }
            let mut random = 1u64;
            c.bench_function(&format!("dispatch/take_release/limit_{limit}/replicas_{replicas}"), |b| {
                b.iter(|| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let taken = dispatch.try_take(random).unwrap();
                    dispatch.release(black_box(taken).replica)
                });
            });
        }
    }
}

/// Once a second for each service that is awake.
fn windows(c: &mut Criterion) {
    let epoch = clock::now();
    for (name, aggregation) in
        [("linear", Aggregation::Linear), ("exponential", Aggregation::WeightedExponential)]
    {
        let mut window = Window::new(epoch, Duration::from_mins(1), aggregation);
        let mut seconds = 0;
        c.bench_function(&format!("window/record/{name}"), |b| {
            b.iter(|| {
                seconds += 1;
                window.record(epoch + Duration::from_secs(seconds), black_box(3.5));
            });
        });
        let now = epoch + Duration::from_secs(seconds);
        c.bench_function(&format!("window/average/{name}"), |b| {
            b.iter(|| window.average(black_box(now)));
        });
    }
}

/// Every 2 s for each service that is awake.
fn decide(c: &mut Criterion) {
    let loaded = load_services(1);
    let epoch = clock::now();
    let mut decider = Decider::new(epoch, Knobs::from(&loaded.services[0].scaling), epoch, 1);
    let mut now = epoch;
    let mut load = 0.0;
    c.bench_function("decider/decide", |b| {
        b.iter(|| {
            now += Duration::from_secs(2);
            load = (load + 0.37) % 40.0;
            decider.decide(now, &Observation { stable: Some(load), panic: Some(load * 1.5), ready: 7 })
        });
    });
}

/// From the `Host` of a request to its service; and how the routes come to be.
fn routing(c: &mut Criterion) {
    c.bench_function("config/load_10000_services", |b| b.iter_with_large_drop(|| load_services(SERVICES)));
    let wakeups = Arc::new(Wakeups::default());
    let specs = load_services(SERVICES).services.into_iter().map(Arc::new);
    let services: Vec<_> = specs.map(|spec| Arc::new(Service::new(spec, wakeups.clone(), 1))).collect();
    c.bench_function("routes/build_10000_services", |b| {
        b.iter_batched(|| services.clone(), Routes::new, BatchSize::LargeInput);
    });
    let routes = Routes::new(services);
    let hosts: Vec<String> = (0..SERVICES).map(|i| format!("service-{i}.default.localhost:8080")).collect();
    let mut at = 0;
    c.bench_function("routes/by_host/of_10000", |b| {
        b.iter(|| {
            // A stride that is prime to the number: every one in turn, none beside the last.
            at = (at + 7919) % SERVICES;
            routes.by_host(black_box(&hosts[at])).unwrap()
        });
    });
}

/// Through the same files as users': a spec is not made by hand.
fn load_services(count: usize) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for i in 0..count {
        let _ = write!(
            text,
            "---\napiVersion: pilotlight.dev/v1alpha1\nkind: ScaledService\nmetadata: {{name: service-{i}}}\n\
             spec:\n  process: {{command: [sleep, infinity]}}\n"
        );
    }
    let file = dir.path().join("services.yaml");
    std::fs::write(&file, text).unwrap();
    load::load(&[file]).unwrap()
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = breaker, dispatch, windows, decide, routing
}
criterion_main!(benches);

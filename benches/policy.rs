//! The parts of a request and of a decision that are ours alone, without I/O: `cargo bench --bench policy`.
//!
//! A name after `--` picks some: `cargo bench --bench policy -- routes`. What one call costs is printed as calls per
//! second too; `-- --save-baseline before`, then `-- --baseline before` compare two states of the code.
#![allow(clippy::unwrap_used, reason = "a bench panics with the place")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use common::path::{POST, services};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pilotlight::activator::route::Routes;
use pilotlight::activator::service::Service;
use pilotlight::activator::wake::Wakeups;
use pilotlight::clock;
use pilotlight::config::spec::Aggregation;
use pilotlight::policy::dispatch::Dispatch;
use pilotlight::policy::line::Tenant;
use pilotlight::policy::{Decider, Knobs, Observation, Window};
use pilotlight::proxy::breaker::Breaker;
use pilotlight::proxy::framing::Framing;
use pilotlight::stat::Meter;

const SERVICES: usize = 10_000;

/// Every request takes a slot and gives it back.
fn breaker(c: &mut Criterion) {
    let mut group = c.benchmark_group("breaker");
    group.throughput(Throughput::Elements(1));
    for (limit, replicas) in [(0, 1), (32, 1), (4, 10), (4, 1000), (0, 1000)] {
        let breaker: Breaker<Arc<u64>, &str> = Breaker::new(limit, 100, 1);
        (0..replicas).for_each(|id| breaker.join(id, Arc::new(id)));
        let id = BenchmarkId::new("acquire_release", format!("limit_{limit}/replicas_{replicas}"));
        group.bench_function(id, |b| b.iter(|| black_box(breaker.try_acquire().unwrap())));
    }
    // One that has to wait: joins the line, and is handed the slot that another gives back.
    let breaker: Breaker<Arc<u64>, &str> = Breaker::new(1, 100, 1);
    breaker.join(1, Arc::new(1));
    group.bench_function("wait_for_slot", |b| {
        b.iter(|| {
            let first = breaker.try_acquire().unwrap();
            let waiting = breaker.acquire(Tenant::NONE).unwrap();
            drop(first);
            drop(black_box(waiting));
        });
    });
    // One that gives up, in a line where a thousand tenants wait already.
    let breaker: Breaker<Arc<u64>, &str> = Breaker::new(1, 10_000, 1);
    let line: Vec<_> = (1..=1000).map(|tenant| breaker.acquire(Tenant::of(tenant)).unwrap()).collect();
    group.bench_function("join_and_leave/behind_1000_tenants", |b| {
        b.iter(|| drop(black_box(breaker.acquire(Tenant::of(7)).unwrap())));
    });
    drop(line);
}

/// Which replica: with a limit all are looked at, without one two are.
fn dispatch(c: &mut Criterion) {
    let mut group = c.benchmark_group("dispatch");
    group.throughput(Throughput::Elements(1));
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
            let id = BenchmarkId::new("take_release", format!("limit_{limit}/replicas_{replicas}"));
            group.bench_function(id, |b| {
                b.iter(|| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let taken = dispatch.try_take(random).unwrap();
                    dispatch.release(black_box(taken).replica)
                });
            });
        }
    }
}

/// Of every request: counted while it lasts, and its head watched on the way in.
fn request(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    let meter = Arc::new(Meter::new(clock::now()));
    let mut now = clock::now();
    group.throughput(Throughput::Elements(1));
    group.bench_function("meter", |b| {
        b.iter(|| {
            now += Duration::from_micros(20);
            drop(black_box(meter.enter(now)));
        });
    });
    group.throughput(Throughput::Bytes(POST.len() as u64));
    let mut framing = Framing::default();
    group.bench_function("framing", |b| b.iter(|| framing.read(black_box(POST.as_bytes())).unwrap()));
}

/// Once a second for each service that is awake.
fn windows(c: &mut Criterion) {
    let mut group = c.benchmark_group("window");
    group.throughput(Throughput::Elements(1));
    let epoch = clock::now();
    for (name, aggregation) in
        [("linear", Aggregation::Linear), ("exponential", Aggregation::WeightedExponential)]
    {
        let mut window = Window::new(epoch, Duration::from_mins(1), aggregation);
        let mut seconds = 0;
        group.bench_function(BenchmarkId::new("record", name), |b| {
            b.iter(|| {
                seconds += 1;
                window.record(epoch + Duration::from_secs(seconds), black_box(3.5));
            });
        });
        let now = epoch + Duration::from_secs(seconds);
        group
            .bench_function(BenchmarkId::new("average", name), |b| b.iter(|| window.average(black_box(now))));
    }
}

/// Every 2 s for each service that is awake.
fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("decider");
    group.throughput(Throughput::Elements(1));
    let loaded = services(1);
    let epoch = clock::now();
    // Steady, and with bursts that go into panic and out of it again.
    for (name, burst) in [("steady", 1.5), ("panicking", 10.0)] {
        let mut decider = Decider::new(epoch, Knobs::from(&loaded.services[0].scaling), epoch, 1);
        let mut now = epoch;
        let mut load = 0.0;
        group.bench_function(BenchmarkId::new("decide", name), |b| {
            b.iter(|| {
                now += Duration::from_secs(2);
                load = (load + 0.37) % 40.0;
                decider.decide(now, &Observation { stable: Some(load), panic: Some(load * burst), ready: 7 })
            });
        });
    }
}

/// From the `Host` of a request to its service; and how the routes come to be.
fn routing(c: &mut Criterion) {
    let mut group = c.benchmark_group("routes");
    group.throughput(Throughput::Elements(SERVICES as u64));
    group.bench_function("load_10000_services", |b| b.iter_with_large_drop(|| services(SERVICES)));
    let wakeups = Arc::new(Wakeups::default());
    let specs = services(SERVICES).services.into_iter().map(Arc::new);
    let all: Vec<_> = specs.map(|spec| Arc::new(Service::new(spec, wakeups.clone(), 1))).collect();
    group.bench_function("build_10000_services", |b| {
        b.iter_batched(|| all.clone(), Routes::new, BatchSize::LargeInput);
    });
    group.throughput(Throughput::Elements(1));
    let routes = Routes::new(all);
    for (case, name) in [("as_written", "service"), ("upper_case", "SERVICE")] {
        let hosts: Vec<String> =
            (0..SERVICES).map(|i| format!("{name}-{i}.default.localhost:8080")).collect();
        let mut at = 0;
        group.bench_function(BenchmarkId::new("by_host_of_10000", case), |b| {
            b.iter(|| {
                // A stride that is prime to the number: every one in turn, none beside the last.
                at = (at + 7919) % SERVICES;
                routes.by_host(black_box(&hosts[at])).unwrap()
            });
        });
    }
    group.bench_function("by_host_of_10000/unknown", |b| {
        b.iter(|| routes.by_host(black_box("nobody.default.localhost:8080")).is_none());
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = breaker, dispatch, request, windows, decide, routing
}
criterion_main!(benches);

//! Instructions of the hot path, counted by callgrind: `benches/count`, a script that compares them with
//! benches/counts.txt. CI fails when one is more than 2 % above.
//!
//! Every bench does [`TIMES`] times the same; what it prints is for all of them. What comes before is not counted:
//! connections are open and buffers have grown. The counts depend on the compiler, on the dependencies and on libc, not
//! on the processor, for callgrind emulates one, and not on what else the machine does.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench panics with the place; gungraun makes modules")]

mod common;

use std::hint::black_box;
use std::sync::Arc;

use common::path::{Client, POST, Path, Through, services};
use gungraun::Callgrind;
use gungraun::prelude::*;
use pilotlight::activator::route::Routes;
use pilotlight::activator::service::Service;
use pilotlight::activator::wake::Wakeups;
use pilotlight::policy::dispatch::Dispatch;
use pilotlight::policy::line::Tenant;
use pilotlight::proxy::breaker::Breaker;
use pilotlight::proxy::framing::Framing;

/// `benches/count` divides by it.
const TIMES: usize = 1000;
/// Routes of so many.
const SERVICES: usize = 1000;
/// Replicas with slots, half of which are taken.
const REPLICAS: u64 = 10;
const SLOTS: u32 = 4;

// From the bytes of a request at our listener to the bytes of its answer at the client, which is the same with
// `nothing` in between: what client, app and their turns cost by themselves.
#[library_benchmark(setup = Path::new)]
#[bench::nothing(Through::Nothing, Client::Post)]
#[bench::queue_proxy_get(Through::QueueProxy, Client::Get)]
#[bench::queue_proxy_post(Through::QueueProxy, Client::Post)]
#[bench::queue_proxy_h2c_post(Through::QueueProxy, Client::H2Post)]
#[bench::activator_get(Through::Activator, Client::Get)]
#[bench::activator_post(Through::Activator, Client::Post)]
#[bench::activator_h2c_post(Through::Activator, Client::H2Post)]
fn path(mut path: Path) -> Path {
    path.requests(TIMES);
    path
}

fn with_slots() -> Breaker<Arc<u64>, &'static str> {
    let breaker = Breaker::new(SLOTS, 100, 1);
    (0..REPLICAS).for_each(|id| breaker.join(id, Arc::new(id)));
    breaker
}

/// One slot, taken all the time: the next one waits for it.
fn with_one_slot() -> Breaker<Arc<u64>, &'static str> {
    let breaker = Breaker::new(1, 100, 1);
    breaker.join(1, Arc::new(1));
    breaker
}

#[library_benchmark]
#[bench::acquire_release(setup = with_slots)]
fn breaker(breaker: Breaker<Arc<u64>, &'static str>) -> Breaker<Arc<u64>, &'static str> {
    for _ in 0..TIMES {
        drop(black_box(breaker.try_acquire().unwrap()));
    }
    breaker
}

#[library_benchmark]
#[bench::wait(setup = with_one_slot)]
fn line(breaker: Breaker<Arc<u64>, &'static str>) -> Breaker<Arc<u64>, &'static str> {
    for _ in 0..TIMES {
        let first = breaker.try_acquire().unwrap();
        let waiting = breaker.acquire(Tenant::NONE).unwrap();
        drop(first);
        drop(black_box(waiting));
    }
    breaker
}

fn half_taken() -> Dispatch<(), u64> {
    let mut dispatch = Dispatch::new(SLOTS, 100);
    (0..REPLICAS).for_each(|id| assert!(dispatch.join(id, id, None).is_none()));
    for n in 0..REPLICAS * u64::from(SLOTS / 2) {
        dispatch.try_take(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).unwrap();
    }
    dispatch
}

#[library_benchmark]
#[bench::take_release(setup = half_taken)]
fn dispatch(mut dispatch: Dispatch<(), u64>) -> Dispatch<(), u64> {
    let mut random = 1u64;
    for _ in 0..TIMES {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let taken = dispatch.try_take(random).unwrap();
        dispatch.release(black_box(taken).replica);
    }
    dispatch
}

// A whole request, as it comes in one piece.
#[library_benchmark]
#[bench::read_post(setup = Framing::default)]
fn framing(mut framing: Framing) -> Framing {
    for _ in 0..TIMES {
        framing.read(black_box(POST.as_bytes())).unwrap();
    }
    assert!(framing.is_at_rest());
    framing
}

fn with_services() -> Routes {
    let wakeups = Arc::new(Wakeups::default());
    let specs = services(SERVICES).services.into_iter().map(Arc::new);
    Routes::new(specs.map(|spec| Arc::new(Service::new(spec, wakeups.clone(), 1))))
}

// Every one of them in turn.
#[library_benchmark]
#[bench::by_host(setup = with_services_and_hosts)]
fn routes((routes, hosts): (Routes, Vec<String>)) -> (Routes, Vec<String>) {
    for host in hosts.iter().cycle().take(TIMES) {
        black_box(routes.by_host(black_box(host)).unwrap());
    }
    (routes, hosts)
}

fn with_services_and_hosts() -> (Routes, Vec<String>) {
    (with_services(), (0..SERVICES).map(|i| format!("service-{i}.default.localhost:8080")).collect())
}

library_benchmark_group!(name = paths, benchmarks = path);
library_benchmark_group!(name = parts, benchmarks = [breaker, line, dispatch, framing, routes]);

main!(
    // Only instructions: half the time.
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = [paths, parts]
);

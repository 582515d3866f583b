//! The control loop's rules on a paused clock, with the real service, line and policies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::advance;

use super::scaler::Scaler;
use crate::activator::service::{Service, Trouble};
use crate::activator::wake::Wakeups;
use crate::clock;
use crate::config::spec::{
    Addresses, Buffer, Concurrency, Limits, Models, Probe, Protocol, Scaling, ServiceKey, ServiceSpec,
    Source, TargetRef, Timeouts, Workload,
};
use crate::policy::Reason;
use crate::policy::line::Tenant;
use crate::proxy::endpoint::Endpoint;

const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    service: Arc<Service>,
    scaler: Scaler,
}

impl Bench {
    fn new(limit: u32, scaling: Scaling) -> Self {
        let spec = ServiceSpec {
            key: ServiceKey::new("default", "a"),
            source: Source { file: "a.yaml".into(), line: 1 },
            workload: Workload::Target(TargetRef::default()),
            port: 8080,
            grpc_port: 0,
            protocol: Protocol::Auto,
            hosts: Vec::new(),
            concurrency: Concurrency { limit, queue: 100 },
            buffer: Buffer::default(),
            readiness: Probe::TcpSocket { port: None },
            scaling,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            no_wake: Vec::new(),
            models: Models::own("a"),
            heartbeat: Duration::ZERO,
        };
        let service = Arc::new(Service::new(Arc::new(spec), Arc::new(Wakeups::default()), 1));
        let now = clock::now();
        Self { scaler: Scaler::new(service.clone(), now, now), service }
    }

    fn ready(&self, id: u64) {
        let addresses = Addresses { http: ([127, 0, 0, 1], 1).into(), grpc: None };
        let now = clock::now();
        let endpoint = Endpoint::new(id, addresses, Protocol::Auto, 1, now, now);
        self.service.line.join(id, Arc::new(endpoint));
    }

    /// Ticks for this long; returns when `until` first held, if it did.
    async fn run(&mut self, at_most: Duration, until: impl Fn(&Scaler) -> bool) -> Option<Duration> {
        let start = clock::now();
        while clock::now() - start < at_most {
            advance(SECOND).await;
            self.scaler.tick(clock::now());
            if until(&self.scaler) {
                return Some(clock::now() - start);
            }
        }
        None
    }
}

/// One slot per replica, and the number itself as the target.
fn one_each(max: u32) -> Scaling {
    Scaling { max, total: 1.0, target: 0.7, ..Scaling::default() }
}

#[tokio::test(start_paused = true)]
async fn a_burst_at_zero_asks_at_once_for_what_it_needs() {
    let mut bench = Bench::new(1, one_each(4));
    let _line: Vec<_> = (0..200).map(|_| bench.service.line.acquire(Tenant::NONE).unwrap()).collect();
    bench.scaler.woken(clock::now(), 0, 0);
    assert_eq!(bench.scaler.desired(), 4);
    assert_eq!(bench.scaler.last().unwrap().code, Reason::Backlog);
}

#[tokio::test(start_paused = true)]
async fn a_wake_holds_until_ready_and_for_a_stable_window_after() {
    let mut bench = Bench::new(1, one_each(10));
    let line: Vec<_> = (0..2).map(|_| bench.service.line.acquire(Tenant::NONE).unwrap()).collect();
    bench.scaler.woken(clock::now(), 0, 0);
    let woken = bench.scaler.desired();
    assert_eq!(woken, 3, "two waiting at 0.7 each");
    drop(line);
    // Nobody waits any more, but the start is under way: it is not taken back.
    assert_eq!(bench.run(120 * SECOND, |scaler| scaler.desired() != woken).await, None);
    bench.ready(1);
    let held =
        bench.run(180 * SECOND, |scaler| scaler.desired() == 0).await.expect("it goes to zero at last");
    assert!(held >= 60 * SECOND, "zero {held:?} after it was ready");
}

#[tokio::test(start_paused = true)]
async fn zero_waits_for_the_window_and_for_scale_to_zero_after() {
    let window = Duration::from_secs(10);
    for (after, least) in [(5, 10), (30, 30)] {
        let scaling = Scaling { window, scale_to_zero_after: after * SECOND, ..one_each(3) };
        let mut bench = Bench::new(1, scaling);
        bench.ready(1);
        bench.scaler.wake(clock::now());
        let request = bench.service.meter.enter(clock::now());
        assert_eq!(bench.run(30 * SECOND, |scaler| scaler.desired() == 0).await, None, "a request runs");
        drop(request);
        let zero = bench.run(120 * SECOND, |scaler| scaler.desired() == 0).await.expect("it is idle");
        let least = least * SECOND;
        assert!(zero >= least && zero <= least + 4 * SECOND, "{zero:?} with scaleToZeroAfter {after} s");
    }
}

#[tokio::test(start_paused = true)]
async fn min_is_there_from_the_start_and_stays() {
    let mut bench = Bench::new(1, Scaling { min: 2, ..one_each(5) });
    assert_eq!(bench.scaler.desired(), 2);
    bench.ready(1);
    bench.ready(2);
    assert_eq!(bench.run(300 * SECOND, |scaler| scaler.desired() != 2).await, None);
}

#[tokio::test(start_paused = true)]
async fn initial_is_there_from_the_start_and_goes() {
    let mut bench = Bench::new(1, Scaling { initial: 2, ..one_each(5) });
    assert_eq!(bench.scaler.desired(), 2);
    bench.ready(1);
    bench.ready(2);
    assert!(bench.run(300 * SECOND, |scaler| scaler.desired() == 1).await.is_some());
    bench.service.line.leave(2);
    assert!(bench.run(300 * SECOND, |scaler| scaler.desired() == 0).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn load_brings_replicas_and_its_end_takes_them_step_by_step() {
    let mut bench = Bench::new(1, one_each(10));
    bench.ready(1);
    bench.scaler.wake(clock::now());
    let load: Vec<_> = (0..6).map(|_| bench.service.meter.enter(clock::now())).collect();
    assert!(bench.run(10 * SECOND, |scaler| scaler.desired() >= 9).await.is_some(), "six at 0.7 each");
    for id in 2..=9 {
        bench.ready(id);
    }
    drop(load);
    let mut seen = vec![bench.scaler.desired()];
    let start = clock::now();
    while bench.scaler.desired() > 0 && clock::now() - start < 600 * SECOND {
        advance(SECOND).await;
        bench.scaler.tick(clock::now());
        let (before, now) = (*seen.last().unwrap(), bench.scaler.desired());
        for id in now + 1..=before {
            bench.service.line.leave(u64::from(id));
        }
        if now != before {
            seen.push(now);
        }
    }
    assert_eq!(seen.last(), Some(&0), "{seen:?}");
    assert!(seen.windows(2).all(|pair| pair[1] >= pair[0] / 2), "at most half at a time: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_cannot_start_lets_its_wake_go() {
    let scaling = Scaling { window: Duration::from_secs(6), ..one_each(3) };
    let mut bench = Bench::new(1, scaling);
    let place = bench.service.line.acquire(Tenant::NONE).unwrap();
    bench.scaler.woken(clock::now(), 0, 0);
    assert!(bench.scaler.desired() > 0);
    let until = clock::now() + 600 * SECOND;
    bench.service.set_trouble(Trouble {
        reason: "exit status 3".into(),
        code: "cannot_start",
        failures: 3,
        until,
    });
    assert!(place.await.is_err(), "who waits is told");
    assert!(bench.run(120 * SECOND, |scaler| scaler.desired() == 0).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_same_load_gives_the_same_decisions() {
    async fn decisions() -> Vec<u32> {
        let mut bench = Bench::new(2, Scaling { total: 2.0, target: 1.4, ..Scaling::default() });
        bench.ready(1);
        bench.scaler.wake(clock::now());
        let mut load = Vec::new();
        let mut decisions = Vec::new();
        for step in 0u64..120 {
            // A fixed, uneven pattern of arrivals and ends.
            if step.wrapping_mul(2_654_435_761) % 7 < 4 {
                load.push(bench.service.meter.enter(clock::now()));
            } else {
                load.pop();
            }
            advance(SECOND).await;
            bench.scaler.tick(clock::now());
            decisions.push(bench.scaler.desired());
        }
        decisions
    }
    assert_eq!(decisions().await, decisions().await);
}

#[test]
fn ticks_fall_into_the_middle_of_the_windows_seconds() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().start_paused(true).enable_time().build().unwrap();
    runtime.block_on(async {
        let epoch = clock::now();
        let (autoscaler, _handle) = super::Autoscaler::new(Arc::default(), Arc::default(), epoch);
        let at = |from: Instant| (autoscaler.tick_after(from) - epoch).as_millis();
        assert_eq!(at(epoch), 500);
        assert_eq!(at(epoch + Duration::from_millis(500)), 1500);
        assert_eq!(at(epoch + Duration::from_millis(1499)), 1500);
        assert_eq!(at(epoch + Duration::from_millis(7900)), 8500);
    });
}

#[tokio::test(start_paused = true)]
async fn ticks_that_jitter_decide_at_every_second_one() {
    let mut bench = Bench::new(1, Scaling { max: 1000, max_up_rate: 1000.0, ..one_each(1000) });
    bench.ready(1);
    bench.scaler.wake(clock::now());
    let start = clock::now();
    let mut load = Vec::new();
    let mut decided_at = Vec::new();
    let mut before = None;
    for second in 1..=60_u32 {
        // More each second, so that every decision is made from something else than the one before.
        load.push(bench.service.meter.enter(clock::now()));
        // Early and late by turns, and in pairs, by 2 ms at most.
        let jitter = [2, 0, 4, 1, 3, 0, 0, 4][second as usize % 8];
        let due = start + (second - 1) * SECOND + Duration::from_millis(998 + jitter);
        advance(due - clock::now()).await;
        bench.scaler.tick(clock::now());
        let inputs = bench.scaler.last().and_then(|last| last.inputs);
        if inputs != before {
            decided_at.push(second);
        }
        before = inputs;
    }
    let expected: Vec<u32> = (1..=60).filter(|second| second % 2 == decided_at[0] % 2).collect();
    assert_eq!(decided_at, expected);
}

#[tokio::test(start_paused = true)]
async fn who_came_before_the_service_was_known_is_started_for_at_once() {
    let wakeups = Arc::new(Wakeups::default());
    let bench = Bench::new(1, one_each(4));
    let spec = bench.service.spec();
    let service = Arc::new(Service::new(spec, wakeups.clone(), 1));
    let now = clock::now();
    let (autoscaler, handle) = super::Autoscaler::new(wakeups, Arc::default(), now);
    let running = tokio::spawn(autoscaler.run());
    let _place = service.line.acquire(Tenant::NONE).unwrap();
    service.poke_if_stuck();
    // The poke is taken, and nobody by that name is known.
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
    let replicas = Arc::new(super::Replicas::default());
    let managed =
        super::Managed { service, replicas: replicas.clone(), decision: arc_swap::ArcSwapOption::empty() };
    handle.add(Arc::new(managed)).await;
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    assert!(replicas.desired() > 0, "not with a later tick");
    running.abort();
}

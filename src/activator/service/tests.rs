//! Who waits is known to who starts.

use std::sync::Barrier;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::admin::tests::spec;
use crate::config::spec::{Addresses, Protocol};
use crate::policy::line::Tenant;
use crate::proxy::endpoint::Endpoint;

fn endpoint(id: ReplicaId) -> Arc<Endpoint> {
    let (addresses, now) = (Addresses { http: ([127, 0, 0, 1], 1).into(), grpc: None }, clock::now());
    Arc::new(Endpoint::new(id, addresses, Protocol::Auto, 1, now, now))
}

fn service() -> (Arc<Service>, Arc<Wakeups>) {
    let mut spec = spec("a", &["true"]);
    spec.concurrency.limit = 1;
    let wakeups = Arc::new(Wakeups::default());
    (Arc::new(Service::new(Arc::new(spec), wakeups.clone(), 1)), wakeups)
}

/// Takes what was posted, as the autoscaler does.
fn looked(service: &Service, wakeups: &Wakeups) -> bool {
    let woken = wakeups.next().now_or_never().is_some_and(|keys| keys.contains(&service.key));
    if woken {
        service.seen();
    }
    woken
}

#[test]
fn who_joins_while_the_last_replica_leaves_always_pokes() {
    let (service, wakeups) = service();
    for round in 1..=3000 {
        service.line.join(round, endpoint(round));
        let busy = service.line.try_acquire().unwrap();
        let start = Barrier::new(2);
        let place = std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                service.leave(round);
            });
            start.wait();
            let place = service.line.acquire(Tenant::NONE).unwrap();
            service.poke_if_stuck();
            place
        });
        assert!(looked(&service, &wakeups), "round {round}: somebody waits and nobody knows");
        drop((place, busy));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Arrive,
    Finish,
    GoAway,
    Join(ReplicaId),
    Leave(ReplicaId),
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Arrive),
        2 => Just(Step::Finish),
        1 => Just(Step::GoAway),
        2 => (0u64..3).prop_map(Step::Join),
        3 => (0u64..3).prop_map(Step::Leave),
        2 => Just(Step::Look),
    ];
    prop::collection::vec(step, 1..100)
}

proptest! {
    /// Invariant 6, the data path's half: since the autoscaler last looked and saw nobody stuck, nobody gets
    /// stuck without it being told.
    #[test]
    fn nobody_is_stuck_unknown(steps in steps()) {
        let (service, wakeups) = service();
        let (mut running, mut waiting) = (Vec::new(), Vec::new());
        // What the autoscaler knows: that somebody waits for a start.
        let mut known = false;
        for step in steps {
            match step {
                Step::Arrive => {
                    if let Some(permit) = service.line.try_acquire() {
                        running.push(permit);
                    } else {
                        waiting.push(service.line.acquire(Tenant::NONE).unwrap());
                        service.poke_if_stuck();
                    }
                },
                Step::Finish => drop(running.pop()),
                Step::GoAway => drop(waiting.pop()),
                Step::Join(id) => {
                    service.line.join(id, endpoint(id));
                    // What starts has started: the next who gets stuck must be told of again.
                    known = false;
                }
                Step::Leave(id) => service.leave(id),
                Step::Look => known |= looked(&service, &wakeups),
            }
            waiting.retain_mut(|place| match place.now_or_never() {
                Some(permit) => {
                    running.extend(permit);
                    false
                }
                None => true,
            });
            let posted = service.poked.load(Ordering::Acquire);
            prop_assert!(!service.line.is_stuck() || posted || known);
        }
    }
}

#[test]
fn the_last_ones_leaving_ends_the_trouble_of_others() {
    let (service, _) = service();
    let trouble = || Trouble { reason: "x".into(), code: "cannot_start", failures: 3, until: clock::now() };
    service.line.join(1, endpoint(1));
    service.set_trouble(trouble());
    service.leave(2);
    assert!(service.trouble().is_some(), "a replica that never served leaves nothing behind");
    service.leave(1);
    assert!(service.trouble().is_none(), "who comes now waits for the next start");
    service.set_trouble(trouble());
    service.leave(2);
    assert!(service.trouble().is_some());
}

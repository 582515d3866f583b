//! The breaker under loom: every interleaving of a few threads, with the production source.
//!
//! The files are taken in by path so that plain `cargo test` runs this; a `--cfg loom` for the whole build would
//! turn tokio inside out.
#![allow(missing_docs, dead_code, unreachable_pub)]

mod sync {
    pub use loom::sync::Arc;

    /// loom's mutex with the face of `parking_lot`'s.
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().expect("no thread panics while it holds the lock")
        }
    }
}
#[path = "../../src/policy/dispatch.rs"]
pub mod dispatch;
#[path = "../../src/policy/line.rs"]
pub mod line;
mod policy {
    pub use crate::{dispatch, line};
}
#[path = "../../src/proxy/breaker.rs"]
mod breaker;

use breaker::{Breaker, Refused};
use line::Tenant;
use loom::future::block_on;
use loom::sync::atomic::{AtomicU32, Ordering::SeqCst};
use loom::thread;
use sync::Arc;

type TestBreaker = Breaker<(), &'static str>;

/// Three preemptions find what these sizes can show, in seconds instead of hours.
fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(check);
}

fn work(breaker: &TestBreaker, running: &AtomicU32) -> Result<(), Refused<&'static str>> {
    let permit = match breaker.try_acquire() {
        Some(permit) => permit,
        None => block_on(breaker.acquire(Tenant::NONE)?)?,
    };
    assert_eq!(running.fetch_add(1, SeqCst), 0, "two in flight at limit 1");
    running.fetch_sub(1, SeqCst);
    drop(permit);
    Ok(())
}

#[test]
fn the_limit_holds_and_everybody_gets_a_turn() {
    model(|| {
        let breaker = TestBreaker::new(1, 10, 1);
        breaker.join(1, ());
        let running = Arc::new(AtomicU32::new(0));
        let other = {
            let (breaker, running) = (breaker.clone(), running.clone());
            thread::spawn(move || work(&breaker, &running))
        };
        work(&breaker, &running).unwrap();
        other.join().unwrap().unwrap();
        assert_eq!((breaker.in_flight(), breaker.waiting()), (0, 0));
    });
}

#[test]
fn a_waiter_that_goes_away_loses_no_slot() {
    model(|| {
        let breaker = TestBreaker::new(1, 10, 1);
        breaker.join(1, ());
        let held = breaker.try_acquire().unwrap();
        let gone = breaker.acquire(Tenant::NONE).unwrap();
        let next = breaker.acquire(Tenant::NONE).unwrap();
        // The slot is granted to the first while, or before, it leaves the line: the second must get it.
        let leaver = thread::spawn(move || drop(gone));
        let releaser = thread::spawn(move || drop(held));
        drop(block_on(next).unwrap());
        leaver.join().unwrap();
        releaser.join().unwrap();
        assert_eq!((breaker.in_flight(), breaker.waiting()), (0, 0));
    });
}

#[test]
fn a_replica_that_joins_wakes_who_waits() {
    model(|| {
        let breaker = TestBreaker::new(1, 10, 1);
        let waiter = {
            let breaker = breaker.clone();
            thread::spawn(move || drop(block_on(breaker.acquire(Tenant::NONE).unwrap()).unwrap()))
        };
        breaker.join(1, ());
        waiter.join().unwrap();
        assert_eq!(breaker.in_flight(), 0);
    });
}

#[test]
fn a_new_limit_wakes_who_waits() {
    model(|| {
        let breaker = TestBreaker::new(1, 10, 1);
        breaker.join(1, ());
        let held = breaker.try_acquire().unwrap();
        let waiter = {
            let breaker = breaker.clone();
            thread::spawn(move || drop(block_on(breaker.acquire(Tenant::NONE).unwrap()).unwrap()))
        };
        breaker.resize(2, 10);
        waiter.join().unwrap();
        drop(held);
        assert_eq!(breaker.in_flight(), 0);
    });
}

#[test]
fn closing_answers_everybody_once() {
    model(|| {
        let breaker = TestBreaker::new(1, 10, 1);
        let waiter = {
            let breaker = breaker.clone();
            thread::spawn(move || match breaker.acquire(Tenant::NONE) {
                Ok(place) => block_on(place).map(drop).unwrap_err(),
                Err(refused) => refused,
            })
        };
        breaker.close("deleted");
        assert_eq!(waiter.join().unwrap(), Refused::Reason("deleted"));
        assert_eq!(breaker.waiting(), 0);
    });
}

#[test]
fn draining_ends_with_the_last_request() {
    model(|| {
        let breaker = TestBreaker::new(0, 10, 1);
        breaker.join(1, ());
        let held = breaker.try_acquire().unwrap();
        breaker.leave(1);
        let releaser = thread::spawn(move || drop(held));
        block_on(breaker.drained(1));
        releaser.join().unwrap();
        assert_eq!(breaker.in_flight(), 0);
    });
}

#[test]
fn who_makes_room_is_told_once() {
    model(|| {
        let breaker = TestBreaker::new(1, 2, 1);
        breaker.join(1, ());
        let held = breaker.try_acquire().unwrap();
        let (flood, quiet) = (Tenant::of(2), Tenant::of(4));
        let first = breaker.acquire(flood).unwrap();
        let newest = breaker.acquire(flood).unwrap();
        // The line is full: the newest of the longest lane makes room, unless the slot that comes free is taken first.
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || drop(block_on(breaker.acquire(quiet).unwrap()).unwrap()))
        };
        let releaser = thread::spawn(move || drop(held));
        drop(block_on(first).unwrap());
        assert!(matches!(block_on(newest).map(drop), Ok(()) | Err(Refused::Full)));
        other.join().unwrap();
        releaser.join().unwrap();
        assert_eq!((breaker.in_flight(), breaker.waiting()), (0, 0));
    });
}

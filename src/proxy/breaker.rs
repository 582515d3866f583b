//! Admission: a bounded line in front of the slots of one or more replicas.
//!
//! This is the one door to an app. The queue-proxy has one replica behind it, the activator as many as are ready;
//! both get the same promises: first come first served (tenants in turn), never more in flight than the limit, a change of limit or
//! replicas while in use, and a slot that comes back by `Drop` whatever happens to the request. The rules are
//! [`Dispatch`]'s; this adds the lock, the wakers and the guards.
//!
//! `E` is what a permit leads to (a replica's endpoint), `R` why the owner refuses those who wait.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::policy::dispatch::{Dispatch, ReplicaId, Taken};
use crate::policy::line::{Tenant, Ticket};
use crate::sync::{Arc, Mutex};

/// A bounded line in front of replicas' slots. Cheap to clone; clones are the same breaker.
pub struct Breaker<E: Clone, R: Clone> {
    state: Arc<Mutex<State<E, R>>>,
}

struct State<E, R> {
    dispatch: Dispatch<Option<Waker>, E>,
    /// What became of a request that left the line, until its future looks.
    settled: BTreeMap<Ticket, Settled<E, R>>,
    closed: Option<R>,
    drains: Vec<(ReplicaId, Waker)>,
    /// Seed of the power of two choices.
    random: u64,
}

enum Settled<E, R> {
    Slot(Taken<E>),
    Refused(Refused<R>),
}

/// Why a request does not get a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused<R> {
    /// The line is full, or was, and its place went to a tenant that had fewer in it.
    Full,
    /// The owner's reason.
    Reason(R),
}

/// One slot of one replica. It returns when this is dropped: keep it until the response's body has ended.
#[must_use = "a dropped permit gives its slot back"]
pub struct Permit<E: Clone, R: Clone> {
    breaker: Breaker<E, R>,
    slot: Taken<E>,
}

/// A place in the line. Dropping it leaves the line; a slot that was already granted goes to the next.
#[must_use = "futures do nothing unless polled"]
pub struct Acquire<E: Clone, R: Clone> {
    breaker: Breaker<E, R>,
    ticket: Ticket,
    done: bool,
}

/// Resolves when nothing is in flight at a replica any more. See [`Breaker::drained`].
#[must_use = "futures do nothing unless polled"]
pub struct Drained<E: Clone, R: Clone> {
    breaker: Breaker<E, R>,
    replica: ReplicaId,
}

// === impl Breaker ===

impl<E: Clone, R: Clone> Breaker<E, R> {
    /// No replica yet: everything waits. `limit` is per replica, 0 = unlimited; `queue` bounds the line;
    /// `random` seeds the choice among unlimited replicas.
    pub fn new(limit: u32, queue: usize, random: u64) -> Self {
        let state = State {
            dispatch: Dispatch::new(limit, queue),
            settled: BTreeMap::new(),
            closed: None,
            drains: Vec::new(),
            random: random | 1,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A slot at once, unless none is free or somebody waits already.
    pub fn try_acquire(&self) -> Option<Permit<E, R>> {
        let slot = {
            let mut state = self.state.lock();
            if state.closed.is_some() {
                return None;
            }
            let random = state.random();
            state.dispatch.try_take(random)?
        };
        Some(Permit { breaker: self.clone(), slot })
    }

    /// Joins the line. The place is taken now, not at the first poll.
    pub fn acquire(&self, tenant: Tenant) -> Result<Acquire<E, R>, Refused<R>> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.closed {
            return Err(Refused::Reason(reason.clone()));
        }
        let displaced = if state.dispatch.is_full() { state.displace(tenant) } else { None };
        let ticket = state.dispatch.enqueue(tenant, None).map_err(|_| Refused::Full)?;
        drop(state);
        wake_all(displaced);
        // A slot may have come free since the caller's try_acquire.
        self.pump();
        Ok(Acquire { breaker: self.clone(), ticket, done: false })
    }

    /// Refuses one of the tenant that has the most in the line, for room of any kind, if `tenant` has fewer.
    pub fn displace(&self, tenant: Tenant) -> bool {
        let displaced = self.state.lock().displace(tenant);
        wake_all(displaced) > 0
    }

    /// Back to the place that an earlier permit or place had.
    pub fn requeue(&self, ticket: Ticket) -> Acquire<E, R> {
        let mut state = self.state.lock();
        if let Some(reason) = state.closed.clone() {
            state.settled.insert(ticket, Settled::Refused(Refused::Reason(reason)));
        } else {
            state.dispatch.requeue(ticket, None);
        }
        drop(state);
        self.pump();
        Acquire { breaker: self.clone(), ticket, done: false }
    }

    /// Adds a replica, or takes one back that was leaving.
    pub fn join(&self, replica: ReplicaId, endpoint: E) {
        self.join_with(replica, endpoint, None);
    }

    /// Adds a replica that has a limit of its own, if it has.
    pub fn join_with(&self, replica: ReplicaId, endpoint: E, own_limit: Option<u32>) {
        // An endpoint's end may close connections, which is no work to do under the lock.
        let of_no_use = self.state.lock().dispatch.join(replica, endpoint, own_limit);
        drop(of_no_use);
        self.pump();
    }

    /// Takes a replica out of the set; its requests may end. False when it was not in the set.
    pub fn leave(&self, replica: ReplicaId) -> bool {
        let left = self.state.lock().dispatch.leave(replica);
        left.is_some()
    }

    /// Resolves when nothing is in flight at `replica`; meaningful after [`leave`](Self::leave).
    pub fn drained(&self, replica: ReplicaId) -> Drained<E, R> {
        Drained { breaker: self.clone(), replica }
    }

    /// From now on the replicas that are in the set keep the limit that they have.
    pub fn keep_limits(&self) {
        self.state.lock().dispatch.keep_limits();
    }

    /// Changes the limits while in use.
    pub fn resize(&self, limit: u32, queue: usize) {
        {
            let mut state = self.state.lock();
            state.dispatch.set_limit(limit);
            state.dispatch.set_queue_limit(queue);
        }
        self.pump();
    }

    /// Refuses all who wait now. Returns how many that were.
    pub fn refuse_waiting(&self, reason: &R) -> usize {
        let wakers = self.state.lock().refuse_waiting(reason);
        wake_all(wakers)
    }

    /// Refuses all who wait and all who will come.
    pub fn close(&self, reason: R) -> usize {
        let wakers = {
            let mut state = self.state.lock();
            let wakers = state.refuse_waiting(&reason);
            state.closed = Some(reason);
            wakers
        };
        wake_all(wakers)
    }

    /// Requests in the line.
    pub fn waiting(&self) -> usize {
        self.state.lock().dispatch.waiting()
    }

    /// Whether somebody waits and no replica is in the set.
    pub fn is_stuck(&self) -> bool {
        let state = self.state.lock();
        state.dispatch.waiting() > 0 && state.dispatch.replicas() == 0
    }

    /// Requests that hold a slot.
    pub fn in_flight(&self) -> u32 {
        self.state.lock().dispatch.in_flight()
    }

    /// Requests that hold a slot of this replica.
    pub fn in_flight_at(&self, replica: ReplicaId) -> u32 {
        self.state.lock().dispatch.in_flight_at(replica)
    }

    /// Replicas in the set.
    pub fn replicas(&self) -> usize {
        self.state.lock().dispatch.replicas()
    }

    /// Gives free slots to those who wait.
    fn pump(&self) {
        loop {
            let waker = {
                let mut state = self.state.lock();
                let random = state.random();
                let Some((waker, slot)) = state.dispatch.next(random) else { return };
                state.settled.insert(slot.ticket, Settled::Slot(slot));
                waker
            };
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn release(&self, replica: ReplicaId) {
        let (waiting, drained) = {
            let mut state = self.state.lock();
            let drained = if state.dispatch.release(replica) {
                state.drains.extract_if(.., |(id, _)| *id == replica).collect()
            } else {
                Vec::new()
            };
            (state.dispatch.waiting(), drained)
        };
        for (_, waker) in drained {
            waker.wake();
        }
        if waiting > 0 {
            self.pump();
        }
    }
}

impl<E: Clone, R: Clone> Clone for Breaker<E, R> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

impl<E: Clone, R: Clone> fmt::Debug for Breaker<E, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("waiting", &self.waiting())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

/// Never under the lock: whatever a waker does or drops may come back to the breaker.
fn wake_all(wakers: impl IntoIterator<Item = Option<Waker>>) -> usize {
    wakers.into_iter().map(|waker| waker.into_iter().for_each(Waker::wake)).count()
}

// === impl State ===

impl<E: Clone, R: Clone> State<E, R> {
    fn refuse_waiting(&mut self, reason: &R) -> Vec<Option<Waker>> {
        let waiting = self.dispatch.take_waiting();
        let settle = waiting.into_iter().map(|(ticket, waker)| {
            self.settled.insert(ticket, Settled::Refused(Refused::Reason(reason.clone())));
            waker
        });
        settle.collect()
    }

    /// The waker of who had to make room, if it has one yet.
    #[allow(clippy::option_option)] // outer: somebody had to; inner: its future was polled
    fn displace(&mut self, tenant: Tenant) -> Option<Option<Waker>> {
        let (ticket, waker) = self.dispatch.displace(tenant)?;
        self.settled.insert(ticket, Settled::Refused(Refused::Full));
        Some(waker)
    }

    /// xorshift64: two replicas to choose between need no better.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

// === impl Permit ===

impl<E: Clone, R: Clone> Permit<E, R> {
    /// Where the request goes.
    pub fn endpoint(&self) -> &E {
        &self.slot.endpoint
    }

    /// Whose slot this is.
    pub fn replica(&self) -> ReplicaId {
        self.slot.replica
    }

    /// The place in line, should the request have to go back ([`Breaker::requeue`]).
    pub fn ticket(&self) -> Ticket {
        self.slot.ticket
    }

    /// Tells how long the replica took to the head of its response.
    pub fn answered(&self, took: Duration) {
        self.breaker.state.lock().dispatch.answered(self.slot.replica, took);
    }
}

impl<E: Clone, R: Clone> fmt::Debug for Permit<E, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("replica", &self.slot.replica).finish_non_exhaustive()
    }
}

impl<E: Clone, R: Clone> Drop for Permit<E, R> {
    fn drop(&mut self) {
        self.breaker.release(self.slot.replica);
    }
}

// === impl Acquire ===

impl<E: Clone, R: Clone> Acquire<E, R> {
    /// The place in line.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl<E: Clone, R: Clone> Future for Acquire<E, R> {
    type Output = Result<Permit<E, R>, Refused<R>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = this.breaker.state.lock();
        let Some(settled) = state.settled.remove(&this.ticket) else {
            let Some(waker) = state.dispatch.waiter_mut(this.ticket) else {
                debug_assert!(false, "bug: polled after completion");
                return Poll::Pending;
            };
            let old = match waker {
                Some(known) if known.will_wake(cx.waker()) => None,
                _ => waker.replace(cx.waker().clone()),
            };
            drop(state);
            drop(old);
            return Poll::Pending;
        };
        drop(state);
        this.done = true;
        Poll::Ready(match settled {
            Settled::Slot(slot) => Ok(Permit { breaker: this.breaker.clone(), slot }),
            Settled::Refused(reason) => Err(reason),
        })
    }
}

impl<E: Clone, R: Clone> Drop for Acquire<E, R> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut state = self.breaker.state.lock();
        let waker = state.dispatch.cancel(self.ticket);
        let settled = if waker.is_none() { state.settled.remove(&self.ticket) } else { None };
        drop(state);
        drop(waker);
        if let Some(Settled::Slot(slot)) = settled {
            self.breaker.release(slot.replica);
        }
    }
}

// === impl Drained ===

impl<E: Clone, R: Clone> Future for Drained<E, R> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.breaker.state.lock();
        if state.dispatch.in_flight_at(self.replica) == 0 {
            return Poll::Ready(());
        }
        match state.drains.iter_mut().find(|(id, waker)| *id == self.replica && waker.will_wake(cx.waker())) {
            Some(_) => {}
            None => state.drains.push((self.replica, cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl<E: Clone, R: Clone> Drop for Drained<E, R> {
    fn drop(&mut self) {
        // Nobody else watches the same replica in practice; a spurious wake-up of another watcher is harmless,
        // a waker that stays behind for a replica that never drains is not.
        let mut state = self.breaker.state.lock();
        let left: Vec<_> = state.drains.extract_if(.., |(id, _)| *id == self.replica).collect();
        drop(state);
        for (_, waker) in left {
            waker.wake();
        }
    }
}

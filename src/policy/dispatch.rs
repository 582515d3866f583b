//! Who waits, which replica has a free slot, and who is next.
//!
//! Late binding: a request is bound to a replica only when that replica has a free slot, so nobody waits behind a
//! busy replica while another is idle. Who is next among those who wait is the [`Line`]'s to say: first come, first
//! served, and tenants in turn. A request that must go back (its replica refused the connection) keeps the place its
//! ticket gave it.
//!
//! With a limit, the replica with the most free slots is next, and among equals the one that answered fastest
//! lately. Without one (`limit` 0), power of two choices on in-flight requests (Mitzenmacher 2001).
//!
//! Pure: randomness is an argument. `W` is what stands for a waiting request, `E` what stands for a replica: the
//! breaker puts wakers and connections there, the simulator plain numbers.

use std::time::Duration;

use crate::policy::line::{Line, Tenant, Ticket};

/// Identity of a replica, chosen by the owner and never reused.
pub type ReplicaId = u64;

/// The state of one service's line and slots.
#[derive(Debug)]
pub struct Dispatch<W, E> {
    limit: u32,
    queue_limit: usize,
    replicas: Vec<Replica<E>>,
    /// Left the set, but still have requests in flight.
    leaving: Vec<Replica<E>>,
    line: Line<W>,
    in_flight: u32,
}

#[derive(Debug)]
struct Replica<E> {
    id: ReplicaId,
    endpoint: E,
    /// Set when it keeps a limit that is no longer everybody's: what it runs is not what the new limit was made for.
    own_limit: Option<u32>,
    in_flight: u32,
    /// Moving average of the time to the response's head, in seconds; 0 until the first answer, so that a new
    /// replica is tried first.
    latency: f64,
}

/// A slot that was just taken. Whoever gets it must call [`Dispatch::release`] exactly once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken<E> {
    /// Where the request goes.
    pub replica: ReplicaId,
    /// The replica's endpoint.
    pub endpoint: E,
    /// The request's place, in case it has to go back.
    pub ticket: Ticket,
}

/// Weight of the newest answer in a replica's latency: about the last ten answers count.
const LATENCY_WEIGHT: f64 = 0.2;

// === impl Dispatch ===

impl<W, E: Clone> Dispatch<W, E> {
    /// No replicas, nobody waiting. `limit` 0 = unlimited per replica.
    pub fn new(limit: u32, queue_limit: usize) -> Self {
        Self {
            limit,
            queue_limit,
            replicas: Vec::new(),
            leaving: Vec::new(),
            line: Line::default(),
            in_flight: 0,
        }
    }

    /// Takes a slot at once, unless somebody came earlier and waits.
    pub fn try_take(&mut self, random: u64) -> Option<Taken<E>> {
        if !self.line.is_empty() {
            return None;
        }
        let at = self.pick(random)?;
        let ticket = self.line.ticket(Tenant::NONE);
        Some(self.take(at, ticket))
    }

    /// Joins the line, or gives `waiter` back when it is full.
    pub fn enqueue(&mut self, tenant: Tenant, waiter: W) -> Result<Ticket, W> {
        if self.is_full() { Err(waiter) } else { Ok(self.line.push(tenant, waiter)) }
    }

    /// Whether newcomers are refused.
    pub fn is_full(&self) -> bool {
        self.line.len() >= self.queue_limit
    }

    /// Makes room for `tenant` at the cost of who has the most ([`Line::displace`]).
    pub fn displace(&mut self, tenant: Tenant) -> Option<(Ticket, W)> {
        self.line.displace(tenant)
    }

    /// Back to the place that `ticket` gave. Not subject to the queue limit: it was admitted once.
    pub fn requeue(&mut self, ticket: Ticket, waiter: W) {
        self.line.put_back(ticket, waiter);
    }

    /// Leaves the line; `None` when it is not in it (any more).
    pub fn cancel(&mut self, ticket: Ticket) -> Option<W> {
        self.line.remove(ticket)
    }

    /// What stands for a waiting request.
    pub fn waiter_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        self.line.get_mut(ticket)
    }

    /// The first in line and its slot, if there is a free one. Call it until it says `None` after every
    /// [`release`](Self::release), [`join`](Self::join) and [`set_limit`](Self::set_limit).
    pub fn next(&mut self, random: u64) -> Option<(W, Taken<E>)> {
        if self.line.is_empty() {
            return None;
        }
        let at = self.pick(random)?;
        let (ticket, waiter) = self.line.pop()?;
        Some((waiter, self.take(at, ticket)))
    }

    /// Empties the line.
    pub fn take_waiting(&mut self) -> Vec<(Ticket, W)> {
        self.line.take_all()
    }

    /// Returns a slot. True when that was the last request of a replica that is leaving.
    pub fn release(&mut self, replica: ReplicaId) -> bool {
        if let Some(r) = self.replicas.iter_mut().find(|r| r.id == replica) {
            debug_assert!(r.in_flight > 0, "bug: a slot came back that nobody took");
            r.in_flight = r.in_flight.saturating_sub(1);
            self.in_flight = self.in_flight.saturating_sub(1);
        } else if let Some(at) = self.leaving.iter().position(|r| r.id == replica) {
            self.in_flight = self.in_flight.saturating_sub(1);
            self.leaving[at].in_flight -= 1;
            if self.leaving[at].in_flight == 0 {
                self.leaving.swap_remove(at);
                return true;
            }
        }
        false
    }

    /// Notes how long a replica took to the head of its response.
    pub fn answered(&mut self, replica: ReplicaId, took: Duration) {
        if let Some(r) = self.replicas.iter_mut().find(|r| r.id == replica) {
            let took = took.as_secs_f64();
            r.latency = if r.latency == 0.0 { took } else { r.latency + LATENCY_WEIGHT * (took - r.latency) };
        }
    }

    /// Adds a replica, with a limit of its own or everybody's, or takes back one that was leaving. Gives back an endpoint that is of no more use: the one that
    /// it left with, or, when it is in the set already, the new one.
    pub fn join(&mut self, id: ReplicaId, endpoint: E, own_limit: Option<u32>) -> Option<E> {
        if self.replicas.iter().any(|r| r.id == id) {
            return Some(endpoint);
        }
        let left = self.leaving.iter().position(|r| r.id == id).map(|at| self.leaving.swap_remove(at));
        let (in_flight, old) = left.map_or((0, None), |left| (left.in_flight, Some(left.endpoint)));
        self.replicas.push(Replica { id, endpoint, own_limit, in_flight, latency: 0.0 });
        old
    }

    /// Takes a replica out of the set: it gets nothing new, and what it has may end. `None` when it is not in it.
    pub fn leave(&mut self, id: ReplicaId) -> Option<E> {
        let at = self.replicas.iter().position(|r| r.id == id)?;
        let replica = self.replicas.swap_remove(at);
        let endpoint = replica.endpoint.clone();
        if replica.in_flight > 0 {
            self.leaving.push(replica);
        }
        Some(endpoint)
    }

    /// From now on the replicas that are in the set keep the limit that they have.
    pub fn keep_limits(&mut self) {
        for replica in &mut self.replicas {
            replica.own_limit.get_or_insert(self.limit);
        }
    }

    /// Changes the limit per replica. Below what is in flight it is a debt: nothing starts until it is paid.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Changes how many may wait. Those who already do stay.
    pub fn set_queue_limit(&mut self, queue_limit: usize) {
        self.queue_limit = queue_limit;
    }

    /// Requests in the line.
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Requests that hold a slot, leaving replicas included.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Requests that hold a slot of this replica.
    pub fn in_flight_at(&self, id: ReplicaId) -> u32 {
        self.replicas.iter().chain(&self.leaving).find(|r| r.id == id).map_or(0, |r| r.in_flight)
    }

    /// Replicas in the set.
    pub fn replicas(&self) -> usize {
        self.replicas.len()
    }

    fn take(&mut self, at: usize, ticket: Ticket) -> Taken<E> {
        let replica = &mut self.replicas[at];
        replica.in_flight += 1;
        self.in_flight += 1;
        Taken { replica: replica.id, endpoint: replica.endpoint.clone(), ticket }
    }

    fn pick(&self, random: u64) -> Option<usize> {
        let limited = self.limit > 0 || self.replicas.iter().any(|r| r.own_limit.is_some());
        if limited { self.pick_most_free() } else { self.pick_of_two(random) }
    }

    /// As long as all replicas have the same limit, the most free slots are the fewest in flight; during a roll-over
    /// with a new limit they may differ, and the fewest in flight is as good.
    fn pick_most_free(&self) -> Option<usize> {
        let free = self.replicas.iter().enumerate().filter(|(_, r)| r.has_room(self.limit));
        free.min_by(|(_, a), (_, b)| a.busier(b)).map(|(at, _)| at)
    }

    fn pick_of_two(&self, random: u64) -> Option<usize> {
        let n = self.replicas.len();
        if n <= 1 {
            return (n == 1).then_some(0);
        }
        // Two different ones, from the two halves of one random number.
        let first = (random as u32 as usize) % n;
        let second = (first + 1 + ((random >> 32) as usize) % (n - 1)) % n;
        let (a, b) = (&self.replicas[first], &self.replicas[second]);
        Some(if a.busier(b).is_le() { first } else { second })
    }
}

// === impl Replica ===

impl<E> Replica<E> {
    fn has_room(&self, limit: u32) -> bool {
        let limit = self.own_limit.unwrap_or(limit);
        limit == 0 || self.in_flight < limit
    }

    fn busier(&self, other: &Self) -> std::cmp::Ordering {
        self.in_flight.cmp(&other.in_flight).then(self.latency.total_cmp(&other.latency))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Line = Dispatch<u32, &'static str>;

    #[test]
    fn first_come_first_served_and_never_past_a_waiter() {
        let mut d = Line::new(1, 10);
        let first = d.enqueue(Tenant::NONE, 1).unwrap();
        d.enqueue(Tenant::NONE, 2).unwrap();
        assert!(d.next(0).is_none(), "no replica yet");
        d.join(7, "a", None);
        assert!(d.try_take(0).is_none(), "a newcomer must not pass those who wait");
        let (who, slot) = d.next(0).unwrap();
        assert_eq!((who, slot.replica, slot.ticket), (1, 7, first));
        assert!(d.next(0).is_none(), "limit 1");
        d.release(7);
        assert_eq!(d.next(0).unwrap().0, 2);
    }

    #[test]
    fn who_goes_back_keeps_its_place() {
        let mut d = Line::new(1, 1);
        d.join(7, "a", None);
        let slot = d.try_take(0).unwrap();
        d.enqueue(Tenant::NONE, 2).unwrap();
        d.leave(7);
        d.requeue(slot.ticket, 1);
        assert!(d.release(7), "the leaving replica is drained");
        d.join(8, "b", None);
        assert_eq!(d.next(0).unwrap().0, 1);
    }

    #[test]
    fn the_freest_replica_and_among_equals_the_fastest_is_next() {
        let mut d = Line::new(2, 1);
        d.join(1, "slow", None);
        d.join(2, "fast", None);
        d.answered(1, Duration::from_millis(20));
        d.answered(2, Duration::from_millis(10));
        let order: Vec<_> = (0..4).map(|_| d.try_take(0).unwrap().endpoint).collect();
        assert_eq!(order, ["fast", "slow", "fast", "slow"]);
        assert!(d.try_take(0).is_none());
    }

    #[test]
    fn a_replica_that_comes_back_keeps_its_count() {
        let mut d = Line::new(1, 1);
        d.join(1, "a", None);
        d.try_take(0).unwrap();
        d.leave(1);
        d.join(1, "a", None);
        assert!(d.try_take(0).is_none(), "its slot is still taken");
        assert!(!d.release(1));
        assert!(d.try_take(0).is_some());
    }

    #[test]
    fn a_smaller_limit_is_a_debt() {
        let mut d = Line::new(3, 1);
        d.join(1, "a", None);
        for _ in 0..3 {
            d.try_take(0).unwrap();
        }
        d.set_limit(1);
        d.release(1);
        d.release(1);
        assert!(d.try_take(0).is_none(), "one still runs");
        d.release(1);
        assert!(d.try_take(0).is_some());
    }

    #[test]
    fn who_runs_something_else_keeps_its_limit() {
        let mut d = Line::new(1, 1);
        d.join(1, "old", None);
        d.keep_limits();
        d.set_limit(3);
        d.join(2, "new", None);
        let mut taken: Vec<_> = std::iter::from_fn(|| d.try_take(0)).map(|slot| slot.endpoint).collect();
        taken.sort_unstable();
        assert_eq!(taken, ["new", "new", "new", "old"]);
        d.release(1);
        d.leave(1);
        d.join(1, "old, looked at", Some(1));
        d.set_limit(0);
        assert!(d.try_take(0).is_some() && d.try_take(0).is_some());
        assert_eq!(d.in_flight_at(1), 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Arrive,
        Finish(usize),
        GoBack(usize),
        Cancel(usize),
        Join(u64),
        Leave(u64),
        Limit(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => Just(Step::Arrive),
            5 => (0usize..64).prop_map(Step::Finish),
            1 => (0usize..64).prop_map(Step::GoBack),
            1 => (0usize..64).prop_map(Step::Cancel),
            1 => (0u64..5).prop_map(Step::Join),
            1 => (0u64..5).prop_map(Step::Leave),
            1 => (0u32..4).prop_map(Step::Limit),
        ];
        prop::collection::vec(step, 1..200)
    }

    proptest! {
        /// Invariants 1 and 2: within the limit when taken, first come first served, each request in exactly one place.
        #[test]
        fn limits_hold_and_nobody_is_lost(steps in steps(), seed: u64) {
            let mut d: Dispatch<u32, ()> = Dispatch::new(1, 20);
            let mut limit = 1;
            let mut random = seed;
            let mut arrived = 0;
            let mut running: Vec<(u32, Taken<()>)> = Vec::new();
            let (mut done, mut refused, mut cancelled) = (0usize, 0usize, 0usize);
            let mut waiting: std::collections::BTreeSet<(Ticket, u32)> = std::collections::BTreeSet::new();
            for step in steps {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                match step {
                    Step::Arrive => {
                        arrived += 1;
                        if let Some(slot) = d.try_take(random) {
                            prop_assert_eq!(d.waiting(), 0);
                            running.push((arrived, slot));
                        } else {
                            match d.enqueue(Tenant::NONE, arrived) {
                                Ok(ticket) => _ = waiting.insert((ticket, arrived)),
                                Err(_) => refused += 1,
                            }
                        }
                    }
                    Step::Finish(n) if !running.is_empty() => {
                        let (_, slot) = running.swap_remove(n % running.len());
                        d.release(slot.replica);
                        done += 1;
                    }
                    Step::GoBack(n) if !running.is_empty() => {
                        let (who, slot) = running.swap_remove(n % running.len());
                        d.leave(slot.replica);
                        d.requeue(slot.ticket, who);
                        waiting.insert((slot.ticket, who));
                        d.release(slot.replica);
                    }
                    Step::Cancel(n) if d.waiting() > 0 => {
                        let (ticket, who) = *waiting.iter().nth(n % d.waiting()).unwrap();
                        prop_assert_eq!(d.cancel(ticket), Some(who));
                        waiting.remove(&(ticket, who));
                        cancelled += 1;
                    }
                    Step::Join(id) => { d.join(id, (), None); }
                    Step::Leave(id) => { d.leave(id); }
                    Step::Limit(n) => { limit = n; d.set_limit(n); }
                    _ => {}
                }
                while let Some((who, slot)) = d.next(random) {
                    prop_assert_eq!(waiting.pop_first(), Some((slot.ticket, who)), "somebody was passed");
                    prop_assert!(limit == 0 || d.in_flight_at(slot.replica) <= limit);
                    running.push((who, slot));
                }
                prop_assert!(d.waiting() == 0 || d.replicas.iter().all(|r| limit > 0 && r.in_flight >= limit),
                    "somebody waits beside a free slot");
                prop_assert_eq!(d.in_flight() as usize, running.len());
                for id in 0..5 {
                    let at = running.iter().filter(|(_, s)| s.replica == id).count();
                    prop_assert_eq!(d.in_flight_at(id) as usize, at);
                }
                prop_assert_eq!(arrived as usize, running.len() + d.waiting() + done + refused + cancelled);
            }
        }
    }
}

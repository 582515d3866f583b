//! Who waits for a slot, and whose turn it is.
//!
//! Without tenants: first come, first served. With them, tenants that wait take turns, one request each (round-robin),
//! and within a tenant it is first come, first served. A tenant that begins to wait joins the next round, so it waits
//! for at most one request of every other tenant, however many of those wait; and one that comes back again and again
//! with a single request is served once a round like everybody else.
//!
//! Turns are counted in requests, not in time: how long one takes is known only afterwards.
//!
//! Pure and bounded: a tenant is remembered while it waits and no longer.

use std::collections::{BTreeMap, BTreeSet};

/// For whom a request is. The owner makes it of a name, by a hash whose key no client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(u64);

/// A request's place in the line: lower is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    number: u64,
    tenant: Tenant,
}

/// The requests of one service that wait. `W` stands for one of them.
#[derive(Debug)]
pub struct Line<W> {
    /// Without tenants, everybody; with them, those that came back: they have had their turn, and go before all.
    first: BTreeMap<Ticket, W>,
    lanes: BTreeMap<Tenant, Lane<W>>,
    /// Whose turn is when.
    turns: BTreeSet<(Turn, Tenant)>,
    /// Who waits with how many, so that the longest lane is known without a search.
    lengths: BTreeSet<(usize, Tenant)>,
    /// The round of the last turn.
    round: u64,
    /// Requests in lanes.
    in_lanes: usize,
    next_number: u64,
}

#[derive(Debug)]
struct Lane<W> {
    waiting: BTreeMap<Ticket, W>,
    turn: Turn,
}

/// In a round, the lane whose first request came first is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    round: u64,
    head: Ticket,
}

// === impl Tenant ===

impl Tenant {
    /// No tenant: the service knows none.
    pub const NONE: Self = Self(0);

    /// The tenant whose name hashes to `hash`.
    #[must_use]
    pub fn of(hash: u64) -> Self {
        // Never `NONE`, which is something else than a request without a name among those that have one.
        Self(hash | 1)
    }
}

// === impl Line ===

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self {
            first: BTreeMap::new(),
            lanes: BTreeMap::new(),
            turns: BTreeSet::new(),
            lengths: BTreeSet::new(),
            round: 0,
            in_lanes: 0,
            next_number: 0,
        }
    }
}

impl<W> Line<W> {
    /// A place for a request that did not have to wait, should it have to come back.
    pub fn ticket(&mut self, tenant: Tenant) -> Ticket {
        self.next_number += 1;
        Ticket { number: self.next_number, tenant }
    }

    /// Joins at the end of its tenant's lane.
    pub fn push(&mut self, tenant: Tenant, waiter: W) -> Ticket {
        let ticket = self.ticket(tenant);
        // Without tenants a line is one ordered map and nothing else. After a change of the configuration those with
        // and those without may wait at once; then nobody is just "first".
        if tenant == Tenant::NONE && self.lanes.is_empty() {
            self.first.insert(ticket, waiter);
            return ticket;
        }
        self.in_lanes += 1;
        if let Some(lane) = self.lanes.get_mut(&tenant) {
            let before = lane.waiting.len();
            lane.waiting.insert(ticket, waiter);
            self.lengths.remove(&(before, tenant));
            self.lengths.insert((before + 1, tenant));
        } else {
            let turn = Turn { round: self.round + 1, head: ticket };
            self.lanes.insert(tenant, Lane { waiting: BTreeMap::from([(ticket, waiter)]), turn });
            self.turns.insert((turn, tenant));
            self.lengths.insert((1, tenant));
        }
        ticket
    }

    /// Comes back to the place that it had: before all who have not had their turn yet.
    pub fn put_back(&mut self, ticket: Ticket, waiter: W) {
        self.first.insert(ticket, waiter);
    }

    /// Takes whose turn it is.
    pub fn pop(&mut self) -> Option<(Ticket, W)> {
        if let Some(first) = self.first.pop_first() {
            return Some(first);
        }
        let (turn, tenant) = self.turns.pop_first()?;
        self.round = turn.round;
        let lane = self.lanes.get_mut(&tenant).expect("who has a turn has a lane");
        let (ticket, waiter) = lane.waiting.pop_first().expect("a lane without requests is removed");
        self.in_lanes -= 1;
        let left = lane.waiting.len();
        self.lengths.remove(&(left + 1, tenant));
        if let Some((head, _)) = lane.waiting.first_key_value() {
            lane.turn = Turn { round: turn.round + 1, head: *head };
            self.turns.insert((lane.turn, tenant));
            self.lengths.insert((left, tenant));
        } else {
            self.lanes.remove(&tenant);
        }
        Some((ticket, waiter))
    }

    /// Leaves; `None` when it is not in the line (any more).
    pub fn remove(&mut self, ticket: Ticket) -> Option<W> {
        if let Some(waiter) = self.first.remove(&ticket) {
            return Some(waiter);
        }
        let tenant = ticket.tenant;
        let lane = self.lanes.get_mut(&tenant)?;
        let waiter = lane.waiting.remove(&ticket)?;
        self.in_lanes -= 1;
        let left = lane.waiting.len();
        self.lengths.remove(&(left + 1, tenant));
        if left > 0 {
            self.lengths.insert((left, tenant));
        } else {
            self.turns.remove(&(lane.turn, tenant));
            self.lanes.remove(&tenant);
        }
        Some(waiter)
    }

    /// Makes room for a request of `tenant` at the cost of who has the most: the newest request of the longest lane
    /// leaves, if that lane would still be at least as long as `tenant`'s. It has waited least, and its tenant keeps
    /// no less of the line than anybody else.
    ///
    /// Without this a flood would not have to win turns: it would keep the line full, and everybody else out of it.
    pub fn displace(&mut self, tenant: Tenant) -> Option<(Ticket, W)> {
        let (most, longest) = *self.lengths.last()?;
        let own = self.lanes.get(&tenant).map_or(0, |lane| lane.waiting.len());
        if tenant == Tenant::NONE || own + 1 >= most {
            return None;
        }
        let (newest, _) = self.lanes.get(&longest)?.waiting.last_key_value()?;
        let newest = *newest;
        self.remove(newest).map(|waiter| (newest, waiter))
    }

    /// What stands for a waiting request.
    pub fn get_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        if let Some(waiter) = self.first.get_mut(&ticket) {
            return Some(waiter);
        }
        self.lanes.get_mut(&ticket.tenant)?.waiting.get_mut(&ticket)
    }

    /// Empties it.
    pub fn take_all(&mut self) -> Vec<(Ticket, W)> {
        let first = std::mem::take(&mut self.first);
        let lanes = std::mem::take(&mut self.lanes);
        self.turns.clear();
        self.lengths.clear();
        self.in_lanes = 0;
        first.into_iter().chain(lanes.into_values().flat_map(|lane| lane.waiting)).collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.first.len() + self.in_lanes
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty() && self.in_lanes == 0
    }

    /// Tenants that wait.
    pub fn tenants(&self) -> usize {
        self.lanes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FLOOD: Tenant = Tenant(1);
    const QUIET: Tenant = Tenant(3);
    const OTHER: Tenant = Tenant(5);

    fn order(line: &mut Line<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| line.pop()).map(|(_, who)| who).collect()
    }

    #[test]
    fn tenants_take_turns_and_each_is_first_come_first_served() {
        let mut line = Line::default();
        for who in ["f1", "f2", "f3"] {
            line.push(FLOOD, who);
        }
        line.push(QUIET, "q1");
        line.push(QUIET, "q2");
        line.push(OTHER, "o1");
        assert_eq!(order(&mut line), ["f1", "q1", "o1", "f2", "q2", "f3"]);
        assert_eq!((line.len(), line.tenants(), line.turns.len(), line.lengths.len()), (0, 0, 0, 0));
    }

    #[test]
    fn one_at_a_time_is_served_once_a_round_too() {
        let mut line = Line::default();
        for who in ["f1", "f2"] {
            line.push(FLOOD, who);
        }
        line.push(QUIET, "q");
        let mut served = Vec::new();
        for _ in 0..4 {
            let (_, who) = line.pop().unwrap();
            served.push(who);
            // Back at once, as a client in a loop: it must not push the others aside.
            line.push(if who == "q" { QUIET } else { FLOOD }, who);
        }
        assert_eq!(served, ["f1", "q", "f2", "q"]);
    }

    #[test]
    fn who_comes_back_goes_before_all() {
        let mut line = Line::default();
        let back = line.push(FLOOD, "back");
        line.push(QUIET, "q");
        assert_eq!(line.pop().unwrap().1, "back");
        line.push(FLOOD, "f");
        line.put_back(back, "back");
        assert_eq!(order(&mut line), ["back", "q", "f"]);
    }

    #[test]
    fn a_full_line_has_room_for_who_has_less() {
        let mut line = Line::default();
        for who in ["f1", "f2", "f3"] {
            line.push(FLOOD, who);
        }
        assert_eq!(line.displace(FLOOD), None, "a flood does not make room for itself");
        assert_eq!(line.displace(QUIET).unwrap().1, "f3");
        line.push(QUIET, "q1");
        assert_eq!(line.displace(QUIET), None, "two would be more than the other has left");
        assert_eq!(order(&mut line), ["f1", "q1", "f2"]);
    }

    #[test]
    fn without_tenants_nobody_makes_room() {
        let mut line = Line::default();
        line.push(Tenant::NONE, "a");
        line.push(Tenant::NONE, "b");
        assert_eq!(line.displace(Tenant::NONE), None);
        assert_eq!(line.displace(QUIET), None, "who came before there were tenants stays");
        assert_eq!(order(&mut line), ["a", "b"]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u64),
        Pop,
        Remove(usize),
        Displace(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            5 => (0u64..4).prop_map(Step::Push),
            4 => Just(Step::Pop),
            1 => (0usize..64).prop_map(Step::Remove),
            1 => (0u64..4).prop_map(Step::Displace),
        ];
        prop::collection::vec(step, 1..300)
    }

    proptest! {
        /// Against a model: lists per tenant, and how often each was served while all of a pair waited.
        #[test]
        fn turns_are_fair_and_nobody_is_lost(steps in steps()) {
            let mut line: Line<u64> = Line::default();
            let tenant = |t: u64| Tenant::of(t * 2);
            let mut model: [Vec<(Ticket, u64)>; 4] = Default::default();
            // `served[a][b]`: how often `a` was served since `a` and `b` both wait without a pause.
            let mut served = [[0i64; 4]; 4];
            let mut next = 0;
            for step in steps {
                match step {
                    Step::Push(t) => {
                        next += 1;
                        let ticket = line.push(tenant(t), next);
                        model[t as usize].push((ticket, next));
                    }
                    Step::Pop => {
                        let popped = line.pop();
                        prop_assert_eq!(popped.is_none(), model.iter().all(Vec::is_empty), "work-conserving");
                        if let Some((ticket, who)) = popped {
                            let t = model.iter().position(|m| m.first() == Some(&(ticket, who)));
                            let t = t.expect("the first of its tenant");
                            model[t].remove(0);
                            served[t].iter_mut().for_each(|n| *n += 1);
                        }
                    }
                    Step::Remove(n) => {
                        let all: Vec<_> = model.iter().flatten().copied().collect();
                        if let Some(&(ticket, who)) = all.get(n % all.len().max(1)) {
                            prop_assert_eq!(line.remove(ticket), Some(who));
                            prop_assert_eq!(line.remove(ticket), None);
                            for m in &mut model {
                                m.retain(|w| w.1 != who);
                            }
                        }
                    }
                    Step::Displace(t) => {
                        let most = model.iter().map(Vec::len).max().unwrap_or(0);
                        let own = model[t as usize].len();
                        let gone = line.displace(tenant(t));
                        prop_assert_eq!(gone.is_some(), own + 1 < most);
                        if let Some((_, who)) = gone {
                            let from = model.iter().position(|m| m.last().is_some_and(|w| w.1 == who));
                            let from = from.expect("the newest of its tenant");
                            prop_assert_eq!(model[from].len(), most);
                            model[from].pop();
                        }
                    }
                }
                for a in 0..4 {
                    for b in 0..4 {
                        if model[a].is_empty() || model[b].is_empty() {
                            (served[a][b], served[b][a]) = (0, 0);
                        }
                        prop_assert!((served[a][b] - served[b][a]).abs() <= 2, "{a} and {b}: {served:?}");
                    }
                }
                let waiting = model.iter().map(Vec::len).sum::<usize>();
                let tenants = model.iter().filter(|m| !m.is_empty()).count();
                prop_assert_eq!((line.len(), line.is_empty()), (waiting, waiting == 0));
                prop_assert_eq!((line.tenants(), line.turns.len(), line.lengths.len()), (tenants, tenants, tenants));
            }
        }
    }
}

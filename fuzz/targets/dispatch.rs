//! Invariants 1 and 2: no replica has more than its limit, nobody waits beside a free slot, nobody is lost, and whose
//! turn it is is fair, whatever joins, leaves, ends and changes.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use pilotlight::policy::dispatch::{Dispatch, Taken};
use pilotlight::policy::line::{Tenant, Ticket};

#[derive(Arbitrary, Debug)]
enum Step {
    Arrive {
        tenant: u8,
    },
    Finish(u8),
    /// Its replica refused it, or busied itself otherwise.
    GoBack {
        which: u8,
        leaves: bool,
    },
    Cancel(u8),
    Join {
        id: u8,
        own_limit: Option<u8>,
    },
    Leave(u8),
    Limit(u8),
    KeepLimits,
    QueueLimit(u8),
    Answered {
        id: u8,
        millis: u16,
    },
    RefuseAll,
}

#[derive(Debug)]
struct Waiting {
    who: u32,
    ticket: Ticket,
    tenant: u8,
    /// It had its turn before.
    back: bool,
    /// Turns of each other tenant since it was first of its own.
    passed: [u8; TENANTS],
}

const TENANTS: usize = 4;
const REPLICAS: u8 = 5;

/// Limits of replicas by the book: who is in the set, and with what limit of its own.
#[derive(Debug, Default)]
struct Set {
    members: Vec<(u64, Option<u32>)>,
    limit: u32,
}

// === impl Set ===

impl Set {
    fn limit_of(&self, id: u64) -> Option<u32> {
        let own = self.members.iter().find(|(member, _)| *member == id)?.1;
        Some(own.unwrap_or(self.limit))
    }
}

fn tenant(n: u8) -> Tenant {
    // 0 is none, which a service without tenants has for all.
    if n == 0 { Tenant::NONE } else { Tenant::of(u64::from(n) << 8) }
}

fuzz_target!(|input: (u64, bool, Vec<Step>)| {
    let (mut random, with_tenants, steps) = input;
    let mut dispatch: Dispatch<u32, ()> = Dispatch::new(1, 20);
    let mut set = Set { limit: 1, ..Set::default() };
    let mut queue_limit = 20;
    let mut running: Vec<(u32, u8, Taken<()>)> = Vec::new();
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut arrived = 0;
    for step in steps.iter().take(300) {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        match step {
            Step::Arrive { tenant: of } => {
                let of = if with_tenants { 1 + of % (TENANTS as u8 - 1) } else { 0 };
                arrived += 1;
                let who = arrived;
                if let Some(slot) = dispatch.try_take(random) {
                    assert!(waiting.is_empty(), "it passed those who wait");
                    running.push((who, of, slot));
                } else {
                    let full = waiting.len() >= queue_limit;
                    assert_eq!(dispatch.is_full(), full);
                    if full && let Some((ticket, out)) = dispatch.displace(tenant(of)) {
                        let at = waiting.iter().position(|w| w.ticket == ticket).expect("it waited");
                        let gone = waiting.swap_remove(at);
                        assert_eq!(gone.who, out);
                        let count = |of: u8| waiting.iter().filter(|w| w.tenant == of && !w.back).count();
                        assert!(
                            gone.tenant != of && count(gone.tenant) > count(of),
                            "room at the cost of the poor"
                        );
                    }
                    match dispatch.enqueue(tenant(of), who) {
                        Ok(ticket) => {
                            assert!(waiting.len() < queue_limit);
                            let passed = [0; TENANTS];
                            waiting.push(Waiting { who, ticket, tenant: of, back: false, passed });
                        }
                        Err(back) => assert!(back == who && waiting.len() >= queue_limit),
                    }
                }
            }
            Step::Finish(n) if !running.is_empty() => {
                let (_, _, slot) = running.swap_remove(usize::from(*n) % running.len());
                dispatch.release(slot.replica);
            }
            Step::GoBack { which, leaves } if !running.is_empty() => {
                let (who, of, slot) = running.swap_remove(usize::from(*which) % running.len());
                if *leaves && dispatch.leave(slot.replica).is_some() {
                    set.members.retain(|(id, _)| *id != slot.replica);
                }
                dispatch.requeue(slot.ticket, who);
                dispatch.release(slot.replica);
                let passed = [0; TENANTS];
                waiting.push(Waiting { who, ticket: slot.ticket, tenant: of, back: true, passed });
            }
            Step::Cancel(n) if !waiting.is_empty() => {
                let gone = waiting.swap_remove(usize::from(*n) % waiting.len());
                assert_eq!(dispatch.waiter_mut(gone.ticket).copied(), Some(gone.who));
                assert_eq!(dispatch.cancel(gone.ticket), Some(gone.who));
                assert_eq!(dispatch.cancel(gone.ticket), None);
            }
            Step::Join { id, own_limit } => {
                let (id, own) = (u64::from(id % REPLICAS), own_limit.map(|limit| u32::from(limit % 4)));
                dispatch.join(id, (), own);
                if set.limit_of(id).is_none() {
                    set.members.push((id, own));
                }
            }
            Step::Leave(id) => {
                let id = u64::from(id % REPLICAS);
                assert_eq!(dispatch.leave(id).is_some(), set.limit_of(id).is_some());
                set.members.retain(|(member, _)| *member != id);
            }
            Step::Limit(limit) => {
                set.limit = u32::from(limit % 4);
                dispatch.set_limit(set.limit);
            }
            Step::KeepLimits => {
                dispatch.keep_limits();
                let limit = set.limit;
                set.members.iter_mut().for_each(|(_, own)| *own = own.or(Some(limit)));
            }
            Step::QueueLimit(limit) => {
                queue_limit = usize::from(limit % 32);
                dispatch.set_queue_limit(queue_limit);
            }
            Step::Answered { id, millis } => {
                let took = std::time::Duration::from_millis(u64::from(*millis));
                dispatch.answered(u64::from(id % REPLICAS), took);
            }
            Step::RefuseAll => {
                let mut refused: Vec<u32> = dispatch.take_waiting().into_iter().map(|(_, who)| who).collect();
                let mut expected: Vec<u32> = waiting.drain(..).map(|waiter| waiter.who).collect();
                (refused.sort_unstable(), expected.sort_unstable());
                assert_eq!(refused, expected);
            }
            Step::Finish(_) | Step::GoBack { .. } | Step::Cancel(_) => {}
        }
        while let Some((who, slot)) = dispatch.next(random) {
            let at = waiting.iter().position(|waiter| waiter.who == who).expect("it waited");
            let next = waiting.swap_remove(at);
            assert_eq!(next.ticket, slot.ticket);
            check_turn(&next, &mut waiting, with_tenants);
            let limit = set.limit_of(slot.replica).expect("only members get anything");
            assert!(limit == 0 || dispatch.in_flight_at(slot.replica) <= limit, "more than its limit");
            running.push((who, next.tenant, slot));
        }
        let full = |(id, own): &(u64, Option<u32>)| {
            let limit = own.unwrap_or(set.limit);
            limit > 0 && dispatch.in_flight_at(*id) >= limit
        };
        assert!(waiting.is_empty() || set.members.iter().all(full), "somebody waits beside a free slot");
        assert_eq!(dispatch.waiting(), waiting.len());
        assert_eq!(dispatch.in_flight() as usize, running.len());
        assert_eq!(dispatch.replicas(), set.members.len());
        for id in 0..u64::from(REPLICAS) {
            let at = running.iter().filter(|(_, _, slot)| slot.replica == id).count();
            assert_eq!(dispatch.in_flight_at(id) as usize, at);
        }
    }
});

/// Who came back goes first; then tenants take turns, and within one it is first come, first served.
fn check_turn(next: &Waiting, waiting: &mut [Waiting], with_tenants: bool) {
    if next.back || !with_tenants {
        let rivals = waiting.iter().filter(|other| other.back == next.back || !with_tenants);
        assert!(rivals.into_iter().all(|other| other.ticket > next.ticket), "an earlier one was passed");
        return;
    }
    assert!(waiting.iter().all(|other| !other.back), "who came back was passed");
    let same = waiting.iter().filter(|other| other.tenant == next.tenant);
    assert!(same.into_iter().all(|other| other.ticket > next.ticket), "an earlier one of its own was passed");
    for of in 0..TENANTS as u8 {
        // The first of every other tenant sees one turn go by.
        let lane = waiting.iter_mut().filter(|other| other.tenant == of && of != next.tenant);
        if let Some(first) = lane.min_by_key(|other| other.ticket) {
            let seen = &mut first.passed[usize::from(next.tenant)];
            *seen += 1;
            assert!(*seen <= 2, "{next:?} again, before {first:?}");
        }
    }
}

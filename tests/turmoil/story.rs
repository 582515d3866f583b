//! What happened, and what of it must not have.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::activator::service::Service;

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    /// The whole answer, and the right one.
    Right,
    /// An error made by one of the hops: status and code.
    Refused(u16, String),
    /// The answer broke off, visibly.
    Cut,
    /// Anything else.
    Wrong(String),
}

/// Seen from outside, by all hosts together.
#[derive(Clone, Default)]
pub(super) struct Story(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// Who executed it, and when.
    executed: BTreeMap<String, Vec<(&'static str, Duration)>>,
    outcomes: BTreeMap<String, (Outcome, Duration)>,
    sent: Vec<String>,
    /// Of the activator, and of each queue-proxy that was ever started.
    services: Vec<Arc<Service>>,
}

// === impl Story ===

impl Story {
    pub(super) fn sent(&self, id: &str) {
        self.0.lock().sent.push(id.to_owned());
    }

    pub(super) fn executed(&self, id: &str, app: &'static str) {
        self.0.lock().executed.entry(id.to_owned()).or_default().push((app, now()));
    }

    pub(super) fn ended(&self, id: &str, outcome: Outcome) {
        self.0.lock().outcomes.insert(id.to_owned(), (outcome, now()));
    }

    pub(super) fn has(&self, service: &Arc<Service>) {
        self.0.lock().services.push(service.clone());
    }

    /// Neither hop holds a slot or a place in line.
    pub(super) fn is_quiet(&self) -> bool {
        self.0
            .lock()
            .services
            .iter()
            .all(|service| service.line.in_flight() == 0 && service.line.waiting() == 0)
    }

    pub(super) fn outcomes(&self, which: impl Fn(&Outcome) -> bool) -> usize {
        self.0.lock().outcomes.values().filter(|(outcome, _)| which(outcome)).count()
    }

    /// Requests that `app` got after `from`.
    pub(super) fn executed_at(&self, app: &str, from: Duration) -> usize {
        let seen = self.0.lock();
        seen.executed.values().flatten().filter(|(by, at)| *by == app && *at > from).count()
    }

    /// All of it, to compare.
    pub(super) fn told(&self) -> String {
        let seen = self.0.lock();
        let mut told = String::new();
        for (id, (outcome, at)) in &seen.outcomes {
            let _ = writeln!(told, "{id}: {outcome:?} at {at:?}, {:?}", seen.executed.get(id));
        }
        told
    }

    /// What must not be, whatever the network does.
    pub(super) fn wrong(&self) -> Vec<String> {
        let seen = self.0.lock();
        let mut wrong = Vec::new();
        for id in &seen.sent {
            let runs = seen.executed.get(id).map_or(0, Vec::len);
            let outcome = seen.outcomes.get(id).map(|(outcome, _)| outcome);
            let what = || format!("{id}: {outcome:?}, executed {:?}", seen.executed.get(id));
            match outcome {
                _ if runs > 1 => wrong.push(format!("doubled: {}", what())),
                None => wrong.push(format!("no end: {}", what())),
                Some(Outcome::Wrong(_)) => wrong.push(what()),
                Some(Outcome::Cut) if runs != 1 => {
                    wrong.push(format!("no answer that could be cut: {}", what()));
                }
                Some(Outcome::Right) if runs != 1 => wrong.push(format!("answered by nobody: {}", what())),
                Some(_) => {}
            }
        }
        for (n, service) in seen.services.iter().enumerate() {
            let (in_flight, waiting) = (service.line.in_flight(), service.line.waiting());
            if (in_flight, waiting) != (0, 0) {
                wrong.push(format!("service {n}: {in_flight} in flight, {waiting} waiting at the end"));
            }
        }
        wrong
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.0.lock();
        let mut counts = BTreeMap::<&Outcome, usize>::new();
        for (outcome, _) in seen.outcomes.values() {
            *counts.entry(outcome).or_default() += 1;
        }
        let end = seen.outcomes.values().map(|(_, at)| *at).max().unwrap_or_default();
        write!(f, "{} sent, {counts:?}, in {end:?}", seen.sent.len())
    }
}

fn now() -> Duration {
    turmoil::sim_elapsed().expect("in a simulation")
}

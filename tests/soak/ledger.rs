//! Every request and what became of it, and which of that is allowed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::site::{EXTRA, LIMIT, SERVICES, STEADY, Site, Turmoil};
use crate::support::Record;

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KeepAlive,
    Pipelined,
    Http10,
    H2,
    GrpcUnary,
    GrpcStream,
    Events,
    WebSocket,
    Upgrade,
}

/// What a client got.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// One answer, complete, and the one that was asked for.
    Right,
    /// An answer of pilotlight's: its code, and what it says.
    Refused(String, String),
    /// The connection or stream ended in a way that says: this is not all.
    Cut(String),
    /// An answer before it on the same connection was cut. Never sent on.
    Behind,
    /// A tunnel was told that its replica leaves.
    Told,
    /// Nobody is there to get it.
    Vanished,
    /// A wrong answer, part of one that looks complete, or none.
    Wrong(String),
}

/// All requests.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: Arc<Mutex<Vec<Entry>>>,
}

struct Entry {
    kind: Kind,
    service: &'static str,
    outcome: Option<Outcome>,
}

/// A request that is under way.
pub(crate) struct Ticket {
    entries: Arc<Mutex<Vec<Entry>>>,
    number: usize,
    pub(crate) id: String,
}

/// One execution, as an app recorded it.
struct Execution {
    service: &'static str,
    pid: u32,
}

// === impl Ledger ===

impl Ledger {
    /// A request is about to be sent.
    pub(crate) fn begin(&self, kind: Kind, service: &'static str) -> Ticket {
        let mut entries = self.entries.lock();
        entries.push(Entry { kind, service, outcome: None });
        let number = entries.len() - 1;
        Ticket { entries: self.entries.clone(), number, id: number.to_string() }
    }

    /// In a line.
    pub(crate) fn progress(&self, turmoil: &Turmoil) -> String {
        let entries = self.entries.lock();
        let mut by_kind = BTreeMap::<Kind, usize>::new();
        let (mut vanished, mut waiting, mut errors) = (0, 0, BTreeMap::<String, usize>::new());
        for entry in entries.iter() {
            match &entry.outcome {
                None => waiting += 1,
                Some(Outcome::Right) => *by_kind.entry(entry.kind).or_default() += 1,
                Some(Outcome::Vanished) => vanished += 1,
                Some(other) => *errors.entry(other.name()).or_default() += 1,
            }
        }
        format!(
            "right {by_kind:?}; under way {waiting}; vanished {vanished}; {errors:?}; kills {}, edits {}, naps {}",
            turmoil.kills.len(),
            turmoil.edits,
            turmoil.naps
        )
    }

    /// Kinds down, outcomes across.
    pub(crate) fn table(&self, turmoil: &Turmoil) -> String {
        let entries = self.entries.lock();
        let mut cells = BTreeMap::<(Kind, String), usize>::new();
        let (mut kinds, mut columns) = (BTreeMap::<Kind, usize>::new(), BTreeMap::<String, usize>::new());
        for entry in entries.iter() {
            let column = entry.outcome.as_ref().map_or_else(|| "no end".to_owned(), Outcome::name);
            *kinds.entry(entry.kind).or_default() += 1;
            *columns.entry(column.clone()).or_default() += 1;
            *cells.entry((entry.kind, column)).or_default() += 1;
        }
        let mut text = format!("{:12}{:>9}", "", "sent");
        for column in columns.keys() {
            let _ = write!(text, "{column:>13}");
        }
        for (kind, sent) in &kinds {
            let _ = write!(text, "\n{:12}{sent:>9}", format!("{kind:?}"));
            for column in columns.keys() {
                let _ = write!(text, "{:>13}", cells.get(&(*kind, column.clone())).copied().unwrap_or(0));
            }
        }
        let _ = write!(text, "\n{:12}{:>9}", "all", entries.len());
        for n in columns.values() {
            let _ = write!(text, "{n:>13}");
        }
        let (kills, farewells) = (turmoil.kills.len(), turmoil.farewells);
        let _ = write!(
            text,
            "\n{kills} kills, {} edits ({farewells} that end replicas), {} times at zero and back",
            turmoil.edits, turmoil.naps
        );
        text
    }

    /// Compares with what the apps recorded. Returns what must not be, in words.
    pub(crate) fn wrong(&self, site: &Site) -> Vec<String> {
        let entries = self.entries.lock();
        let turmoil = site.turmoil.lock();
        let mut wrong = Vec::new();
        let executions = executions(site, &entries, &mut wrong);
        for number in executions.keys().filter(|number| **number >= entries.len()) {
            wrong.push(format!("{number}: executed, but nobody sent it"));
        }
        let mut failed = BTreeMap::<&str, Vec<String>>::new();
        for (number, entry) in entries.iter().enumerate() {
            let ran = executions.get(&number).map_or(&[][..], Vec::as_slice);
            let what = || {
                let pids: Vec<u32> = ran.iter().map(|run| run.pid).collect();
                format!(
                    "{number}: {:?} to {}, executed by {pids:?}: {:?}",
                    entry.kind, entry.service, entry.outcome
                )
            };
            if ran.len() > 1 {
                wrong.push(format!("doubled: {}", what()));
            }
            if ran.iter().any(|run| run.service != entry.service) {
                wrong.push(format!("went astray: {}", what()));
            }
            match verdict(entry, ran, &turmoil) {
                Verdict::Sound => {}
                Verdict::ByKill => failed.entry(entry.service).or_default().push(what()),
                Verdict::Wrong(why) => wrong.push(format!("{why}: {}", what())),
            }
        }
        // No more than held a slot there.
        for (service, failed) in failed {
            let kills = turmoil.kills.iter().filter(|kill| kill.service == service).count();
            if failed.len() > kills * LIMIT as usize {
                wrong.push(format!(
                    "{service}: {} failed of {kills} kills:\n  {}",
                    failed.len(),
                    failed.join("\n  ")
                ));
            }
        }
        wrong
    }
}

enum Verdict {
    Sound,
    /// The replica was killed under it: allowed for as many as were there.
    ByKill,
    Wrong(&'static str),
}

fn verdict(entry: &Entry, ran: &[Execution], turmoil: &Turmoil) -> Verdict {
    let Some(outcome) = &entry.outcome else { return Verdict::Wrong("no answer") };
    let by_kill = || {
        let killed = || turmoil.kills.iter().filter(|kill| kill.service == entry.service);
        let pids: HashSet<u32> = killed().flat_map(|kill| kill.pids.iter().copied()).collect();
        match ran {
            [] if killed().next().is_some() => Verdict::ByKill,
            [run] if pids.contains(&run.pid) => Verdict::ByKill,
            _ => Verdict::Wrong("failed without a reason"),
        }
    };
    match outcome {
        Outcome::Right if ran.len() == 1 => Verdict::Sound,
        Outcome::Right => Verdict::Wrong("answered, but not executed once"),
        Outcome::Vanished => Verdict::Sound,
        Outcome::Behind if ran.is_empty() => Verdict::Sound,
        Outcome::Behind => Verdict::Wrong("executed, though its connection was over"),
        // Its replicas leave one by one: scaled down, replaced.
        Outcome::Told if entry.service != STEADY => Verdict::Sound,
        Outcome::Told => Verdict::Wrong("sent away, but nobody left"),
        Outcome::Refused(code, _)
            if entry.service == EXTRA && ["404", "503", "grpc 12", "grpc 14"].contains(&code.as_str()) =>
        {
            if ran.is_empty() {
                Verdict::Sound
            } else {
                Verdict::Wrong("refused, but executed")
            }
        }
        Outcome::Refused(code, _) if ["502", "grpc 14"].contains(&code.as_str()) => by_kill(),
        Outcome::Refused(..) => Verdict::Wrong("refused"),
        Outcome::Cut(_) => by_kill(),
        Outcome::Wrong(_) => Verdict::Wrong("wrong"),
    }
}

/// Number of the request → its executions.
fn executions(site: &Site, entries: &[Entry], wrong: &mut Vec<String>) -> HashMap<usize, Vec<Execution>> {
    let mut executions = HashMap::<usize, Vec<Execution>>::new();
    for service in SERVICES {
        let Ok(file) = std::fs::File::open(site.lab.path(&format!("{service}.jsonl"))) else { continue };
        // What each process is at, in the order in which it wrote.
        let mut under_way = HashMap::<u32, HashSet<usize>>::new();
        for line in BufReader::new(file).lines() {
            let record: Record = serde_json::from_str(&line.unwrap()).unwrap();
            let Some(number) = record.id.as_ref().map(|id| id.parse().unwrap()) else { continue };
            let at = under_way.entry(record.pid).or_default();
            match record.event.as_str() {
                "request" => {
                    at.insert(number);
                    let run = Execution { service, pid: record.pid };
                    executions.entry(number).or_default().push(run);
                }
                "done" => {
                    at.remove(&number);
                }
                // A request whose client has gone is over for us when its connection is closed; the app reads that an
                // instant later, and maybe after the next request.
                "violation" if at.iter().filter(|n| !has_gone(entries, **n)).count() > LIMIT as usize => {
                    wrong.push(format!("{service}: more than {LIMIT} in flight: {at:?}, {record:?}"));
                }
                _ => {}
            }
        }
    }
    executions
}

/// Its client vanished, or was cut off.
fn has_gone(entries: &[Entry], number: usize) -> bool {
    let outcome = entries.get(number).and_then(|entry| entry.outcome.as_ref());
    matches!(outcome, Some(Outcome::Vanished | Outcome::Cut(_) | Outcome::Told))
}

// === impl Ticket ===

impl Ticket {
    /// It has come to its end.
    pub(crate) fn end(self, outcome: Outcome) {
        self.entries.lock()[self.number].outcome = Some(outcome);
    }
}

// === impl Outcome ===

impl Outcome {
    fn name(&self) -> String {
        match self {
            Self::Right => "right".into(),
            Self::Refused(code, _) => code.clone(),
            Self::Cut(_) => "cut".into(),
            Self::Behind => "behind a cut".into(),
            Self::Told => "told to go".into(),
            Self::Vanished => "vanished".into(),
            Self::Wrong(_) => "WRONG".into(),
        }
    }
}

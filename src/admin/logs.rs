//! `/api/services/{ns}/{name}/logs`: what replicas printed, those that are gone too.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Shared;
use super::error::AdminError;
use crate::clock;
use crate::fleet::Member;
use crate::runtime::process::logs::{Line, LogSink, TAIL_LINES};

/// Lines of each replica unless the query says otherwise.
const TAIL: usize = 100;
/// How often a followed log is looked at, and how often new replicas are looked for.
const FOLLOW_EVERY: Duration = Duration::from_millis(100);
const TEXT: &str = "text/plain; charset=utf-8";

/// The query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// One replica; all of them otherwise.
    replica: Option<String>,
    /// Lines of each; at most what is kept in memory.
    tail: Option<usize>,
    /// Whether to go on with what is printed from now on.
    #[serde(default)]
    follow: bool,
}

/// One replica's log.
#[derive(Debug)]
struct Source {
    id: String,
    /// For people: what it is doing.
    about: String,
    live: bool,
    /// `None` before there is a process.
    log: Option<LogSink>,
}

/// Follows the logs of a service for one reader.
struct Follower {
    shared: Shared,
    member: Member,
    wanted: Wanted,
    taps: BTreeMap<String, Tap>,
    /// Whose lines came last.
    shown: Option<String>,
    _place: OwnedSemaphorePermit,
}

/// Where a reader is in one log.
struct Tap {
    log: LogSink,
    lines: Receiver<Line>,
    /// The number of the first line that was not shown.
    next: u64,
}

/// Past replicas' logs first, then those that run; with a header line each unless one was asked for.
pub(super) async fn logs(
    State(shared): State<Shared>,
    Path(path): Path<(String, String)>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, AdminError> {
    let Query(wanted) = wanted.map_err(|rejection| AdminError::Query(rejection.body_text()))?;
    let member = shared.member(&path)?;
    let sources = sources(&member, wanted.replica.as_deref());
    if let (Some(replica), true) = (&wanted.replica, sources.is_empty()) {
        return Err(AdminError::NoReplica(member.managed.service.key.clone(), replica.clone()));
    }
    if !wanted.follow {
        let text = past(&member, &wanted, &sources);
        return Ok(([(CONTENT_TYPE, TEXT)], text).into_response());
    }
    let place = shared.stream()?;
    let (sender, receiver) = mpsc::channel(1);
    let taps = BTreeMap::new();
    let follower = Follower { shared, member, wanted, taps, shown: None, _place: place };
    tokio::spawn(follower.run(sources, sender));
    let chunks = stream::unfold(receiver, |mut receiver| async move {
        let chunk: Bytes = receiver.recv().await?;
        Some((Ok::<_, Infallible>(chunk), receiver))
    });
    Ok(([(CONTENT_TYPE, TEXT)], Body::from_stream(chunks)).into_response())
}

fn past(member: &Member, wanted: &Wanted, sources: &[Source]) -> String {
    let mut text = if wanted.replica.is_none() { trouble(member, clock::now()) } else { String::new() };
    for source in sources {
        if wanted.replica.is_none() {
            header(&mut text, source);
        }
        for line in source.log.iter().flat_map(|log| log.tail(wanted.lines())) {
            text.push_str(&line.text);
            text.push('\n');
        }
    }
    text
}

/// Logs of those that are gone, oldest first, then of those that are there.
fn sources(member: &Member, only: Option<&str>) -> Vec<Source> {
    let replicas = &member.managed.replicas;
    // In this order: one that goes meanwhile is seen twice, not never.
    let (live, gone) = (replicas.view(), replicas.past_logs());
    let is_gone = |id: &str| gone.iter().any(|(other, _)| other == id);
    let live: Vec<Source> = live
        .into_iter()
        .filter(|replica| !is_gone(&replica.id))
        .map(|replica| {
            let phase = serde_json::to_value(replica.phase).unwrap_or_default();
            let mut about = phase.as_str().unwrap_or_default().to_owned();
            if replica.pid > 0 {
                let _ = write!(about, ", process {}, port {}", replica.pid, replica.port);
            }
            Source { id: replica.id, about, live: true, log: replica.log }
        })
        .collect();
    gone.into_iter()
        .map(|(id, log)| Source { id, about: "gone".into(), live: false, log: Some(log) })
        .chain(live)
        .filter(|source| only.is_none_or(|id| id == source.id))
        .collect()
}

/// Why the service cannot start, which no replica's log may say.
fn trouble(member: &Member, now: Instant) -> String {
    let service = &member.managed.service;
    let Some(trouble) = service.trouble() else { return String::new() };
    let wait = trouble.until.saturating_duration_since(now).as_secs_f64();
    let (key, failures) = (&service.key, trouble.failures);
    format!(
        "==> {key}: {failures} failed starts in a row, next attempt in {wait:.1} s <==\n{}\n",
        trouble.reason
    )
}

/// As tail(1) has it.
fn header(text: &mut String, source: &Source) {
    if !text.is_empty() {
        text.push('\n');
    }
    let _ = writeln!(text, "==> {} ({}) <==", source.id, source.about);
}

// === impl Wanted ===

impl Wanted {
    fn lines(&self) -> usize {
        self.tail.unwrap_or(TAIL).min(TAIL_LINES)
    }
}

// === impl Follower ===

impl Follower {
    /// Ends with the reader, the program, the service, or the one replica that was asked for.
    async fn run(mut self, first: Vec<Source>, reader: mpsc::Sender<Bytes>) {
        let mut text =
            if self.wanted.replica.is_none() { trouble(&self.member, clock::now()) } else { String::new() };
        self.read(&mut text, first, self.wanted.lines());
        loop {
            if !text.is_empty() {
                let chunk = Bytes::from(std::mem::take(&mut text));
                tokio::select! {
                    sent = reader.send(chunk) => if sent.is_err() { return },
                    () = self.shared.drain.begun() => return,
                }
            }
            // Asked before the wait: what it said last has time to arrive.
            let ends = self.ends();
            tokio::select! {
                () = self.shared.drain.begun() => return,
                () = reader.closed() => return,
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
            }
            let sources = sources(&self.member, self.wanted.replica.as_deref());
            // One that came meanwhile is shown from its beginning.
            self.read(&mut text, sources, TAIL_LINES);
            if ends {
                let _ = reader.send(text.into()).await;
                return;
            }
        }
    }

    /// Takes what is new in `sources`; of those that are, `tail` lines.
    fn read(&mut self, text: &mut String, sources: Vec<Source>, tail: usize) {
        self.taps.retain(|id, _| sources.iter().any(|source| source.id == *id));
        for source in sources {
            let Some(log) = &source.log else { continue };
            let mut lines = String::new();
            if let Some(tap) = self.taps.get_mut(&source.id) {
                tap.read(&mut lines);
            } else {
                let tap = Tap::open(log.clone(), tail, &mut lines);
                self.taps.insert(source.id.clone(), tap);
            }
            if lines.is_empty() {
                continue;
            }
            if self.wanted.replica.is_none() && self.shown.as_ref() != Some(&source.id) {
                header(text, &source);
                self.shown = Some(source.id);
            }
            text.push_str(&lines);
        }
    }

    fn ends(&self) -> bool {
        let only = self.wanted.replica.as_deref();
        let key = &self.member.managed.service.key;
        let may_come = only.is_none() && self.shared.fleet.members().contains_key(key);
        !may_come && !sources(&self.member, only).iter().any(|source| source.live)
    }
}

// === impl Tap ===

impl Tap {
    /// Shows the last `tail` finished lines; the unfinished one comes when it is finished.
    fn open(log: LogSink, tail: usize, text: &mut String) -> Self {
        let mut tap = Self { lines: log.follow(), next: 0, log };
        tap.catch_up(tail, text);
        tap
    }

    fn read(&mut self, text: &mut String) {
        loop {
            match self.lines.try_recv() {
                Ok(line) => self.show(&line, text),
                Err(TryRecvError::Lagged(_)) => {
                    let before = self.next;
                    let mut lines = String::new();
                    let first = self.catch_up(TAIL_LINES, &mut lines).unwrap_or(before);
                    let missed = first.saturating_sub(before);
                    if missed > 0 {
                        let _ = writeln!(
                            text,
                            "[pilotlight: {missed} lines left out here, the reader was too slow]"
                        );
                    }
                    text.push_str(&lines);
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Shows up to `tail` finished lines that were not shown, from what is kept; says which was the first.
    fn catch_up(&mut self, tail: usize, text: &mut String) -> Option<u64> {
        // Before the tail is read, so that what has no end yet is told from what has.
        let finished = self.log.finished();
        let mut lines = self.log.tail(tail.saturating_add(1));
        lines.retain(|line| line.number < finished && line.number >= self.next);
        let lines = &lines[lines.len().saturating_sub(tail)..];
        for line in lines {
            self.show(line, text);
        }
        self.next = self.next.max(finished);
        lines.first().map(|line| line.number)
    }

    fn show(&mut self, line: &Line, text: &mut String) {
        if line.number >= self.next {
            self.next = line.number + 1;
            text.push_str(&line.text);
            text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::process::logs::FOLLOW_LINES;

    #[test]
    fn a_follower_sees_each_line_once() {
        let log = LogSink::memory();
        (0..5).for_each(|n| log.note(&n.to_string()));
        let mut text = String::new();
        let mut tap = Tap::open(log.clone(), 2, &mut text);
        assert_eq!(text, "3\n4\n");
        text.clear();
        log.note("5");
        tap.read(&mut text);
        tap.read(&mut text);
        assert_eq!(text, "5\n");
    }

    #[test]
    fn a_slow_follower_catches_up_from_what_is_kept() {
        let log = LogSink::memory();
        let mut text = String::new();
        let mut tap = Tap::open(log.clone(), 0, &mut text);
        (0..FOLLOW_LINES * 2).for_each(|n| log.note(&n.to_string()));
        tap.read(&mut text);
        let expected: Vec<String> = (0..FOLLOW_LINES * 2).map(|n| n.to_string()).collect();
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        text.clear();
        (0..TAIL_LINES + 7).for_each(|n| log.note(&n.to_string()));
        tap.read(&mut text);
        assert!(text.starts_with("[pilotlight: 7 lines left out here"), "{}", &text[..80]);
        assert_eq!(text.lines().count(), TAIL_LINES + 1);
    }
}

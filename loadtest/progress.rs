//! How a run goes, on standard error: a bar on a terminal, else a line every few seconds.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pilotlight::clock;

use crate::engine::{Shared, Stage};

const REDRAW: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(5);
/// Characters of a phase's name.
const NAME_MAX: usize = 24;

/// Shows how a run goes, until it is dropped.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: Duration,
}

// === impl Progress ===

impl Progress {
    /// `quiet`: shows nothing.
    pub(crate) fn new(total: Duration, quiet: bool) -> Option<Self> {
        if quiet {
            return None;
        }
        let terminal = std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(
                Some(total.as_millis().max(1) as u64),
                ProgressDrawTarget::stderr(),
            );
            let style = ProgressStyle::with_template("{bar:20} {wide_msg}");
            bar.set_style(style.expect("a constant template that is right").progress_chars("━╸─"));
            bar
        });
        Some(Self { bar, total })
    }

    /// Shows it until the end of time.
    pub(crate) async fn show(&self, shared: &Shared, stage: &Stage) {
        let every = if self.bar.is_some() { REDRAW } else { LINE };
        loop {
            tokio::time::sleep(every).await;
            let text = self.line(shared, stage, clock::now());
            match &self.bar {
                Some(bar) => {
                    let elapsed = clock::now().saturating_duration_since(shared.began).as_millis() as u64;
                    bar.set_position(elapsed.min(bar.length().unwrap_or(elapsed)));
                    bar.set_message(text);
                }
                None => eprintln!("{text}"),
            }
        }
    }

    /// Leaves a line above the bar.
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    fn line(&self, shared: &Shared, stage: &Stage, now: Instant) -> String {
        let live = shared.recorder.live(now);
        let elapsed = now.saturating_duration_since(shared.began).as_secs();
        let total = self.total.as_secs_f64().ceil() as u64;
        let phases: Vec<_> = shared.scenario.phases().map(|(_, phase)| phase).collect();
        let names: Vec<String> = stage
            .current()
            .iter()
            .filter_map(|phase| phases.get(*phase))
            .take(2)
            .map(|phase| short(&phase.name))
            .collect();
        let stage = match names.as_slice() {
            [] => "waiting for answers".to_owned(),
            names => names.join(" | "),
        };
        let latency = live
            .latency_ms
            .map_or_else(String::new, |(p50, p99)| format!(" · p50 {} p99 {} ms", number(p50), number(p99)));
        let dropped = if live.dropped > 0 { format!(" · {} not sent", live.dropped) } else { String::new() };
        let of = if total > 0 { format!("/{total}") } else { String::new() };
        format!(
            "{elapsed}{of} s · {stage} · {} sent · {} open · {} ok, {} failed{dropped}{latency} · late p99 {} ms",
            live.sent,
            shared.open(),
            live.ok,
            live.failed,
            number(live.late_ms),
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn short(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_owned();
    }
    name.chars().take(NAME_MAX - 1).chain(['…']).collect()
}

/// Three digits.
fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

//! Carries a scenario out and makes a [`Run`] of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilotlight::clock;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::client::Tls;
use crate::engine::{EngineError, Shared, Stage, Threads};
use crate::observe::Watch;
use crate::progress::Progress;
use crate::recorder::Span;
use crate::run::{Finished, Generator, Observed, Phase, Quantiles, Run, ServiceRun, Totals, VERSION};
use crate::scenario::{Scenario, Scheme};
use crate::thresholds;

/// From now to the first request: threads and watches are there by then.
const LEAD: Duration = Duration::from_millis(100);
/// 99 % of the requests must leave within this share of the median latency, or the run says so.
const LATE_SHARE: f64 = 0.1;
/// Files besides connections.
const FILES: u64 = 64;

/// How a scenario is carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// That send.
    pub(crate) threads: usize,
    /// No progress.
    pub(crate) quiet: bool,
}

/// Why a scenario could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    /// Threads or timers.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// No runtime, or no signals.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
    /// HTTPS without certificates.
    #[error("{0}")]
    Tls(String),
}

/// Carries it out. `text`: the file, for the record.
pub(crate) fn execute(scenario: Scenario, text: String, options: Options) -> Result<Run, ExecuteError> {
    let tls = scenario.services.iter().any(|s| s.target.scheme == Scheme::Https);
    let tls = Tls::new(tls).map_err(ExecuteError::Tls)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut warnings = Vec::from_iter(few_files(scenario.limits.open));
    runtime.block_on(async {
        let mut signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let began = clock::now() + LEAD;
        let started = humantime::format_rfc3339_millis(clock::wall() + LEAD).to_string();
        let shared = Arc::new(Shared::new(Arc::new(scenario), began));
        let stage = Stage::new(shared.scenario.phases().count(), shared.scenario.timelines.len());
        let threads = Threads::start(&shared, options.threads, &tls)?;
        let watches = watches(&shared.scenario, began);
        let is_zero = |service: usize, since: f64| {
            let seen = watches[service].as_ref().and_then(Watch::latest);
            seen.is_some_and(|seen| seen.at_s >= since && nothing_runs(&seen))
        };
        let progress = Progress::new(shared.scenario.lasts(), options.quiet);
        let shown = show(progress.as_ref(), &shared, &stage);
        let signalled = interrupted(&mut signals, &shared, progress.as_ref());
        let finished = tokio::select! {
            finished = threads.lead(&shared, &stage, &is_zero) => finished?,
            () = shown => unreachable!("bug: it shows for ever"),
            () = signalled => unreachable!("bug: it waits for ever"),
        };
        let at = clock::now();
        drop(progress);
        let mut observed = Vec::new();
        for watch in watches {
            observed.push(match watch {
                Some(watch) => watch.stop().await,
                None => Default::default(),
            });
        }
        warnings.extend(stage.take_warnings());
        let ended = Ended { shared: &shared, stage: &stage, started, at, finished, text };
        Ok(assemble(&ended, observed, warnings))
    })
}

/// A run that is over.
struct Ended<'a> {
    shared: &'a Shared,
    stage: &'a Stage,
    started: String,
    at: Instant,
    finished: Finished,
    text: String,
}

fn assemble(run: &Ended<'_>, observed: Vec<(Vec<Observed>, Vec<String>)>, warnings: Vec<String>) -> Run {
    let (scenario, recorder) = (&run.shared.scenario, &run.shared.recorder);
    let duration_s = recorder.since(run.at);
    let spans: Vec<Option<Span>> =
        run.stage.spans().into_iter().map(|span| span.map(|s| s.until(duration_s))).collect();
    let phases: Vec<Phase> = scenario
        .phases()
        .zip(&spans)
        .map(|((timeline, phase), span)| {
            let never = Span { from_s: duration_s, to_s: duration_s };
            let Span { from_s, to_s } = span.unwrap_or(never);
            let service = scenario.timelines[timeline].own.clone();
            Phase { name: phase.name.clone(), from_s, to_s, warm_up: phase.warm_up, service }
        })
        .collect();
    let owners: Vec<usize> = scenario.phases().map(|(timeline, _)| timeline).collect();
    let services: Vec<ServiceRun> = scenario
        .services
        .iter()
        .enumerate()
        .zip(observed)
        .map(|((place, service), (observed, observe_errors))| {
            let takes_part = |timeline: &usize| scenario.timelines[*timeline].services.contains(&place);
            let spans: Vec<Option<Span>> =
                spans.iter().zip(&owners).map(|(span, t)| span.filter(|_| takes_part(t))).collect();
            ServiceRun {
                name: service.name.clone(),
                url: service.url(),
                protocol: service.protocol.name().to_owned(),
                observed,
                observe_errors,
                ..recorder.take(place, &spans)
            }
        })
        .collect();
    let measured: f64 =
        phases.iter().filter(|p| !p.warm_up && p.service.is_none()).map(|p| p.to_s - p.from_s).sum();
    let all = recorder.together(if measured > 0.0 { measured } else { duration_s });
    let late_ms = recorder.lateness();
    let sent = services.iter().flat_map(|s| &s.phases).map(|totals| totals.sent).sum();
    let dropped = services.iter().flat_map(|s| &s.phases).map(|totals| totals.dropped).sum();
    let mut warnings = warnings;
    warnings.extend(too_late(&late_ms, &all));
    if dropped > 0 {
        let most = scenario.limits.open;
        warnings.push(format!("{dropped} requests did not leave: {most} were open (limits.open)"));
    }
    let thresholds = thresholds::verdicts(scenario, &services, &all, &late_ms);
    let open_max = run.shared.open_max() as u64;
    Run {
        version: VERSION,
        scenario: scenario.name.clone(),
        scenario_text: run.text.clone(),
        started: run.started.clone(),
        duration_s,
        finished: run.finished,
        seed: scenario.seed,
        generator: Generator { late_ms, sent, dropped, open_max, warnings },
        phases,
        services,
        thresholds,
    }
}

/// Whether the generator's own lateness may be what was measured.
fn too_late(late: &Quantiles, all: &Totals) -> Option<String> {
    let share = late.p99 / all.latency_ms.p50;
    (all.latency_ms.count > 0 && share > LATE_SHARE).then(|| {
        format!(
            "requests left late: p99 {:.3} ms, {:.0} % of the median latency (more than {:.0} %): part of what was \
             measured is this generator; a lower rate, --threads or a machine of its own help",
            late.p99,
            share * 100.0,
            LATE_SHARE * 100.0
        )
    })
}

/// Raises the limit of open files as far as it goes. Some: that is not enough.
fn few_files(open: usize) -> Option<String> {
    let wanted = open as u64 + FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|now| now >= wanted) {
        return None;
    }
    let raised = Rlimit { current: Some(limit.maximum.map_or(wanted, |most| most.min(wanted))), ..limit };
    let _ = setrlimit(Resource::Nofile, raised);
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (now < wanted).then(|| {
        format!("only {now} files may be open (ulimit -n): more connections than that fail as `connect`")
    })
}

fn watches(scenario: &Scenario, began: Instant) -> Vec<Option<Watch>> {
    let among = scenario.services.iter().filter(|s| s.observe.is_some()).count();
    let watch = |service: &crate::scenario::Service| {
        let name = service.name.clone();
        let tell =
            move |error: &crate::observe::ObserveError| eprintln!("{name}: replicas cannot be seen: {error}");
        service.observe.as_ref().map(|observe| Watch::start(observe, &service.name, among, began, tell))
    };
    scenario.services.iter().map(watch).collect()
}

fn nothing_runs(seen: &Observed) -> bool {
    seen.ready == Some(0) && [seen.desired, seen.starting].iter().flatten().all(|n| *n == 0)
}

/// Never returns: the run does.
async fn show(progress: Option<&Progress>, shared: &Shared, stage: &Stage) {
    match progress {
        Some(progress) => progress.show(shared, stage).await,
        None => std::future::pending().await,
    }
}

/// Never returns, either.
async fn interrupted(signals: &mut (Signal, Signal), shared: &Shared, progress: Option<&Progress>) {
    let (interrupt, terminate) = signals;
    for step in 0.. {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if step == 0 {
            let text = "ending: nothing more is sent; once more cuts off what is open";
            progress.map_or_else(|| eprintln!("{text}"), |progress| progress.say(text));
            shared.halt();
        } else {
            shared.cut();
        }
    }
}

impl Span {
    /// A phase that was not over when the run was.
    fn until(self, end: f64) -> Self {
        Self { to_s: self.to_s.min(end), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_matters_beside_the_latency() {
        let late = Quantiles { count: 9, p99: 1.0, ..Quantiles::default() };
        let all = |p50| Totals {
            latency_ms: Quantiles { count: 9, p50, ..Quantiles::default() },
            ..Totals::default()
        };
        assert_eq!(too_late(&late, &all(100.0)), None);
        assert!(too_late(&late, &all(2.0)).unwrap().contains("50 % of the median"));
        assert_eq!(too_late(&late, &Totals::default()), None);
    }

    #[test]
    fn zero_is_known_not_guessed() {
        let seen = |ready, starting| Observed { ready, starting, ..Observed::default() };
        assert!(nothing_runs(&seen(Some(0), Some(0))));
        assert!(nothing_runs(&seen(Some(0), None)));
        assert!(!nothing_runs(&seen(Some(0), Some(1))));
        assert!(!nothing_runs(&seen(None, None)));
    }
}

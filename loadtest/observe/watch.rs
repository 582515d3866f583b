//! The task that looks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pilotlight::clock;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::error::ObserveError;
use super::series::Series;
use super::{Observe, Reader};
use crate::run::Observed;

/// For one look; a source that is slower shows too little anyway.
const LOOK_MOST: Duration = Duration::from_secs(5);
/// For what is looked at when the run is over: nobody should wait for a source.
const LAST_LOOK_MOST: Duration = Duration::from_secs(1);
/// From one look to the next, all services of a run together.
const LOOKS_APART: Duration = Duration::from_millis(20);
/// Different errors that are kept.
const ERRORS_MOST: usize = 8;

/// Looks at a service's replicas until it is stopped.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: CancellationToken,
    task: JoinHandle<(Series, Errors)>,
    latest: Arc<Mutex<Option<Observed>>>,
}

/// What went wrong, each kind once.
#[derive(Debug, Default)]
struct Errors {
    kinds: Vec<Kind>,
    /// Of kinds that found no place.
    more: u64,
}

#[derive(Debug)]
struct Kind {
    text: String,
    first_s: f64,
    count: u64,
}

// === impl Watch ===

impl Watch {
    /// Begins to look. `began` is the run's start; `tell` is called once, with the first thing that goes wrong. Of
    /// `among` services that are watched, each is looked at less often, so that all of them together stay a trickle.
    pub(crate) fn start(
        observe: &Observe,
        service: &str,
        among: usize,
        began: Instant,
        tell: impl FnOnce(&ObserveError) + Send + 'static,
    ) -> Self {
        let (stop, latest) = (CancellationToken::new(), Arc::new(Mutex::new(None)));
        let shared = LOOKS_APART.saturating_mul(u32::try_from(among).unwrap_or(u32::MAX));
        let observe = Observe { every: observe.every.max(shared), source: observe.source.clone() };
        let looks = looks(observe, service.to_owned(), began, stop.clone(), Arc::clone(&latest), tell);
        Self { stop, task: tokio::spawn(looks), latest }
    }

    /// What was seen last.
    pub(crate) fn latest(&self) -> Option<Observed> {
        self.latest.lock().clone()
    }

    /// Ends with a last look. What was seen, and what went wrong.
    pub(crate) async fn stop(self) -> (Vec<Observed>, Vec<String>) {
        self.stop.cancel();
        let (series, errors) = self.task.await.expect("looking does not panic, and nobody aborts it");
        (series.into_looks(), errors.texts())
    }
}

async fn looks(
    observe: Observe,
    service: String,
    began: Instant,
    stop: CancellationToken,
    latest: Arc<Mutex<Option<Observed>>>,
    tell: impl FnOnce(&ObserveError),
) -> (Series, Errors) {
    let (mut series, mut errors) = (Series::default(), Errors::default());
    let mut reader = match observe.source.reader(&service) {
        Ok(reader) => reader,
        Err(e) => {
            tell(&e);
            errors.add(&e, 0.0);
            return (series, errors);
        }
    };
    let mut tell = Some(tell);
    let since = |now: Instant| now.saturating_duration_since(began).as_secs_f64();
    let mut ticks = interval(observe.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let last = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            _ = ticks.tick() => false,
        };
        let asked = clock::now();
        match look(&mut reader, &stop).await {
            Ok(seen) => {
                // The state is of some moment between the question and the answer.
                let seen = Observed { at_s: f64::midpoint(since(asked), since(clock::now())), ..seen };
                *latest.lock() = Some(seen.clone());
                series.push(seen);
            }
            Err(e) => {
                if let Some(tell) = tell.take() {
                    tell(&e);
                }
                errors.add(&e, since(asked));
                *latest.lock() = None;
            }
        }
        if last {
            return (series, errors);
        }
    }
}

/// One look, with less patience once the run is over.
async fn look(reader: &mut Reader, stop: &CancellationToken) -> Result<Observed, ObserveError> {
    let over = async {
        stop.cancelled().await;
        sleep(LAST_LOOK_MOST).await;
    };
    tokio::select! {
        seen = reader.read() => seen,
        () = sleep(LOOK_MOST) => Err(ObserveError::Timeout),
        () = over => Err(ObserveError::Timeout),
    }
}

// === impl Errors ===

impl Errors {
    fn add(&mut self, error: &ObserveError, at_s: f64) {
        let text = error.to_string();
        if let Some(kind) = self.kinds.iter_mut().find(|kind| kind.text == text) {
            kind.count += 1;
        } else if self.kinds.len() < ERRORS_MOST {
            self.kinds.push(Kind { text, first_s: at_s, count: 1 });
        } else {
            self.more += 1;
        }
    }

    fn texts(&self) -> Vec<String> {
        let mut texts: Vec<_> = self
            .kinds
            .iter()
            .map(|Kind { text, first_s, count }| match count {
                1 => format!("{text} (at {first_s:.1} s)"),
                _ => format!("{text} ({count} times, first at {first_s:.1} s)"),
            })
            .collect();
        if self.more > 0 {
            texts.push(format!("{} more of other kinds", self.more));
        }
        texts
    }
}

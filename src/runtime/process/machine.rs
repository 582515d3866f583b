//! What all replicas of this machine share.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::logs::Logs;
use super::orphans::StateDir;
use super::ports::PortAllocator;
use crate::config::spec::{PythonSpec, ServiceKey};
use crate::events::{Events, Kind};
use crate::policy::dispatch::ReplicaId;
use crate::runtime::python::{Progress, PythonEnvs};

/// Characters of an installer's line that are repeated.
const PROGRESS_LINE: usize = 80;

/// The state directory, ports, logs and environments.
#[derive(Debug)]
pub struct Machine {
    /// Locked, with the marks by which orphans are found again.
    pub state: StateDir,
    /// Output of replicas.
    pub logs: Logs,
    /// Free loopback ports.
    pub ports: PortAllocator,
    /// What happens.
    pub events: Arc<Events>,
    environments: PythonEnvs,
    /// Environments whose making is being told of: the load and a first start may both wait for one.
    told: Mutex<HashSet<PythonSpec>>,
    next: AtomicU64,
    cut: CancellationToken,
    fatal: CancellationToken,
}

/// Why a service's environment could not be made.
#[derive(Debug)]
pub struct NoEnvironment {
    /// In words.
    pub reason: String,
    /// Trying again at once is of no use.
    pub fatal: bool,
}

// === impl Machine ===

impl Machine {
    /// On a state directory that is locked and swept.
    pub fn new(state: StateDir, events: Arc<Events>) -> Self {
        let logs = Logs::new(state.path().join("logs"), super::logs::FILE_BYTES, super::logs::KEEP);
        // The marker finds a builder again that outlived us.
        let environments = PythonEnvs::new(state.path().join("envs"), state.env("environments"));
        let next = AtomicU64::new(1);
        Self {
            state,
            logs,
            ports: PortAllocator::default(),
            events,
            environments,
            told: Mutex::default(),
            next,
            cut: CancellationToken::new(),
            fatal: CancellationToken::new(),
        }
    }

    /// An identity that no replica had.
    pub fn next_replica(&self) -> ReplicaId {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// From now on no replica waits for what is in flight.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Resolves when no replica shall wait any more.
    pub async fn cut_off(&self) {
        self.cut.cancelled().await;
    }

    /// Held by a task without which the program is of no use: if it panics, [`Machine::fatal`] resolves.
    #[must_use]
    pub fn vital(&self) -> Vital {
        Vital(self.fatal.clone())
    }

    /// Resolves when a vital task has panicked.
    pub async fn fatal(&self) {
        self.fatal.cancelled().await;
    }

    /// The right to tell of a build, if nobody has it.
    fn tell<'a>(&'a self, python: &'a PythonSpec) -> Option<Telling<'a>> {
        // Lazily: one that is made only to be dropped gives back a right that is another's, and locks again for it.
        let is_first = self.told.lock().insert(python.clone());
        is_first.then(|| Telling { machine: self, python })
    }

    /// Variables that put a Python environment first, once it is made.
    pub async fn python_env(
        &self,
        python: &PythonSpec,
        service: &ServiceKey,
    ) -> Result<Vec<(String, String)>, NoEnvironment> {
        let (events, key) = (self.events.clone(), service.clone());
        let telling = self.tell(python);
        let first = telling.is_some();
        let last = Mutex::new(String::new());
        let tell = move |progress: Progress| {
            if !first {
                return;
            }
            let message = match progress {
                Progress::Waiting { seconds } => {
                    format!("waits for another program that makes the same Python environment ({seconds} s)")
                }
                Progress::Creating { interpreter } => {
                    format!("making its Python environment with {interpreter}")
                }
                Progress::Installing { line, seconds, packages } => {
                    let line: String = line.chars().take(PROGRESS_LINE).collect();
                    // Said again every 5 s while nothing new happens.
                    if std::mem::replace(&mut *last.lock(), line.clone()) == line && seconds % 5 != 0 {
                        return;
                    }
                    format!("making its Python environment: {seconds} s, {packages} packages: {line}")
                }
                Progress::Done { seconds } => format!("its Python environment is ready, made in {seconds} s"),
            };
            events.emit(Kind::Preparing, Some(&key), message);
        };
        let made = self.environments.ensure(python, tell).await;
        drop(telling);
        let environment =
            made.map_err(|error| NoEnvironment { reason: error.to_string(), fatal: error.fatal() })?;
        let path = std::env::var("PATH").unwrap_or_default();
        Ok(environment.env(&path))
    }
}

/// Tells when its holder panics.
#[derive(Debug)]
pub struct Vital(CancellationToken);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

/// Gives the right to tell back.
struct Telling<'a> {
    machine: &'a Machine,
    python: &'a PythonSpec,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        self.machine.told.lock().remove(self.python);
    }
}

/// Variables of ours that no replica shall inherit: they configure this program.
pub fn own_variables() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("PILOTLIGHT_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_of_a_vital_task_is_fatal_and_its_end_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new(StateDir::open(dir.path()).unwrap(), Arc::default());
        let ends = machine.vital();
        tokio::spawn(async move { drop(ends) }).await.unwrap();
        let aborted = machine.vital();
        let task = tokio::spawn(async move {
            std::future::pending::<()>().await;
            drop(aborted);
        });
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert!(machine.fatal().now_or_never().is_none(), "nobody has panicked");
        // As serve holds it: around a task that panics after it has waited.
        let panics = machine.vital();
        let task = tokio::spawn(async move {
            async {
                tokio::task::yield_now().await;
                panic!("on purpose");
            }
            .await;
            drop(panics);
        });
        assert!(task.await.unwrap_err().is_panic());
        machine.fatal().now_or_never().expect("it is known at once");
    }

    #[tokio::test]
    async fn one_tells_of_a_build_and_the_other_waits_for_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new(StateDir::open(dir.path()).unwrap(), Arc::default());
        let python = PythonSpec { requirements: Vec::new(), version: String::new() };
        let first = machine.tell(&python).unwrap();
        assert!(machine.tell(&python).is_none());
        assert!(machine.tell(&python).is_none(), "the right stays with who has it");
        drop(first);
        assert!(machine.tell(&python).is_some());
    }
}

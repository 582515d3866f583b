//! Python environments: made once, kept in the state directory, shared by all that ask for the same.
//!
//! An environment is `ENVS/KEY`, KEY a hash of its requirements, the version asked for, and the interpreter. `uv` makes it
//! when it is in PATH, else `python -m venv` and pip; both take their index from the user's own configuration, each from
//! its own: where uv cannot get at one, pip is tried.
//! `.complete` is written last, under a lock that the kernel drops with its holder: whatever interrupts a build,
//! the next one finds no marker, removes the rest and starts over. Two processes, or two tasks, that ask at once: one
//! builds, the other waits and says so.

mod build;
pub mod constraint;
pub mod interpreter;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use self::build::{Build, COMPLETE};
use self::constraint::{Constraint, ConstraintError};
use self::interpreter::Interpreter;
use crate::config::spec::PythonSpec;
use crate::runtime::process::orphans::REPLICA_ENV;

/// Variables that would make a Python look elsewhere, or pip install elsewhere.
const ENV_REMOVE: [&str; 8] = [
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "__PYVENV_LAUNCHER__",
    "VIRTUAL_ENV",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
];

/// A finished environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonEnv {
    dir: PathBuf,
    interpreter: Interpreter,
}

/// What is being done. At most about one a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another process makes the same environment.
    Waiting {
        /// So far.
        seconds: u64,
    },
    /// It is begun.
    Creating {
        /// Path and version.
        interpreter: String,
    },
    /// Packages are fetched and installed.
    Installing {
        /// The installer's last line.
        line: String,
        /// So far.
        seconds: u64,
        /// Packages known so far.
        packages: usize,
    },
    /// It is finished. Not sent when it was there already.
    Done {
        /// In all.
        seconds: u64,
    },
}

/// Why there is no environment.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PythonError {
    /// The specification's fault.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
    /// The machine lacks a Python.
    #[error("needs Python {needs}; found {}; install one, for example {}, and have it in PATH", list(.found), example(.needs))]
    NoInterpreter {
        /// What is asked for.
        needs: Constraint,
        /// What is there.
        found: Vec<Interpreter>,
    },
    /// The builder failed: a wrong requirement, or the network. Another try is safe.
    #[error("Python environment: {step}: {how}{}{lines}", if lines.is_empty() { "" } else { "\n" })]
    Build {
        /// What it was doing.
        step: &'static str,
        /// Its exit.
        how: String,
        /// The last lines that it printed.
        lines: String,
    },
    /// The disk's fault. Another try is safe.
    #[error("Python environment: {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

type Made = Result<PythonEnv, PythonError>;
type Listener = Box<dyn Fn(Progress) + Send + Sync>;
type Listeners = Arc<Mutex<Vec<Listener>>>;

/// All environments of a state directory. Clones share builds.
#[derive(Clone)]
pub struct PythonEnvs {
    dir: PathBuf,
    env: Arc<[(String, String)]>,
    path: OsString,
    running: Arc<Mutex<HashMap<PythonSpec, Running>>>,
    builds: Arc<AtomicU64>,
    made: Arc<Mutex<HashMap<PythonSpec, PythonEnv>>>,
}

/// Weak: a build that nobody waits for any more is dropped, which kills it.
struct Running {
    build: WeakShared<BoxFuture<'static, Made>>,
    listeners: Listeners,
}

// === impl PythonEnvs ===

impl std::fmt::Debug for PythonEnvs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PythonEnvs").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl PythonEnvs {
    /// Environments in `dir` (absolute). `env` is set over the environment of every process that is started for them: put the state
    /// directory's marker in, so that a builder that outlives us is found. A `PATH` in it counts.
    pub fn new(dir: PathBuf, env: Vec<(String, String)>) -> Self {
        let own = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.into());
        let path = own.or_else(|| std::env::var_os("PATH")).unwrap_or_default();
        let (running, builds, made) = Default::default();
        Self { dir, env: env.into(), path, running, builds, made }
    }

    /// The environment of one build's processes: the mark names the build, so that what one leaves behind can be ended
    /// without the others.
    fn build_env(&self) -> Vec<(String, String)> {
        let mut env = self.env.to_vec();
        if let Some((_, name)) = env.iter_mut().rev().find(|(name, _)| name == REPLICA_ENV) {
            let number = self.builds.fetch_add(1, Ordering::Relaxed);
            *name = format!("{name}-{number}");
        }
        env
    }

    /// The environment, made if need be. Requests for the same one share one build, each with its own `progress` (which
    /// must not block). Dropping the last of them kills the build.
    pub async fn ensure(
        &self,
        spec: &PythonSpec,
        progress: impl Fn(Progress) + Send + Sync + 'static,
    ) -> Made {
        let made = self.made.lock().get(spec).filter(|env| env.is_complete()).cloned();
        if let Some(env) = made {
            return Ok(env);
        }
        let result = self.join(spec, Box::new(progress)).await;
        if let Ok(env) = &result {
            self.made.lock().insert(spec.clone(), env.clone());
        }
        result
    }

    fn join(&self, spec: &PythonSpec, listener: Listener) -> Shared<BoxFuture<'static, Made>> {
        let mut running = self.running.lock();
        running.retain(|_, one| one.build.upgrade().is_some_and(|build| build.peek().is_none()));
        if let Some((one, build)) = running.get(spec).and_then(|one| Some((one, one.build.upgrade()?))) {
            one.listeners.lock().push(listener);
            return build;
        }
        let listeners: Listeners = Arc::new(Mutex::new(vec![listener]));
        let (all, heard, wanted) = (self.clone(), Arc::clone(&listeners), spec.clone());
        let build = async move { all.make(&wanted, &heard).await }.boxed().shared();
        if let Some(weak) = build.downgrade() {
            running.insert(spec.clone(), Running { build: weak, listeners });
        }
        build
    }

    async fn make(&self, spec: &PythonSpec, listeners: &Listeners) -> Made {
        let constraint: Constraint = spec.version.parse()?;
        let env = self.build_env();
        let interpreter = match interpreter::find(&constraint, &self.path, &env).await {
            Ok(interpreter) => interpreter,
            Err(found) => {
                return Err(PythonError::NoInterpreter { needs: constraint, found });
            }
        };
        let report = |progress: Progress| listeners.lock().iter().for_each(|tell| tell(progress.clone()));
        let build = Build {
            spec,
            interpreter: &interpreter,
            dir: self.dir.join(key(spec, &interpreter)),
            env: &env,
            path: &self.path,
            report: &report,
        };
        build.run().await
    }
}

// === impl PythonEnv ===

impl PythonEnv {
    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it was made from.
    pub fn interpreter(&self) -> &Interpreter {
        &self.interpreter
    }

    /// For a process that runs in it: `PATH` (its `bin`, then `path`) and `VIRTUAL_ENV`.
    pub fn env(&self, path: &str) -> Vec<(String, String)> {
        let bin = self.dir.join("bin");
        let path =
            if path.is_empty() { bin.display().to_string() } else { format!("{}:{path}", bin.display()) };
        vec![("PATH".to_owned(), path), ("VIRTUAL_ENV".to_owned(), self.dir.display().to_string())]
    }

    fn is_complete(&self) -> bool {
        self.dir.join(COMPLETE).exists()
    }
}

// === impl PythonError ===

impl PythonError {
    /// Whether another try is pointless until someone changes the specification or the machine.
    pub fn fatal(&self) -> bool {
        matches!(self, Self::Constraint(_) | Self::NoInterpreter { .. })
    }

    fn io(path: &Path) -> impl Fn(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path: path.clone(), source: Arc::new(source) }
    }
}

fn list(found: &[Interpreter]) -> String {
    if found.is_empty() {
        return "none in PATH".to_owned();
    }
    found.iter().map(Interpreter::to_string).collect::<Vec<_>>().join(", ")
}

fn example(needs: &Constraint) -> String {
    needs.example().map_or_else(|| "another version".to_owned(), |version| format!("Python {version}"))
}

/// Each part with its length, so that no two specifications run together.
fn key(spec: &PythonSpec, interpreter: &Interpreter) -> String {
    let mut hash = Sha256::new();
    let interpreter = interpreter.to_string();
    for part in
        [spec.version.as_str(), &interpreter].into_iter().chain(spec.requirements.iter().map(String::as_str))
    {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    // 96 bits: enough, and short, since the path stands in the first line of every script.
    let mut bytes = [0; 16];
    bytes[4..].copy_from_slice(&hash.finalize()[..12]);
    format!("{:024x}", u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests;

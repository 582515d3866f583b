//! Making one environment.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::sync::broadcast::error::RecvError;
use tokio::time::{sleep, sleep_until};

use super::interpreter::Interpreter;
use super::{ENV_REMOVE, Progress, PythonEnv, PythonError};
use crate::clock;
use crate::config::spec::PythonSpec;
use crate::runtime::process::child::{Child, Launch};
use crate::runtime::process::exit::Exit;
use crate::runtime::process::logs::LogSink;

/// Its presence says that everything else is there: written last.
pub(super) const COMPLETE: &str = ".complete";
/// How often a lock that another process holds is tried.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Between two reports of progress.
const REPORT_PAUSE: Duration = Duration::from_secs(1);
/// Lines of the builder's output in an error.
const ERROR_LINES: usize = 20;

/// What uv says of a package that its index does not have.
const UNKNOWN_PACKAGE: &str = "was not found in the package registry";

const CREATE: &str = "making the environment";
const INSTALL: &str = "installing";

/// One environment to be made.
pub(super) struct Build<'a> {
    pub(super) spec: &'a PythonSpec,
    pub(super) interpreter: &'a Interpreter,
    /// Where it will lie: an environment cannot be moved.
    pub(super) dir: PathBuf,
    /// For every process that is started.
    pub(super) env: &'a [(String, String)],
    pub(super) path: &'a OsStr,
    pub(super) report: &'a (dyn Fn(Progress) + Send + Sync),
}

/// Why an attempt failed.
struct Failed {
    error: PythonError,
    /// If it was uv's: the reason may be uv itself or its index, not what it was asked for.
    worth_pip: bool,
}

/// What the builder is doing.
struct Pace {
    begun: Instant,
    reported: Instant,
    line: String,
    packages: usize,
}

// === impl Build ===

impl Build<'_> {
    /// Makes it, unless it is there or another process makes it meanwhile. Dropping the future kills the builder.
    pub(super) async fn run(self) -> Result<PythonEnv, PythonError> {
        let begun = clock::now();
        let done = PythonEnv { dir: self.dir.clone(), interpreter: self.interpreter.clone() };
        if done.is_complete() {
            return Ok(done);
        }
        // Declared before the child, so dropped after it: nobody builds while ours still writes.
        let _lock = self.lock(begun).await?;
        if done.is_complete() {
            return Ok(done);
        }
        (self.report)(Progress::Creating { interpreter: self.interpreter.to_string() });
        let mut pace = Pace::new(begun);
        let uv = find_uv(self.path);
        match self.make(uv.as_deref(), &mut pace).await {
            Err(Failed { error, worth_pip: true }) if uv.is_some() => {
                tracing::warn!(%error, "uv cannot make the environment; trying venv and pip");
                "uv failed; trying venv and pip".clone_into(&mut pace.line);
                (self.report)(pace.progress());
                let made = self.make(None, &mut pace).await;
                made.map_err(|pip| after(&error, pip.error))?;
            }
            made => made.map_err(|failed| failed.error)?,
        }
        let marker = self.dir.join(COMPLETE);
        fs::write(&marker, self.interpreter.to_string()).map_err(PythonError::io(&marker))?;
        (self.report)(Progress::Done { seconds: seconds(begun) });
        Ok(done)
    }

    /// Makes it from nothing, with uv if there is one.
    async fn make(&self, uv: Option<&str>, pace: &mut Pace) -> Result<(), Failed> {
        self.clear().await?;
        let python = self.dir.join("bin/python");
        self.step(CREATE, self.create(uv), pace).await?;
        if !self.spec.requirements.is_empty() {
            // As a file: a requirement that begins with a dash is then an option of the file format, not of the program.
            let list = self.dir.join("requirements.txt");
            fs::write(&list, self.spec.requirements.join("\n") + "\n").map_err(PythonError::io(&list))?;
            let install = install(uv, &python.display().to_string(), &list.display().to_string());
            self.step(INSTALL, install, pace).await?;
        }
        if !python.exists() {
            let why = format!("{} was not made", python.display());
            return Err(PythonError::Build { step: CREATE, how: why, lines: String::new() }.into());
        }
        Ok(())
    }

    fn create(&self, uv: Option<&str>) -> Vec<String> {
        let interpreter = self.interpreter.path.display().to_string();
        let dir = self.dir.display().to_string();
        if let Some(uv) = uv {
            return words(&[uv, "venv", "--python", &interpreter, &dir]);
        }
        // pip is copied in only where it is needed: that is most of the time this takes.
        let pip: &[&str] = if self.spec.requirements.is_empty() { &["--without-pip"] } else { &[] };
        words(&[&[interpreter.as_str(), "-m", "venv"], pip, &[&dir]].concat())
    }

    async fn lock(&self, begun: Instant) -> Result<File, PythonError> {
        let path = self.dir.with_extension("lock");
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(parent).map_err(PythonError::io(parent))?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(PythonError::io(&path))?;
        let mut said = begun.checked_sub(REPORT_PAUSE);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(e)) => return Err(PythonError::io(&path)(e)),
                // Not a blocking wait: that could not be cancelled.
                Err(TryLockError::WouldBlock) => {
                    if said.is_none_or(|at| clock::now() - at >= REPORT_PAUSE) {
                        said = Some(clock::now());
                        (self.report)(Progress::Waiting { seconds: seconds(begun) });
                    }
                    sleep(LOCK_PAUSE).await;
                }
            }
        }
    }

    /// Removes what an interrupted build left.
    async fn clear(&self) -> Result<(), PythonError> {
        let dir = self.dir.clone();
        // Thousands of files: not on the control thread.
        let removed = tokio::task::spawn_blocking(move || match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        });
        removed.await.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(PythonError::io(&self.dir))
    }

    async fn step(&self, step: &'static str, argv: Vec<String>, pace: &mut Pace) -> Result<(), Failed> {
        let log = LogSink::memory();
        let mut lines = log.follow();
        let mut env = self.env.to_vec();
        for (name, value) in [
            ("PYTHONUNBUFFERED", "1"),
            ("NO_COLOR", "1"),
            ("UV_NO_PROGRESS", "1"),
            // The interpreter is this machine's; none is fetched behind the user's back.
            ("UV_PYTHON_DOWNLOADS", "never"),
        ] {
            env.push((name.to_owned(), value.to_owned()));
        }
        let working_dir = self.dir.parent().unwrap_or(Path::new("/")).to_owned();
        let env_remove = ENV_REMOVE.map(str::to_owned).to_vec();
        let launch = Launch { argv, env, env_remove, working_dir, log: log.clone() };
        let failed = |how: String| PythonError::Build { step, how, lines: log.last_lines(ERROR_LINES) };
        let spawned = Child::spawn(launch);
        let mut child = spawned.map_err(|e| Failed { error: failed(e.to_string()), worth_pip: true })?;
        let exit = loop {
            let due = tokio::time::Instant::from_std(pace.reported + REPORT_PAUSE);
            tokio::select! {
                biased;
                exit = child.exited() => break exit,
                () = sleep_until(due) => {
                    pace.reported = clock::now();
                    if step == INSTALL {
                        (self.report)(pace.progress());
                    }
                }
                line = lines.recv() => match line {
                    Ok(line) => pace.see(&line.text),
                    Err(RecvError::Lagged(_) | RecvError::Closed) => {}
                },
            }
        };
        log.settled(REPORT_PAUSE).await;
        if exit.success() {
            return Ok(());
        }
        let worth_pip = match exit {
            // uv: the requirements cannot be met. But with an index that only pip is told of, pip may have the package.
            Exit::Code(1) => log.tail(ERROR_LINES).iter().any(|line| line.text.contains(UNKNOWN_PACKAGE)),
            Exit::Code(_) => true,
            Exit::Signal(_) => false,
        };
        Err(Failed { error: failed(exit.to_string()), worth_pip })
    }
}

// === impl Failed ===

impl From<PythonError> for Failed {
    fn from(error: PythonError) -> Self {
        Self { error, worth_pip: false }
    }
}

// === impl Pace ===

impl Pace {
    fn new(begun: Instant) -> Self {
        Self { begun, reported: begun, line: String::new(), packages: 0 }
    }

    /// Reads a line of pip or uv.
    fn see(&mut self, line: &str) {
        let line = line.trim();
        if line.starts_with("Collecting ") {
            self.packages += 1;
        } else if let Some(all) = line.strip_prefix("Installing collected packages: ") {
            self.packages = all.split(", ").count();
        } else if let Some(count) = line.strip_prefix("Resolved ").and_then(|rest| rest.split(' ').next()) {
            self.packages = count.parse().unwrap_or(self.packages);
        }
        if !line.is_empty() {
            line.chars().take(200).collect::<String>().clone_into(&mut self.line);
        }
    }

    fn progress(&self) -> Progress {
        Progress::Installing {
            line: self.line.clone(),
            seconds: seconds(self.begun),
            packages: self.packages,
        }
    }
}

/// pip's error, with uv's before it.
fn after(uv: &PythonError, pip: PythonError) -> PythonError {
    match pip {
        PythonError::Build { step, how, lines } => {
            PythonError::Build { step, how, lines: format!("with uv: {uv}\nwith venv and pip: {lines}") }
        }
        other => other,
    }
}

fn seconds(since: Instant) -> u64 {
    clock::now().saturating_duration_since(since).as_secs()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn install(uv: Option<&str>, python: &str, list: &str) -> Vec<String> {
    if let Some(uv) = uv {
        // As pip does. Left to the first start, the compiling costs that one seconds.
        return words(&[uv, "pip", "install", "--compile-bytecode", "--python", python, "-r", list]);
    }
    let quiet = ["--no-input", "--disable-pip-version-check", "--prefer-binary", "--progress-bar", "off"];
    words(&[&[python, "-m", "pip", "install"], &quiet[..], &["-r", list]].concat())
}

fn find_uv(path: &OsStr) -> Option<String> {
    let here = Path::new("/");
    let file = crate::runtime::process::lookup::find("uv", Some(path), here).ok()?;
    file.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_packages_of_pip_and_uv() {
        let mut pace = Pace::new(clock::now());
        for line in ["Collecting a==1", "  Downloading a.whl", "Collecting b", "Collecting b", ""] {
            pace.see(line);
        }
        assert_eq!((pace.packages, pace.line.as_str()), (3, "Collecting b"));
        pace.see("Installing collected packages: b, a");
        assert_eq!(pace.packages, 2);
        pace.see("Resolved 57 packages in 1.2s");
        assert_eq!(pace.packages, 57);
    }
}

//! A child process with its log.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};

use super::procs::kill;
use super::wait::{SOON, wait_until};

/// A running program in a process group of its own. Dropped: killed, and its log printed if the test failed.
pub(crate) struct Program {
    name: String,
    child: Child,
    exited: Option<ExitStatus>,
    log: Arc<Mutex<Vec<String>>>,
    readers: [JoinHandle<()>; 2],
    deaf: Arc<AtomicBool>,
}

/// Starts testapp by itself and returns the address it listens on.
pub(crate) async fn testapp(mark: &Path, args: &[&str]) -> (Program, SocketAddr) {
    let mut command = Command::new(testapp_path());
    command.args(args);
    let mut app = Program::spawn(command, mark);
    let addr = app.listening("").await;
    (app, addr)
}

/// `cargo test` builds examples beside the test binaries; `cargo test --test NAME` does not, so then it is built here.
pub(crate) fn testapp_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let this = std::env::current_exe().unwrap();
        let profile = this.ancestors().nth(2).unwrap();
        let path = profile.join("examples/testapp");
        if !path.exists() {
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            let mut build = Command::new(cargo);
            build.args(["build", "--example", "testapp", "--manifest-path"]);
            build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
            build.args(profile.ends_with("release").then_some("--release"));
            assert!(build.status().unwrap().success(), "testapp does not build");
        }
        path
    })
}

// === impl Program ===

impl Program {
    /// Starts it with `mark` in its environment (see `procs::marked`) and none of our own settings in it.
    pub(crate) fn spawn(mut command: Command, mark: &Path) -> Self {
        let name = Path::new(command.get_program()).file_name().unwrap().to_string_lossy().into_owned();
        for (key, _) in std::env::vars_os() {
            let ours =
                key.to_str().is_some_and(|k| k.starts_with("PILOTLIGHT_") || k == "RUST_LOG" || k == "PORT");
            if ours && !command.get_envs().any(|(set, _)| set == key) {
                command.env_remove(key);
            }
        }
        command.env("TEST_MARK", mark).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let deaf = Arc::new(AtomicBool::new(false));
        let readers = [
            collect(child.stdout.take().unwrap(), log.clone(), deaf.clone()),
            collect(child.stderr.take().unwrap(), log.clone(), deaf.clone()),
        ];
        Self { name, child, exited: None, log, readers, deaf }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far, standard output and standard error.
    pub(crate) fn log(&self) -> String {
        self.log.lock().join("\n")
    }

    /// All that it wrote, after its end.
    pub(crate) async fn settled_log(&self) -> String {
        let what = format!("{}: its output ends", self.name);
        let done = async || super::wait::holds(self.readers.iter().all(JoinHandle::is_finished), "open");
        wait_until(SOON, what, done).await;
        self.log()
    }

    /// Closes our end of its standard error after the next line: from then on, what it writes there fails.
    pub(crate) fn stop_reading(&self) {
        self.deaf.store(true, Ordering::Relaxed);
    }

    /// Whether our end of its standard error is closed.
    pub(crate) fn is_deaf(&self) -> bool {
        self.readers[1].is_finished()
    }

    /// The address in its line `listening on ADDR (ROLE)`. An empty role takes the first such line.
    pub(crate) async fn listening(&mut self, role: &str) -> SocketAddr {
        let what = format!("{} logs `listening on ADDR` for {role:?}", self.name);
        let log = self.log.clone();
        wait_until(SOON, what, async || {
            if let Some(status) = self.exited() {
                panic!("{}: ended ({status}) before it listened\n{}", self.name, self.log());
            }
            let log = log.lock();
            let found =
                log.iter().find_map(|line| listener(line).filter(|(_, r)| role.is_empty() || r == role));
            found.map(|(addr, _)| addr).ok_or_else(|| log.join("\n"))
        })
        .await
    }

    /// Its exit status, if it has ended.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().unwrap();
        }
        self.exited
    }

    /// Waits for its end. The status as a shell would give it: 128 + signal for a signal.
    pub(crate) async fn wait(&mut self, deadline: Duration) -> i32 {
        let what = format!("{} ends", self.name);
        let status = wait_until(deadline, what, async || self.exited().ok_or("still running")).await;
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
    }

    /// Sends a signal to the program alone.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// SIGTERM, and its exit status.
    pub(crate) async fn terminate(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait(SOON).await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Before it is reaped: afterwards the id could be another group's.
        if self.exited().is_none() {
            if let Some(group) = Pid::from_raw(self.pid().cast_signed()) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            let mut text = format!("--- log of {} ({})\n", self.name, self.pid());
            let log = self.log.lock();
            for line in log.iter().skip(log.len().saturating_sub(400)) {
                let _ = writeln!(text, "{line}");
            }
            eprintln!("{text}---");
        }
    }
}

/// Threads, not tasks: the log is complete even while the test's runtime is busy or gone.
fn collect(
    stream: impl Read + Send + 'static,
    log: Arc<Mutex<Vec<String>>>,
    deaf: Arc<AtomicBool>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            log.lock().push(String::from_utf8_lossy(&line).into_owned());
            if deaf.load(Ordering::Relaxed) {
                return;
            }
        }
    })
}

/// Takes `listening on ADDR (ROLE)` out of a line, text or JSON.
fn listener(line: &str) -> Option<(SocketAddr, String)> {
    let (_, rest) = line.split_once("listening on ")?;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit() && !".:[]".contains(c)).unwrap_or(rest.len());
    let role = rest[end..].strip_prefix(" (").and_then(|role| role.split_once(')'));
    Some((rest[..end].parse().ok()?, role.map_or(String::new(), |(role, _)| role.to_owned())))
}

//! One test's place: a directory with services, state and records, and every process that carries its name.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;
use tempfile::TempDir;

use super::procs::{Proc, kill, marked};
use super::program::Program;
use super::records::{self, Record};
use super::serve::ServeBuilder;
use super::wait::{SOON, wait_until};
use super::yaml::Yaml;

/// A temporary directory; dropped, it takes every process with it that carries its name.
pub(crate) struct Lab {
    dir: TempDir,
}

/// A file that something waits for: it goes on when the test opens the gate. Prints as the path.
pub(crate) struct Gate(String);

// === impl Lab ===

impl Lab {
    pub(crate) fn new() -> Self {
        let dir = TempDir::with_prefix("pilotlight-test-").unwrap();
        std::fs::create_dir(dir.path().join("services")).unwrap();
        Self { dir }
    }

    /// The directory: also the mark of its processes.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// A closed gate.
    pub(crate) fn gate(&self, name: &str) -> Gate {
        Gate(self.text_path(name))
    }

    /// A path as an argument.
    pub(crate) fn text_path(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A service that runs testapp and records to [`Lab::records`] under its name.
    pub(crate) fn app(&self, name: &str) -> Yaml {
        Yaml::testapp(name, &self.path(&format!("{name}.jsonl")))
    }

    /// What all replicas of a service recorded so far.
    pub(crate) fn records(&self, service: &str) -> Vec<Record> {
        records::read(&self.path(&format!("{service}.jsonl")))
    }

    /// Records of one kind.
    pub(crate) fn events(&self, service: &str, event: &str) -> Vec<Record> {
        let mut records = self.records(service);
        records.retain(|r| r.is(event));
        records
    }

    /// Did this request reach an app?
    pub(crate) fn reached(&self, service: &str, id: &str) -> bool {
        self.events(service, "request").iter().any(|r| r.id.as_deref() == Some(id))
    }

    /// Writes `services/FILE` as careful editors do: whole, by rename.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let temporary = self.path(&format!("{file}.new"));
        std::fs::write(&temporary, text).unwrap();
        std::fs::rename(temporary, self.path("services").join(file)).unwrap();
    }

    /// Writes `services/FILE` as other editors do: in place.
    pub(crate) fn overwrite(&self, file: &str, text: &str) {
        std::fs::write(self.path("services").join(file), text).unwrap();
    }

    /// One file with these services.
    pub(crate) fn services(&self, services: &[&Yaml]) -> &Self {
        let text: String = services.iter().map(|s| s.text()).collect();
        self.write("services.yaml", &text);
        self
    }

    /// `pilotlight serve -f services`.
    pub(crate) fn serve(&self) -> ServeBuilder {
        ServeBuilder::new(self)
    }

    /// `pilotlight` with these arguments.
    pub(crate) fn pilotlight(&self, args: &[&str]) -> Program {
        self.pilotlight_with(args, &[])
    }

    /// `pilotlight` with these arguments and environment variables.
    pub(crate) fn pilotlight_with(&self, args: &[&str], variables: &[(&str, &str)]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pilotlight"));
        command.args(args).envs(variables.iter().copied());
        Program::spawn(command, self.dir())
    }

    /// Live processes of this lab: pilotlight itself, replicas, their children.
    pub(crate) fn processes(&self) -> Vec<Proc> {
        marked(self.dir())
    }

    /// Live testapp processes.
    pub(crate) fn replicas(&self) -> Vec<Proc> {
        let mut all = self.processes();
        all.retain(|p| p.command.split(' ').next().is_some_and(|program| program.ends_with("/testapp")));
        all
    }

    /// Waits until nothing is left: a killed grandchild may take a moment longer than the one who killed it.
    pub(crate) async fn until_empty(&self) {
        wait_until(SOON, "no process is left", async || self.empty_but(&[])).await;
    }

    /// Nothing is left of this lab: `Err` lists what is.
    pub(crate) fn empty_but(&self, pids: &[u32]) -> Result<(), String> {
        let left: Vec<_> = self.processes().into_iter().filter(|p| !pids.contains(&p.pid)).collect();
        let lines: Vec<_> = left.iter().map(ToString::to_string).collect();
        if left.is_empty() { Ok(()) } else { Err(lines.join("; ")) }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Twice: one that was just starting another is rare, but happens.
        for _ in 0..2 {
            for process in self.processes() {
                kill(process.pid, Signal::KILL);
            }
        }
    }
}

// === impl Gate ===

impl Gate {
    pub(crate) fn open(&self) {
        std::fs::write(&self.0, "").unwrap();
    }
}

impl std::ops::Deref for Gate {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A range of as many ports as a test with hundreds of services needs, apart from [`port_range`]'s.
pub(crate) fn free_range(n: u16) -> (u16, u16) {
    let mut starts = (31_300..32_768 - n).step_by(64).cycle().skip(std::process::id() as usize % 16);
    let free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let first = starts.by_ref().take(64).find(|first| (*first..*first + n).all(free));
    let first = first.unwrap_or_else(|| panic!("no {n} free ports in a row"));
    (first, first + n - 1)
}

/// A range of `n` ports below the kernel's ephemeral ones, free right now and given out once per test run.
pub(crate) fn port_range(n: u16) -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries that run at the same time start at different places.
    let base = 21_000 + u16::try_from(std::process::id() % 50).unwrap() * 200;
    loop {
        let first = base + NEXT.fetch_add(n, Ordering::Relaxed) % 200;
        let all_free = (first..first + n).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
        if all_free {
            return (first, first + n - 1);
        }
    }
}

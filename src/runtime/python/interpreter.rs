//! Which Python of this machine will do.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::constraint::{Constraint, Version};
use crate::runtime::process::child::{Child, Launch};
use crate::runtime::process::logs::LogSink;

/// In the order of preference; the machine's usual one first.
const NAMES: [&str; 7] =
    ["python3", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9", "python"];
/// A start that takes longer is taken as broken.
const PATIENCE: Duration = Duration::from_secs(20);
const ASK: &str = "import sys; print('pilotlight-python', *sys.version_info[:3], sys.executable)";

/// A Python that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// What it calls itself: behind a shim the real one.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
}

/// The first that will do, or those found that will not.
///
/// Every entry of `path` is looked at, since the first may be a shim of a version manager that runs nothing.
pub(super) async fn find(
    constraint: &Constraint,
    path: &OsStr,
    env: &[(String, String)],
) -> Result<Interpreter, Vec<Interpreter>> {
    let mut refused: Vec<Interpreter> = Vec::new();
    for name in NAMES {
        for file in std::env::split_paths(path).map(|dir| dir.join(name)) {
            if !file.is_absolute() || !file.is_file() {
                continue;
            }
            match ask(&file, env).await {
                Some(one) if constraint.accepts(one.version) => return Ok(one),
                Some(one) if !refused.contains(&one) => refused.push(one),
                _ => {}
            }
        }
    }
    Err(refused)
}

async fn ask(file: &Path, env: &[(String, String)]) -> Option<Interpreter> {
    let log = LogSink::memory();
    // `-I`: neither the user's site nor the current directory may take part.
    let argv = vec![file.to_str()?.to_owned(), "-I".to_owned(), "-c".to_owned(), ASK.to_owned()];
    let env_remove = super::ENV_REMOVE.map(str::to_owned).to_vec();
    let launch = Launch { argv, env: env.to_vec(), env_remove, working_dir: "/".into(), log: log.clone() };
    let mut child = Child::spawn(launch).ok()?;
    let exit = timeout(PATIENCE, child.exited()).await.ok()?;
    log.settled(PATIENCE).await;
    let lines = log.tail(usize::MAX);
    let answer = lines.iter().rev().find_map(|line| line.text.strip_prefix("pilotlight-python "))?;
    let mut words = answer.splitn(4, ' ');
    let mut number = || words.next()?.parse().ok();
    let version = [number()?, number()?, number()?];
    let path = Path::new(OsStr::from_bytes(words.next()?.as_bytes()));
    (exit.success() && path.is_absolute()).then(|| Interpreter { path: path.to_owned(), version })
}

// === impl Interpreter ===

impl std::fmt::Display for Interpreter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.version;
        write!(f, "{} {major}.{minor}.{patch}", self.path.display())
    }
}

//! Bounded logs: what replicas print.
//!
//! One pipe per replica takes standard output and standard error. A task reads it, keeps the last [`TAIL_BYTES`] in memory
//! (for error messages and the admin API), gives each line to followers, and hands batches to a blocking thread that
//! writes them to `DIR/NAMESPACE/SERVICE/REPLICA.log`. Neither the app nor the control thread waits for a disk: when
//! [`PENDING_BYTES`] are unwritten the app is held up for [`STALL`] at most; then the batch is left out, with a mark.

mod file;
pub(crate) mod lines;
mod sink;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use self::file::{Rotating, previous};
pub use self::sink::{Line, LogSink};
use crate::config::spec::ServiceKey;

/// Default size of each of a replica's two files.
pub const FILE_BYTES: u64 = 1 << 20;
/// What is kept in memory of each replica's log.
pub const TAIL_BYTES: usize = 64 << 10;
/// Lines kept in memory of each replica's log, however short they are.
pub const TAIL_LINES: usize = 4096;
/// Log files kept per service, those of running replicas aside.
pub const KEEP: usize = 10;
/// Lines that a follower may be behind.
pub const FOLLOW_LINES: usize = 256;
/// What may wait for the disk per replica.
pub const PENDING_BYTES: usize = 1 << 20;
/// How long a slow disk may hold up an app per [`PENDING_BYTES`].
pub const STALL: Duration = Duration::from_millis(200);

/// The directory of logs.
#[derive(Clone, Debug)]
pub struct Logs {
    dir: PathBuf,
    file_bytes: u64,
    keep: usize,
    open: Arc<Mutex<HashSet<PathBuf>>>,
}

/// A log that cannot be kept: the machine's fault. Trying again later is safe.
#[derive(Debug, thiserror::Error)]
#[error("log file {}: {source}", path.display())]
pub struct LogError {
    path: PathBuf,
    source: io::Error,
}

/// Takes a path off the list of open logs.
#[derive(Debug)]
struct Opened {
    path: PathBuf,
    open: Arc<Mutex<HashSet<PathBuf>>>,
}

// === impl Logs ===

impl Logs {
    /// Logs under `dir`, two files of `file_bytes` per replica, the newest `keep` replicas per service.
    pub fn new(dir: PathBuf, file_bytes: u64, keep: usize) -> Self {
        Self { dir, file_bytes, keep, open: Arc::default() }
    }

    /// The log of a new replica, whose name must be new; removes logs of old ones. A few file operations, no waiting.
    pub fn open(&self, service: &ServiceKey, replica: &str) -> Result<LogSink, LogError> {
        let dir = self.dir.join(&*service.namespace).join(&*service.name);
        let path = dir.join(format!("{replica}.log"));
        fs::create_dir_all(&dir).map_err(|source| LogError { path: dir.clone(), source })?;
        // Before the new one is there, so that `keep` is never passed.
        self.prune(&dir);
        self.open.lock().insert(path.clone());
        let opened = Opened { path: path.clone(), open: Arc::clone(&self.open) };
        let file =
            Rotating::create(path.clone(), self.file_bytes).map_err(|source| LogError { path, source })?;
        Ok(LogSink::with_file(file, opened))
    }

    /// Keeps the newest `keep - 1` of the logs in `dir` that nobody writes any more.
    fn prune(&self, dir: &Path) {
        let Ok(entries) = fs::read_dir(dir) else { return };
        let open = self.open.lock();
        let mut old: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "log") && !open.contains(path))
            .map(|path| {
                (fs::metadata(&path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH), path)
            })
            .collect();
        old.sort_unstable_by(|a, b| b.cmp(a));
        for (_, path) in old.iter().skip(self.keep.saturating_sub(1)) {
            let _ = fs::remove_file(previous(path));
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.open.lock().remove(&self.path);
    }
}

#[cfg(test)]
mod tests;

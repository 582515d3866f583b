//! The state directory, and what an earlier run left behind.
//!
//! A pilotlight that is killed with SIGKILL cannot stop its replicas. The next one with the same state directory does, at its
//! start, before it starts any. It knows them again in two ways, and kills nothing else:
//!
//! - a record per replica, `run/PID.json`: process id, start time and boot. All three must be the same. The leader's
//!   group and descendants go with it, and whoever holds the replica's log open, though the leader is gone;
//! - [`INSTANCE_ENV`] in the environment, with this directory's random id: finds what left its group or lost its leader.
//!
//! One `serve` per directory: a lock that the kernel drops with the process. A copy of a directory is another directory:
//! the id is kept with the device and inode that it was drawn for.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::kin::Kin;
use super::procfs;
use super::sweep::{Report, Sweep};

/// Marks every process that belongs to a state directory.
pub const INSTANCE_ENV: &str = "PILOTLIGHT_INSTANCE";
/// Names the replica that a process belongs to.
pub const REPLICA_ENV: &str = "PILOTLIGHT_REPLICA";
/// How long a sweep waits for what it killed.
pub const SWEEP_DEADLINE: Duration = Duration::from_secs(5);

/// A locked state directory.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    instance: String,
    /// Keeps the lock.
    _lock: File,
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another pilotlight runs on it. Starting again once that one has ended is safe.
    #[error("state directory {} is in use by another pilotlight{}", path.display(), pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who holds the lock.
        pid: Option<i32>,
    },
    /// The machine's fault: rights, space, a file where a directory should be.
    #[error("state directory: {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What identifies a replica's leader, on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) pid: i32,
    pub(super) start: u64,
    pub(super) boot: String,
    pub(super) replica: String,
    /// What the log's write end links to; its number is not given out again while somebody has it open.
    #[serde(default)]
    pub(super) pipe: String,
}

/// The record of a running replica. Dropping it removes the file: do so once the replica is reaped.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
}

// === impl StateDir ===

impl StateDir {
    /// Makes the directory if need be and locks it.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let run = path.join("run");
        // What is in there may hold secrets of the user's apps.
        DirBuilder::new().recursive(true).mode(0o700).create(&run).map_err(at(&run))?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(at(&lock_path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let _ = lock.read_to_string(&mut text);
                return Err(StateError::InUse { path: path.into(), pid: text.trim().parse().ok() });
            }
            Err(e) => return Err(at(&lock_path)(e.into())),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(at(&lock_path))?;
        let instance = instance(path)?;
        Ok(Self { path: path.into(), instance, _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory's random id.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Belongs into the environment of everything that is started for `replica`.
    pub fn env(&self, replica: &str) -> Vec<(String, String)> {
        vec![(INSTANCE_ENV.to_owned(), self.instance.clone()), (REPLICA_ENV.to_owned(), replica.to_owned())]
    }

    /// Remembers a process group, by its leader, which must not be reaped yet.
    pub(super) fn record(&self, kin: &Kin, replica: &str) -> Result<Record, StateError> {
        let Kin { leader: pid, start, pipe, .. } = kin.clone();
        let path = self.run_dir().join(format!("{pid}.json"));
        if !kin.is_pinned() {
            return Err(at(&path)(io::ErrorKind::NotFound.into()));
        }
        let identity = Identity { pid, start, boot: procfs::boot_id(), replica: replica.to_owned(), pipe };
        let text = serde_json::to_vec(&identity).map_err(|e| at(&path)(e.into()))?;
        // Not synced: after a power failure it means nothing. Half a record is ignored by the reader.
        fs::write(&path, text).map_err(at(&path))?;
        Ok(Record { path })
    }

    /// Kills everything that an earlier run on this directory left, and waits up to [`SWEEP_DEADLINE`] until it is gone.
    /// Only while no replica of this run is alive: at the start, and at the end if one wants to be sure.
    pub async fn sweep(&self) -> Report {
        let identities = self.identities();
        let mut sweep = Sweep::new(vec![format!("{INSTANCE_ENV}={}", self.instance)]);
        sweep.records = identities.iter().map(|(_, identity)| identity.clone()).collect();
        let report = sweep.run(SWEEP_DEADLINE).await;
        for (path, identity) in identities {
            if !report.left.iter().any(|left| left.pid == identity.pid) {
                let _ = fs::remove_file(path);
            }
        }
        report
    }

    /// Kills what a reaped replica left outside its group: a daemon with a session of its own.
    pub async fn sweep_replica(&self, replica: &str) -> Report {
        let marks = self.env(replica).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        Sweep::new(marks).run(SWEEP_DEADLINE).await
    }

    fn run_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Records that can be read; others are removed, the marker in the environment finds those processes.
    fn identities(&self) -> Vec<(PathBuf, Identity)> {
        let Ok(entries) = fs::read_dir(self.run_dir()) else {
            return Vec::new();
        };
        let read = |path: PathBuf| {
            let identity = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            if identity.is_none() {
                let _ = fs::remove_file(&path);
            }
            Some((path, identity?))
        };
        entries.flatten().filter_map(|entry| read(entry.path())).collect()
    }
}

// === impl Record ===

impl Drop for Record {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> StateError + use<> {
    let path = path.to_owned();
    move |source| StateError::Io { path: path.clone(), source }
}

/// The id kept in `dir`, or a new one if there is none that was drawn for this very directory. Called under the lock.
fn instance(dir: &Path) -> Result<String, StateError> {
    let path = dir.join("instance");
    let meta = fs::metadata(dir).map_err(at(dir))?;
    let place = format!("{}:{}", meta.dev(), meta.ino());
    if let Ok(kept) = fs::read_to_string(&path)
        && let [id, of] = kept.split_ascii_whitespace().collect::<Vec<_>>()[..]
        && of == place
        && id.len() == 32
        && id.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Ok(id.to_owned());
    }
    // From the kernel: two directories must never agree, else one's sweep would kill the other's replicas.
    let random = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    File::open(random).and_then(|mut file| file.read_exact(&mut bytes)).map_err(at(random))?;
    let id = format!("{:032x}", u128::from_ne_bytes(bytes));
    // Records first: with a new id and old records, a copy would still end the other's replicas.
    let run = dir.join("run");
    for entry in fs::read_dir(&run).map_err(at(&run))?.flatten() {
        fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
    }
    let new = path.with_extension("new");
    fs::write(&new, format!("{id} {place}\n")).and_then(|()| fs::rename(&new, &path)).map_err(at(&path))?;
    Ok(id)
}

#[cfg(test)]
mod tests;

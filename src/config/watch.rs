//! Says when the files behind `-f` may have changed. Nothing runs while nothing changes.
//!
//! Folders are watched, not files: editors and Kubernetes replace files, and a watch on a replaced file sees nothing
//! any more. Every symbolic link on the way counts, because a `ConfigMap` changes by swapping one (`..data`).
//! An event only starts a look; what is compared are the files' stamps, so noise in a folder changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::files;

/// This long without an event, and a change counts as finished.
pub const QUIET: Duration = Duration::from_millis(150);
/// Steps of [`QUIET`] that are waited for at most: a folder that never rests is still looked at.
pub const QUIET_STEPS_MAX: u32 = 10;
/// Steps of [`QUIET`] that a vanished file is given to come back.
pub const VANISHED_STEPS: u32 = 5;
/// How often is looked when nothing can be watched.
pub const POLL: Duration = Duration::from_secs(2);
/// Symbolic links followed from one path (Linux' own bound).
const LINKS_MAX: u32 = 40;

/// Watches until it is dropped. Start it before the first load: then no change falls in between.
#[derive(Debug)]
pub struct Watch {
    changed: mpsc::Receiver<()>,
    signals: SyncSender<Signal>,
}

#[derive(Debug)]
enum Signal {
    /// Something happened in a watched folder.
    Event,
    /// The `Watch` was dropped.
    Stop,
}

/// Tells two versions of a file apart; `None` = it is not there.
type Stamps = BTreeMap<PathBuf, Option<(u64, u64, u64, i64, i64, i64, i64)>>;

/// The thread's state.
struct Looker {
    paths: Vec<PathBuf>,
    signals: Receiver<Signal>,
    changed: mpsc::Sender<()>,
    /// `None`: nothing can be watched, so it polls.
    watcher: Option<RecommendedWatcher>,
    /// Watched folders and their inodes: a folder may be replaced too.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    stamps: Stamps,
}

// === impl Watch ===

impl Watch {
    /// Watches these files and folders, on a thread of its own.
    pub fn start(paths: &[PathBuf]) -> std::io::Result<Self> {
        Self::start_with(paths, true)
    }

    /// Waits for the next change. Changes that come before the call are kept, as one. `None` when the thread is gone.
    pub async fn changed(&mut self) -> Option<()> {
        self.changed.recv().await
    }

    fn start_with(paths: &[PathBuf], may_watch: bool) -> std::io::Result<Self> {
        // One pending signal is enough: it makes the thread look at everything.
        let (signals, received) = sync_channel(1);
        let (tell, changed) = mpsc::channel(1);
        let events = signals.clone();
        let handler = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|e| is_change(e.kind)) {
                let _ = events.try_send(Signal::Event);
            }
        };
        let watcher =
            if may_watch { notify::recommended_watcher(handler) } else { Err(notify::Error::generic("")) };
        let mut looker = Looker {
            paths: paths.to_vec(),
            signals: received,
            changed: tell,
            watcher: watcher.ok(),
            watched: BTreeMap::new(),
            stamps: Stamps::new(),
        };
        looker.watch_folders();
        looker.stamps = stamps(&looker.paths);
        std::thread::Builder::new().name("config-watch".into()).spawn(move || looker.run())?;
        Ok(Self { changed, signals })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // When the one place is taken, the thread is about to look and finds the other channel closed.
        let _ = self.signals.try_send(Signal::Stop);
    }
}

// === impl Looker ===

impl Looker {
    fn run(mut self) {
        while self.wait() {
            self.watch_folders();
            let mut stamps = stamps(&self.paths);
            // An editor or a copy may take a file away for a moment.
            for _ in 0..VANISHED_STEPS {
                if !self.vanished(&stamps) {
                    break;
                }
                std::thread::sleep(QUIET);
                self.watch_folders();
                stamps = self::stamps(&self.paths);
            }
            if stamps != self.stamps {
                self.stamps = stamps;
                // A full channel already says it.
                let _ = self.changed.try_send(());
            }
        }
    }

    /// Waits for a reason to look. `false` = nobody wants to know any more.
    fn wait(&self) -> bool {
        if self.watcher.is_none() {
            let stop = !matches!(self.signals.recv_timeout(POLL), Err(RecvTimeoutError::Timeout));
            return !stop && !self.changed.is_closed();
        }
        if !matches!(self.signals.recv(), Ok(Signal::Event)) {
            return false;
        }
        for _ in 0..QUIET_STEPS_MAX {
            match self.signals.recv_timeout(QUIET) {
                Ok(Signal::Event) => {
                    // Events in a burst: the sleep keeps them from waking this thread one by one.
                    std::thread::sleep(QUIET / 2);
                }
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        !self.changed.is_closed()
    }

    fn vanished(&self, now: &Stamps) -> bool {
        let there = self.stamps.iter().filter(|(_, stamp)| stamp.is_some());
        there.into_iter().any(|(path, _)| now.get(path).is_none_or(Option::is_none))
    }

    /// Watches what must be watched now; links may lead elsewhere than before.
    fn watch_folders(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let inode = |p: &PathBuf| std::fs::metadata(p).ok().map(|m| (m.dev(), m.ino()));
        let wanted: BTreeMap<PathBuf, (u64, u64)> =
            folders(&self.paths).into_iter().filter_map(|p| inode(&p).map(|i| (p, i))).collect();
        for (old, _) in self.watched.iter().filter(|(path, inode)| wanted.get(*path) != Some(inode)) {
            let _ = watcher.unwatch(old);
        }
        let mut failed = false;
        for (new, _) in wanted.iter().filter(|(path, inode)| self.watched.get(*path) != Some(inode)) {
            failed |= watcher.watch(new, RecursiveMode::NonRecursive).is_err();
        }
        self.watched = wanted;
        if failed {
            tracing::warn!("cannot watch the configuration's folders, looking every {POLL:?} instead");
            self.watcher = None;
        }
    }
}

/// Reading is no change; without this, reading the files would start the next look.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

fn stamps(paths: &[PathBuf]) -> Stamps {
    let stamp = |path: &Path| {
        let m = std::fs::metadata(path).ok()?;
        Some((m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()))
    };
    // The paths themselves too: a folder that vanishes takes its files with it.
    let mut found: Stamps =
        files::find(paths).0.into_iter().map(|f| (stamp(&f.path), f.path)).map(|(s, p)| (p, s)).collect();
    for gone in paths.iter().filter(|p| !p.exists()) {
        found.insert(gone.clone(), None);
    }
    found
}

/// The folders in which something must happen before the files behind these paths can be others.
fn folders(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for path in paths {
        follow(path, &mut folders);
        if path.is_dir() {
            for file in files::find(std::slice::from_ref(path)).0 {
                if file.path.is_symlink() {
                    follow(&file.path, &mut folders);
                }
            }
        }
    }
    folders
}

/// Adds the folder of each link on the way to `path`, and the folder that it ends in.
fn follow(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for _ in 0..LINKS_MAX {
        match first_link(&path) {
            Ok((folder, next)) => {
                folders.insert(folder);
                path = next;
            }
            Err(end) => {
                folders.insert(end);
                return;
            }
        }
    }
}

/// The folder of the first link in `path`, and the path with that link resolved. Without a link: the folder
/// at its end, or as far as it exists.
fn first_link(path: &Path) -> Result<(PathBuf, PathBuf), PathBuf> {
    let mut so_far = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        let folder = so_far.clone();
        if component == Component::ParentDir {
            so_far.pop();
            continue;
        }
        so_far.push(component);
        let Ok(meta) = std::fs::symlink_metadata(&so_far) else {
            return Err(folder);
        };
        if meta.is_symlink() {
            let target = std::fs::read_link(&so_far).map_err(|_| folder.clone())?;
            let next = folder.join(target).join(components.as_path());
            return Ok((folder, next));
        }
        if !meta.is_dir() {
            return Err(folder);
        }
    }
    Err(so_far)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const SOON: Duration = Duration::from_secs(10);
    const LONG_ENOUGH: Duration = Duration::from_millis(900);

    #[track_caller]
    fn expect(watch: &mut Watch, change: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let patience = if change { SOON } else { LONG_ENOUGH };
        let got = runtime.block_on(async { tokio::time::timeout(patience, watch.changed()).await });
        assert_eq!(got.is_ok(), change);
    }

    #[test]
    fn edits_renames_new_and_removed_files() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
        fs::write(&a, "1").unwrap();
        let mut watch = Watch::start(&[dir.path().to_path_buf()]).unwrap();
        fs::write(&a, "2").unwrap();
        expect(&mut watch, true);
        fs::write(dir.path().join("notes.txt"), "noise").unwrap();
        let _ = (fs::read(&a).unwrap(), fs::read_dir(dir.path()).unwrap().count());
        expect(&mut watch, false);
        fs::write(dir.path().join(".a.tmp"), "3").unwrap();
        fs::rename(dir.path().join(".a.tmp"), &a).unwrap();
        expect(&mut watch, true);
        fs::write(&b, "1").unwrap();
        expect(&mut watch, true);
        fs::remove_file(&b).unwrap();
        expect(&mut watch, true);
    }

    #[test]
    fn a_file_that_vanishes_for_a_moment_is_one_change() {
        let dir = tempfile::tempdir().unwrap();
        let a = dir.path().join("a.yaml");
        let away = dir.path().join("away");
        fs::write(&a, "1").unwrap();
        let mut watch = Watch::start(std::slice::from_ref(&a)).unwrap();
        fs::remove_file(&a).unwrap();
        std::thread::sleep(QUIET * 2);
        fs::write(&away, "2").unwrap();
        fs::rename(&away, &a).unwrap();
        // One change, not two: the moment in between is not told.
        expect(&mut watch, true);
        expect(&mut watch, false);
    }

    #[test]
    fn a_config_map_is_swapped() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (version, text) in [("..1", "1"), ("..2", "2")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("a.yaml"), text).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/a.yaml", at("a.yaml")).unwrap();
        for paths in [[at("a.yaml")], [dir.path().to_path_buf()]] {
            let mut watch = Watch::start(&paths).unwrap();
            symlink("..2", at("..tmp")).unwrap();
            fs::rename(at("..tmp"), at("..data")).unwrap();
            expect(&mut watch, true);
            symlink("..1", at("..tmp")).unwrap();
            fs::rename(at("..tmp"), at("..data")).unwrap();
            expect(&mut watch, true);
        }
    }

    #[test]
    fn links_elsewhere_and_folders_that_do_not_exist_yet() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = other.path().join("real.yaml");
        fs::write(&target, "1").unwrap();
        symlink(&target, dir.path().join("a.yaml")).unwrap();
        let later = dir.path().join("x/y/later.yaml");
        let mut watch = Watch::start(&[dir.path().join("a.yaml"), later.clone()]).unwrap();
        fs::write(&target, "22").unwrap();
        expect(&mut watch, true);
        fs::create_dir_all(later.parent().unwrap()).unwrap();
        std::thread::sleep(QUIET * 4);
        fs::write(&later, "1").unwrap();
        expect(&mut watch, true);
    }

    #[test]
    fn without_a_watcher_it_looks_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        let a = dir.path().join("a.yaml");
        fs::write(&a, "1").unwrap();
        let mut watch = Watch::start_with(std::slice::from_ref(&a), false).unwrap();
        fs::write(&a, "22").unwrap();
        expect(&mut watch, true);
    }
}

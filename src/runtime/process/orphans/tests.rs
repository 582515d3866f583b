use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::*;
use crate::runtime::process::sweep::Found;

/// A process that is killed and reaped when the test ends, whatever happens.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Started {
    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    fn alive(&self) -> bool {
        procfs::stat(self.pid()).is_some_and(|stat| stat.alive())
    }
}

/// Runs a script in a group of its own, as a replica of an earlier run.
fn start(script: &str, env: &[(String, String)]) -> Started {
    let mut command = Command::new("sh");
    command.args(["-c", script]).process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
    command.envs(env.iter().map(|(n, v)| (n, v)));
    Started(command.spawn().unwrap())
}

fn kin(pid: i32) -> Kin {
    Kin { leader: pid, start: procfs::stat(pid).unwrap().start, marks: vec![], pipe: String::new() }
}

async fn pid_in(file: &Path) -> i32 {
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            if let Some(pid) = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()) {
                return pid;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .unwrap()
}

fn alive(pid: i32) -> bool {
    procfs::stat(pid).is_some_and(|stat| stat.alive())
}

fn has(found: &[Found], pid: i32) -> bool {
    found.iter().any(|f| f.pid == pid)
}

#[test]
fn one_run_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let first = StateDir::open(&path).unwrap();
    let second = StateDir::open(&path).unwrap_err();
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(&second, StateError::InUse { pid: Some(pid), .. } if *pid == own), "{second}");
    assert!(second.to_string().contains(&format!("(pid {own})")), "{second}");
    let id = first.instance().to_owned();
    drop(first);
    let again = StateDir::open(&path).unwrap();
    assert_eq!(again.instance(), id, "the id stays");
    assert_ne!(StateDir::open(dir.path()).unwrap().instance(), id);
    fs::write(path.join("instance"), "damaged").unwrap();
    drop(again);
    assert_eq!(StateDir::open(&path).unwrap().instance().len(), 32);
}

#[tokio::test]
async fn a_copy_is_another_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("state"), dir.path().join("copy"));
    let first = StateDir::open(&here).unwrap();
    let replica = start("sleep 60", &first.env("r"));
    std::mem::forget(first.record(&kin(replica.pid()), "r").unwrap());
    assert!(Command::new("cp").arg("-a").args([&here, &there]).status().unwrap().success());
    let copy = StateDir::open(&there).unwrap();
    assert_ne!(copy.instance(), first.instance());
    assert!(copy.identities().is_empty() && first.identities().len() == 1);
    assert!(copy.sweep().await.is_empty() && replica.alive());
    // Moved, it is the same one.
    let (id, moved) = (first.instance().to_owned(), dir.path().join("moved"));
    drop(first);
    fs::rename(&here, &moved).unwrap();
    let moved = StateDir::open(&moved).unwrap();
    assert_eq!(moved.instance(), id);
    assert!(has(&moved.sweep().await.killed, replica.pid()));
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let err = StateDir::open(&file).unwrap_err();
    assert!(err.to_string().contains("file"), "{err}");
}

#[tokio::test]
async fn what_an_earlier_run_left_is_killed_and_strangers_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let env = state.env("iris-1");
    let (inner, daemon) = (dir.path().join("inner"), dir.path().join("daemon"));

    // Recorded, without the marker (an app may overwrite its environment), with a child in the group.
    let recorded = start(&format!("sleep 60 & echo $! > {}; wait", inner.display()), &[]);
    std::mem::forget(state.record(&kin(recorded.pid()), "iris-1").unwrap());
    // Marked only: pilotlight died between start and record. Its daemon has left the group.
    let script = format!("setsid sh -c 'echo $$ > {}; sleep 60' & wait", daemon.display());
    let marked = start(&script, &env);
    let (inner, daemon) = (pid_in(&inner).await, pid_in(&daemon).await);

    // Strangers: nothing in common; another directory's; a reused number (wrong start time); another boot's record.
    let other = tempfile::tempdir().unwrap();
    let other = StateDir::open(other.path()).unwrap();
    let plain = start("sleep 60", &[]);
    let foreign = start("sleep 60", &other.env("iris-1"));
    let similar = start("sleep 60", &[(INSTANCE_ENV.into(), format!("{}0", state.instance()))]);
    let stale = |pid, start, boot: &str| {
        let identity = Identity { pid, start, boot: boot.into(), replica: "old".into(), pipe: String::new() };
        fs::write(state.run_dir().join(format!("{pid}.json")), serde_json::to_vec(&identity).unwrap())
            .unwrap();
    };
    let reused = start("sleep 60", &[]);
    stale(reused.pid(), procfs::stat(reused.pid()).unwrap().start - 1, &procfs::boot_id());
    let other_boot = start("sleep 60", &[]);
    stale(other_boot.pid(), procfs::stat(other_boot.pid()).unwrap().start, "another");
    fs::write(state.run_dir().join("9.json"), "{half").unwrap();

    let report = state.sweep().await;
    assert_eq!(report.left, []);
    for pid in [recorded.pid(), inner, marked.pid(), daemon] {
        assert!(!alive(pid), "{pid} lives");
        assert!(has(&report.killed, pid), "{pid} not in {report:?}");
    }
    for stranger in [&plain, &foreign, &similar, &reused, &other_boot] {
        assert!(stranger.alive(), "stranger {} was killed: {report:?}", stranger.pid());
    }
    assert_eq!(fs::read_dir(state.run_dir()).unwrap().count(), 0, "records are gone");
    assert_eq!(state.sweep().await, Report::default(), "nothing left to do");
}

#[tokio::test]
async fn a_daemon_of_one_replica_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let one = start("sleep 60", &state.env("one"));
    let two = start("sleep 60", &state.env("two"));
    // `spawn` returns once `exec` is done, so the environment is the new one.
    let report = state.sweep_replica("one").await;
    assert!(has(&report.killed, one.pid()) && !one.alive() && two.alive(), "{report:?}");
}

#[test]
fn a_record_goes_with_its_replica() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let replica = start("sleep 60", &[]);
    let record = state.record(&kin(replica.pid()), "r").unwrap();
    let [(_, identity)] = &state.identities()[..] else { panic!("one record") };
    assert_eq!((identity.pid, identity.replica.as_str()), (replica.pid(), "r"));
    drop(record);
    assert!(state.identities().is_empty());
    assert!(state.record(&Kin { leader: i32::MAX, ..kin(replica.pid()) }, "r").is_err());
}

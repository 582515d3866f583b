//! One replica: a process and its group.
//!
//! The exit is seen through a pidfd, which does not reap. That order matters: while the leader is a zombie, its group's
//! id is pinned, so the rest of the group can be killed without the risk of hitting a stranger; then the leader is reaped.
//! What has left the group ([`super::kin`]) is looked for before each signal, while its parents still live, and gets the same.
//!
//! `PR_SET_PDEATHSIG` is not used: it fires when the *thread* that spawned ends, and needs `fork` instead of `posix_spawn`.
//! What outlives a killed pilotlight is found again by [`super::orphans`].

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout, timeout_at};

use super::children::{self, Known};
use super::exit::Exit;
use super::kin::{Held, Kin};
use super::logs::LogSink;
use super::lookup::{SpawnError, find};
use super::orphans::{INSTANCE_ENV, REPLICA_ENV};
use super::procfs;
use crate::clock;

/// Room for what an app prints while nobody reads; memory is taken only when it is used.
const PIPE_BYTES: usize = 256 << 10;
/// A dropped child is looked at this often, with [`DROP_PAUSE`] between (20 ms in all); after that a thread waits for it.
const DROP_LOOKS: u32 = 100;
const DROP_PAUSE: Duration = Duration::from_micros(200);
/// From SIGKILL to the end of what had left the group.
const STRAYS_DIE: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Program and arguments, ready to run (see [`super::expand`]).
    pub argv: Vec<String>,
    /// Set over the environment of this process; a later entry of the same name wins.
    pub env: Vec<(String, String)>,
    /// Taken out of the environment of this process.
    pub env_remove: Vec<String>,
    /// Absolute.
    pub working_dir: PathBuf,
    /// Takes standard output and standard error, in their order.
    pub log: LogSink,
}

/// A running replica. Dropping it kills the group, and what has left it.
#[derive(Debug)]
pub struct Child {
    leader: Option<Known>,
    pid: Pid,
    kin: Kin,
    /// What was found outside the group.
    strays: Vec<Held>,
    pidfd: AsyncFd<OwnedFd>,
    exit: Option<Exit>,
}

// === impl Child ===

impl Child {
    /// Starts it. Needs a tokio runtime, whose tasks read the output.
    pub fn spawn(launch: Launch) -> Result<Self, SpawnError> {
        let Launch { argv, env, env_remove, working_dir, log } = launch;
        let inherited = std::env::var_os("PATH");
        let path = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_ref());
        let program = argv.first().map_or("", String::as_str);
        let file = find(program, path.or(inherited.as_deref()), &working_dir)?;
        let other = |source: io::Error| SpawnError::Other { path: file.clone(), source };

        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| other(e.into()))?;
        let _ = fcntl_setpipe_size(&writer, PIPE_BYTES); // refused above the user's limit: 64 KiB will do

        let mut command = Command::new(&file);
        command.arg0(program).args(&argv[1..]).current_dir(&working_dir).process_group(0);
        for name in &env_remove {
            command.env_remove(name);
        }
        let marks = marks(&env);
        command.envs(env);
        let pipe = procfs::fd_link(reader.as_raw_fd());
        command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(&other)?).stderr(writer);
        let leader = children::spawn(&mut command).map_err(|e| SpawnError::from_spawn(file.clone(), e))?;
        drop(command); // it holds the pipe's write end: without this the log never ends

        let pid = leader.pid();
        let start = procfs::stat(pid.as_raw_pid()).map_or(0, |stat| stat.start);
        let kin = Kin { leader: pid.as_raw_pid(), start, marks, pipe };
        let watched = watch(pid).and_then(|fd| log.attach(reader).map(|()| fd));
        match watched {
            Ok(pidfd) => Ok(Self { leader: Some(leader), pid, kin, strays: Vec::new(), pidfd, exit: None }),
            Err(source) => {
                discard(leader, &kin);
                Err(other(source))
            }
        }
    }

    /// The leader's process id, which is the group's id too.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_pid()
    }

    /// What tells its processes from others.
    pub(super) fn kin(&self) -> &Kin {
        &self.kin
    }

    /// Waits until the leader has ended; kills the rest of the group and what has left it, then reaps. Dropping the
    /// future loses nothing, and after the end it answers the same again.
    pub async fn exited(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        self.ended().await;
        self.gather().await;
        self.reap()
    }

    /// SIGTERM to the group and to what has left it, up to `grace` for all to end, then SIGKILL to what is left.
    ///
    /// A leader that ends first (a shell in front of the server) does not cut the grace of the rest short.
    pub async fn terminate(&mut self, grace: Duration) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        let deadline = tokio::time::Instant::from_std(clock::now() + grace);
        self.gather().await;
        self.signal(Signal::TERM);
        let _ = timeout_at(deadline, async {
            self.ended().await;
            over(Some(self.pid()), &self.strays).await;
        })
        .await;
        self.gather().await;
        self.signal(Signal::KILL);
        let exit = self.exited().await;
        let _ = timeout(STRAYS_DIE, over(None, &self.strays)).await;
        exit
    }

    /// SIGKILL to the whole group, if it still is ours, and to what has left it. Looks at every process of the machine,
    /// for some milliseconds: for what is rare.
    pub fn kill(&self) {
        let strays = self.kin.strays();
        self.signal(Signal::KILL);
        for stray in &strays {
            stray.signal(Signal::KILL);
        }
    }

    /// Looks for what has left the group.
    async fn gather(&mut self) {
        let kin = self.kin.clone();
        // Reads a file per process of the machine: some milliseconds.
        let found = tokio::task::spawn_blocking(move || kin.strays()).await.unwrap_or_default();
        self.strays.retain(Held::is_alive);
        for stray in found {
            if !self.strays.iter().any(|held| held.stat.pid == stray.stat.pid) {
                self.strays.push(stray);
            }
        }
    }

    /// How it ended, once [`Child::exited`] or [`Child::terminate`] has said so.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    fn signal(&self, signal: Signal) {
        if self.leader.is_some() {
            let _ = kill_process_group(self.pid, signal); // not reaped: the id is ours
        }
        for stray in &self.strays {
            stray.signal(signal);
        }
    }

    /// Waits until the leader is a zombie.
    async fn ended(&self) {
        while self.leader.is_some() && !self.is_zombie() {
            match self.pidfd.readable().await {
                // Ready before the check and cleared after it: an exit in between sets it again.
                Ok(mut ready) if !self.is_zombie() => ready.clear_ready(),
                // Err: the runtime is going away, nobody can wait any more.
                _ => return,
            }
        }
    }

    fn is_zombie(&self) -> bool {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        // An error means that someone else reaped it, which nothing here does; then it is gone as well.
        !matches!(waitid(WaitId::Pid(self.pid), look), Ok(None))
    }

    fn reap(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        self.signal(Signal::KILL);
        let status = self.leader.take().map(|mut leader| leader.wait());
        let exit = status.and_then(Result::ok).map_or(Exit::Code(-1), Exit::from);
        self.exit = Some(exit);
        exit
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(leader) = self.leader.take() {
            discard(leader, &self.kin);
        }
    }
}

/// Becomes readable when the process ends; does not reap it.
#[expect(
    deprecated,
    reason = "its successor is unsafe; an OwnedFd keeps to the contract: one number, open until dropped"
)]
fn watch(pid: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd_open(pid, PidfdFlags::NONBLOCK)?, Interest::READABLE)
}

/// The entries of an environment that mark a replica's processes.
fn marks(env: &[(String, String)]) -> Vec<String> {
    let entry = |name| {
        let (_, value) = env.iter().rev().find(|(n, _)| n == name)?;
        Some(format!("{name}={value}"))
    };
    // One of them alone is not the replica's.
    [INSTANCE_ENV, REPLICA_ENV].into_iter().map(entry).collect::<Option<_>>().unwrap_or_default()
}

/// Waits until the group is empty and all of `strays` are gone.
async fn over(group: Option<i32>, strays: &[Held]) {
    let look = move || group.is_some_and(|group| procfs::living().iter().any(|stat| stat.group == group));
    let mut pause = Duration::from_millis(2);
    while strays.iter().any(Held::is_alive) || tokio::task::spawn_blocking(look).await.unwrap_or(false) {
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Kills the group and what has left it, and reaps the leader. A leader in an uninterruptible wait (a dead file server, an
/// accelerator's driver) must not hold up the control thread; the look at all processes does, for some milliseconds:
/// only while parents live can their children be told, and who drops a child cannot wait.
fn discard(mut leader: Known, kin: &Kin) {
    let strays = kin.strays();
    let _ = kill_process_group(leader.pid(), Signal::KILL);
    for stray in &strays {
        stray.signal(Signal::KILL);
    }
    for _ in 0..DROP_LOOKS {
        if !matches!(leader.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(DROP_PAUSE);
    }
    let _ = std::thread::Builder::new().name("reap".to_owned()).spawn(move || leader.wait());
}

#[cfg(test)]
mod tests;

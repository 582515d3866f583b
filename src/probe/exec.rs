//! `exec`: ready when a command exits 0.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{ExecContext, ProbeFailure};
use crate::runtime::process::children::{self, Known};

#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) argv: Vec<String>,
    pub(super) context: ExecContext,
}

/// A group of its own, killed when the attempt is over in any way: a probe leaves nothing behind.
struct Running {
    /// None once reaped.
    leader: Option<Known>,
    pid: Pid,
}

// === impl Command ===

impl Command {
    pub(super) async fn check(&self) -> Result<(), ProbeFailure> {
        let program = self.argv.first().map_or("", String::as_str);
        let failed = |e: &dyn std::fmt::Display| ProbeFailure::Exec(format!("{program}: {e}"));
        let mut command = std::process::Command::new(program);
        command.args(self.argv.iter().skip(1)).process_group(0);
        command.envs(self.context.env.iter().map(|(name, value)| (name, value)));
        if !self.context.working_dir.as_os_str().is_empty() {
            command.current_dir(&self.context.working_dir);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let leader = children::spawn(&mut command).map_err(|e| failed(&e))?;
        let mut running = Running { pid: leader.pid(), leader: Some(leader) };
        let status = running.ended().await.map_err(|e| failed(&e))?;
        if status.success() { Ok(()) } else { Err(failed(&status)) }
    }
}

// === impl Running ===

impl Running {
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let pidfd = watch(self.pid)?;
        loop {
            let mut ready = pidfd.readable().await?;
            if exited(&pidfd) {
                break;
            }
            ready.clear_ready();
        }
        // Before reaping: only an unreaped leader pins the group's id.
        let _ = kill_process_group(self.pid, Signal::KILL);
        self.leader.take().map_or(Err(io::ErrorKind::NotFound.into()), |mut leader| leader.wait())
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

/// Looks without reaping.
fn exited(pidfd: &AsyncFd<OwnedFd>) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    !matches!(waitid(WaitId::PidFd(pidfd.get_ref().as_fd()), look), Ok(None))
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut leader) = self.leader.take() else {
            return;
        };
        let _ = kill_process_group(self.pid, Signal::KILL);
        if !matches!(leader.try_wait(), Ok(Some(_))) {
            // It ends in a moment, or hangs in a driver: neither may hold up the caller.
            let _ = std::thread::Builder::new().name("reap".to_owned()).spawn(move || leader.wait());
        }
    }
}

//! SIGTERM, SIGINT, SIGHUP and SIGQUIT: the first drains, the second ends the program at once.
//!
//! A closed terminal (SIGHUP) or Ctrl-\\ (SIGQUIT) must not leave every model server behind either.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Takes the signals over.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    /// `None` where it was ignored when the program started (`nohup`).
    hangup: Option<Signal>,
}

// === impl Signals ===

impl Signals {
    /// From now on none of them ends the program by itself.
    pub fn take() -> io::Result<Self> {
        let hangup = if hangup_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup,
        })
    }

    /// Waits for the next of them; says which.
    pub async fn next(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
            _ = hangup => "SIGHUP",
        }
    }
}

/// Whether this process was started with SIGHUP ignored (`SigIgn` of proc(5), bit 0 is signal 1).
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

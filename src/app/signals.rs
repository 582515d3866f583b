//! SIGTERM and SIGINT: the first drains, the second ends the program at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Takes both signals over.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
}

// === impl Signals ===

impl Signals {
    /// From now on neither ends the program by itself.
    pub fn take() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of either; says which.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

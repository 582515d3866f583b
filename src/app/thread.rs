//! The data thread: one thread, one runtime, nothing on it but connections.
//!
//! One thread because a request's two connections then never wait for another core, and an uncontended lock costs
//! nothing (ARCHITECTURE.md, "Threads"). Probes, processes, decisions and the admin port run elsewhere and cannot
//! delay a request.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// A running data thread. Dropping it stops the thread and everything on it.
#[derive(Debug)]
pub struct DataThread {
    handle: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

// === impl DataThread ===

impl DataThread {
    /// Starts it.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name("data".into())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self { handle, stop, thread: Some(thread) })
    }

    /// To spawn on it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for DataThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the data thread panicked");
        }
    }
}

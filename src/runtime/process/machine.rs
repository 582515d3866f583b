//! What all replicas of this machine share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::logs::Logs;
use super::orphans::StateDir;
use super::ports::PortAllocator;
use crate::config::spec::{PythonSpec, ServiceKey};
use crate::events::Events;
use crate::policy::dispatch::ReplicaId;

/// The state directory, ports, logs and environments.
#[derive(Debug)]
pub struct Machine {
    /// Locked, with the marks by which orphans are found again.
    pub state: StateDir,
    /// Output of replicas.
    pub logs: Logs,
    /// Free loopback ports.
    pub ports: PortAllocator,
    /// What happens.
    pub events: Arc<Events>,
    next: AtomicU64,
}

// === impl Machine ===

impl Machine {
    /// On a state directory that is locked and swept.
    pub fn new(state: StateDir, events: Arc<Events>) -> Self {
        let logs = Logs::new(state.path().join("logs"), super::logs::FILE_BYTES, super::logs::KEEP);
        Self { state, logs, ports: PortAllocator::default(), events, next: AtomicU64::new(1) }
    }

    /// An identity that no replica had.
    pub fn next_replica(&self) -> ReplicaId {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Variables that put a Python environment first, once it is made.
    pub async fn python_env(
        &self,
        _python: &PythonSpec,
        _service: &ServiceKey,
    ) -> Result<Vec<(String, String)>, String> {
        Ok(Vec::new())
    }
}

/// Variables of ours that no replica shall inherit: they configure this program.
pub fn own_variables() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("PILOTLIGHT_"))
        .collect()
}

//! Activator → **queue-proxy** → app: one app behind a hard limit.
//!
//! The same line, the same way of a request as the activator's, with one replica that is always the same: the app
//! next door. It joins the line when its readiness probe succeeds, and leaves it when it cannot be reached.
//!
//! What flows in: requests on the traffic port. What flows out: requests to the app, whether it is ready, and load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::activator::route::Routes;
use crate::activator::service::Service;
use crate::activator::wake::Wakeups;
use crate::activator::{Activator, ByPort};
use crate::clock;
use crate::config::spec::{Addresses, ServiceSpec};
use crate::drain::Drain;
use crate::policy::dispatch::ReplicaId;
use crate::probe::{ExecContext, Prober};
use crate::proxy::endpoint::Endpoint;

/// The one replica.
const APP: ReplicaId = 1;
/// Connections that may rest at an app without a limit.
const MAX_IDLE_CONNECTIONS: usize = 256;
/// The app may take as long as it likes to start; the orchestrator decides when it is too long.
const LONGEST_START: Duration = Duration::from_hours(24 * 365);

/// One app behind a hard limit.
#[derive(Debug)]
pub struct QueueProxy {
    service: Arc<Service>,
    addresses: Addresses,
    ready: Arc<AtomicBool>,
}

// === impl QueueProxy ===

impl QueueProxy {
    /// In front of the app at `addresses`, as `spec` says.
    pub fn new(spec: ServiceSpec, addresses: Addresses) -> Self {
        let service = Service::new(Arc::new(spec), Arc::new(Wakeups::default()), fastrand::u64(..));
        Self { service: Arc::new(service), addresses, ready: Arc::default() }
    }

    /// Answers every request, whatever its host.
    pub fn handler(&self, drain: Drain) -> ByPort {
        let activator = Activator::new(drain);
        activator.set_routes(Routes::new([self.service.clone()]));
        ByPort(Arc::new(activator), self.service.key.clone())
    }

    /// The app as the line sees it.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Whether the app answers its probe.
    pub fn ready(&self) -> Arc<AtomicBool> {
        self.ready.clone()
    }

    /// Keeps the app in the line while it can be reached. Never returns.
    pub async fn watch(&self) {
        let spec = self.service.spec();
        let working_dir = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let exec = ExecContext { env: Vec::new(), working_dir };
        let prober = Prober::new(&spec.readiness, self.addresses, exec);
        let max_idle = match spec.concurrency.limit as usize {
            0 => MAX_IDLE_CONNECTIONS,
            limit => limit.min(MAX_IDLE_CONNECTIONS),
        };
        loop {
            let asked = clock::now();
            if let Err(not_ready) = prober.until_ready(asked, asked + LONGEST_START).await {
                tracing::warn!(%not_ready, "the app is not ready");
                continue;
            }
            let ready = clock::now();
            // `spawned` and `ready` before any request: the app's start is not ours to report.
            let endpoint =
                Arc::new(Endpoint::new(APP, self.addresses, spec.protocol, max_idle, asked, ready));
            self.service.line.join(APP, endpoint.clone());
            self.ready.store(true, Ordering::Release);
            tracing::info!("the app at {} is ready", self.addresses.http);
            endpoint.suspected().await;
            self.service.leave(APP);
            self.ready.store(false, Ordering::Release);
            tracing::warn!("the app at {} cannot be reached", self.addresses.http);
        }
    }
}

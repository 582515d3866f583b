//! Activator → **queue-proxy** → app: one app behind a hard limit.
//!
//! The same line, the same way of a request as the activator's, with one replica that is always the same: the app
//! next door. It joins the line when its readiness probe succeeds, and leaves it when it cannot be reached, breaks
//! exchanges, or says that it is not ready. Meanwhile requests wait, as many as the line holds; only while the app
//! stays out because it passes its probe and answers nothing, they are told so at once.
//!
//! What flows in: requests on the traffic port. What flows out: requests to the app, whether it is ready, and load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::activator::route::Routes;
use crate::activator::service::{Service, Trouble};
use crate::activator::wake::Wakeups;
use crate::activator::{Activator, ByPort};
use crate::clock;
use crate::config::spec::{Addresses, ServiceSpec};
use crate::drain::Drain;
use crate::policy::dispatch::ReplicaId;
use crate::policy::ejection::Ejections;
use crate::probe::{ExecContext, Prober};
use crate::proxy::endpoint::{Doubt, Endpoint};
use crate::proxy::metrics::Ejected;
use crate::stat::{Reading, Stat};

/// The one replica.
const APP: ReplicaId = 1;
/// Connections that may rest at an app without a limit.
const MAX_IDLE_CONNECTIONS: usize = 256;
/// The app may take as long as it likes to start; the orchestrator decides when it is too long.
const LONGEST_START: Duration = Duration::from_hours(24 * 365);
/// After it was found well again, exchanges that it breaks do not put the app in doubt for this long: else requests
/// that it breaks off would keep it out of the set, and its readiness flapping.
const TRUST: Duration = Duration::from_millis(100);
/// A process that was killed accepts connections for a moment longer than it answers any, so that a second failure in a
/// row may still be the first one's: from the third on, who waits is told.
const FAILURES_OF_ONE_DEATH: u32 = 2;
/// Load is averaged over this long, as Knative's queue-proxy does.
const STAT_PERIOD: Duration = Duration::from_secs(1);

/// One app behind a hard limit.
#[derive(Debug)]
pub struct QueueProxy {
    service: Arc<Service>,
    addresses: Addresses,
    ready: Arc<AtomicBool>,
    /// How often a ready app is asked whether it still is.
    period: Duration,
    started: Instant,
    /// The last whole second's load.
    load: Mutex<Option<Reading>>,
}

// === impl QueueProxy ===

impl QueueProxy {
    /// In front of the app at `addresses`, as `spec` says; `period` zero = a ready app is not asked again.
    pub fn new(spec: ServiceSpec, addresses: Addresses, period: Duration) -> Self {
        let service = Service::new(Arc::new(spec), Arc::new(Wakeups::default()), fastrand::u64(..));
        let (started, load) = (clock::now(), Mutex::new(None));
        Self { service: Arc::new(service), addresses, ready: Arc::default(), period, started, load }
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

    /// Its load in the last second, as it is reported.
    pub fn stat(&self) -> Stat {
        let (now, load) = (clock::now(), *self.load.lock());
        let name = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_default();
        Stat {
            pod_name: name,
            average_concurrent_requests: load.map_or(0.0, |load| load.concurrency),
            request_count: load.map_or(0.0, |load| load.rate),
            process_uptime: now.saturating_duration_since(self.started).as_secs_f64(),
            timestamp: clock::wall_millis().cast_signed(),
            ..Stat::default()
        }
    }

    /// Averages the load, second by second. Never returns.
    pub async fn measure(&self) {
        let mut tick = interval(STAT_PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            tick.tick().await;
            let reading = self.service.meter.read(clock::now());
            *self.load.lock() = Some(reading);
        }
    }

    /// Keeps the app in the line while it is ready. Never returns.
    pub async fn watch(&self) {
        let spec = self.service.spec();
        let working_dir = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let exec = ExecContext { env: Vec::new(), working_dir };
        let prober = Prober::new(&spec.readiness, self.addresses, exec);
        let mut ejections = Ejections::default();
        let mut trusted_until = clock::now();
        loop {
            let asked = clock::now();
            if let Err(not_ready) = prober.until_ready(asked, asked + LONGEST_START).await {
                tracing::warn!(%not_ready, "the app is not ready");
                continue;
            }
            self.service.clear_trouble();
            self.ready.store(true, Ordering::Release);
            tracing::info!("the app at {} is ready", self.addresses.http);
            let (doubt, pause) = self.serve(&spec, &prober, &mut ejections, &mut trusted_until).await;
            self.ready.store(false, Ordering::Release);
            self.service.metrics.ejected(doubt.kind);
            tracing::warn!("the app at {} is not ready any more: {}", self.addresses.http, doubt.why);
            if ejections.in_a_row() > FAILURES_OF_ONE_DEATH {
                let reason = format!("the app passes its probe and answers nothing: {}", doubt.why).into();
                let (failures, until) = (ejections.in_a_row(), clock::now() + pause);
                self.service.set_trouble(Trouble { reason, code: "app_ejected", failures, until });
            }
            tokio::time::sleep(pause).await;
            trusted_until = clock::now() + TRUST;
        }
    }

    /// In the line until it shall stay out of it, and how long at least. One exchange that broke is the request's or
    /// the app's own affair as a rule: when a look finds the app well, nobody is told and nothing flaps.
    async fn serve(
        &self,
        spec: &ServiceSpec,
        prober: &Prober,
        ejections: &mut Ejections,
        trusted_until: &mut Instant,
    ) -> (Doubt, Duration) {
        let max_idle = match spec.concurrency.limit as usize {
            0 => MAX_IDLE_CONNECTIONS,
            limit => limit.min(MAX_IDLE_CONNECTIONS),
        };
        loop {
            let now = clock::now();
            // `spawned` and `ready` before any request: the app's start is not ours to report.
            let endpoint = Endpoint::new(APP, self.addresses, spec.protocol, max_idle, now, now);
            let endpoint = Arc::new(endpoint.trusted_until(*trusted_until));
            self.service.line.join(APP, endpoint.clone());
            let doubt = tokio::select! {
                biased;
                doubt = endpoint.suspected() => doubt,
                failure = prober.until_unready(self.period, || self.service.line.in_flight() > 0),
                    if !self.period.is_zero() =>
                {
                    self.service.leave(APP);
                    return (Doubt { kind: Ejected::NotReady, why: failure.to_string() }, Duration::ZERO);
                }
            };
            self.service.leave(APP);
            let pause = ejections.next(endpoint.has_answered(), fastrand::u64(..));
            if !pause.is_zero() || prober.check().await.is_err() {
                return (doubt, pause);
            }
            *trusted_until = clock::now() + TRUST;
        }
    }
}

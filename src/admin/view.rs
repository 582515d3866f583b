//! A service as the admin API shows it.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::activator::service::Trouble;
use crate::autoscaler::scaler::Last;
use crate::fleet::{Fleet, Member};
use crate::runtime::process::supervisor::{Phase, ReplicaView};

/// One service, in the shape of the design's contract.
#[derive(Debug, Serialize)]
pub struct ServiceView {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where it is reached on the common port.
    pub url: String,
    /// Where any `Host` reaches it.
    pub port_url: Option<String>,
    /// In a word.
    pub state: ServiceState,
    /// Replicas wanted.
    pub desired: u32,
    /// Never fewer.
    pub min: u32,
    /// Never more; 0 = no bound of its own.
    pub max: u32,
    /// Requests in flight per replica at most; 0 = unlimited.
    pub concurrency_limit: u32,
    /// Its processes, oldest first.
    pub replicas: Vec<ReplicaState>,
    /// Requests that hold a slot.
    pub in_flight: u32,
    /// Requests that wait for one.
    pub queued: usize,
    /// Bytes that waiting requests hold.
    pub buffered_bytes: u64,
    /// Requests that ever came, those that count as no load aside.
    pub requests_total: u64,
    /// How long a start is expected to take, once one was seen.
    pub expected_start_s: Option<f64>,
    /// Why it cannot start, since the last starts failed.
    pub trouble: Option<TroubleView>,
    /// How many replicas it should have, with everything that was decided from.
    pub last_decision: Option<Last>,
}

/// One replica.
#[derive(Debug, Serialize)]
pub struct ReplicaState {
    /// What the runtime says.
    #[serde(flatten)]
    pub replica: ReplicaView,
    /// Requests that hold a slot there.
    pub in_flight: u32,
}

/// Why a service cannot start.
#[derive(Debug, Serialize)]
pub struct TroubleView {
    /// In words, with the exit status.
    pub reason: String,
    /// Failed starts in a row.
    pub failures: u32,
    /// Until the next start may be tried; 0 = as soon as somebody asks.
    pub retry_in_s: f64,
}

/// A service in a word. The first that holds, from the bottom up:
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// 6. No replica is there or wanted, and nothing waits.
    Zero,
    /// 5. A replica starts, one is wanted, or something waits.
    Starting,
    /// 2. At least one replica can serve.
    Ready,
    /// 3. None can serve and the last starts failed: whoever asks before the next attempt is refused. Holds at zero
    ///    too, until a start succeeds or the service is changed.
    Failing,
    /// 4. Only replicas that leave are left. 1. Or the whole program leaves.
    Draining,
}

// === impl ServiceView ===

impl ServiceView {
    /// What `member` is now; `draining` is the program.
    pub fn of(fleet: &Fleet, member: &Member, draining: bool, now: Instant) -> Self {
        let (service, replicas) = (&member.managed.service, &member.managed.replicas);
        let spec = service.spec();
        let view = replicas.view();
        let trouble = service.trouble();
        let (queued, desired) = (service.line.waiting(), replicas.desired());
        let phases = view.iter().map(|replica| replica.phase);
        Self {
            namespace: service.key.namespace.to_string(),
            name: service.key.name.to_string(),
            url: fleet.url(service),
            port_url: member.port.map(|port| format!("http://{port}")),
            state: ServiceState::of(phases, trouble.is_some(), queued > 0 || desired > 0, draining),
            desired,
            min: spec.scaling.min,
            max: spec.scaling.max,
            concurrency_limit: spec.concurrency.limit,
            replicas: view
                .into_iter()
                .map(|replica| {
                    let in_flight = service.line.in_flight_at(replica.replica);
                    ReplicaState { replica, in_flight }
                })
                .collect(),
            in_flight: service.line.in_flight(),
            queued,
            buffered_bytes: service.buffered(),
            requests_total: service.meter.total(),
            expected_start_s: service.expected_start().map(|took| took.as_secs_f64()),
            trouble: trouble.map(|trouble| TroubleView::of(&trouble, now)),
            last_decision: member.managed.decision.load().as_deref().cloned(),
        }
    }
}

// === impl TroubleView ===

impl TroubleView {
    fn of(trouble: &Trouble, now: Instant) -> Self {
        let retry_in: Duration = trouble.until.saturating_duration_since(now);
        Self {
            reason: trouble.reason.to_string(),
            failures: trouble.failures,
            retry_in_s: retry_in.as_secs_f64(),
        }
    }
}

// === impl ServiceState ===

impl ServiceState {
    /// The rule; `wanted`: a replica is wanted or something waits.
    pub fn of(phases: impl Iterator<Item = Phase>, trouble: bool, wanted: bool, draining: bool) -> Self {
        let (mut ready, mut starting, mut leaving) = (false, false, false);
        for phase in phases {
            match phase {
                Phase::Ready => ready = true,
                Phase::Starting | Phase::Unready => starting = true,
                Phase::Draining => leaving = true,
            }
        }
        match () {
            () if draining => Self::Draining,
            () if ready => Self::Ready,
            () if trouble => Self::Failing,
            () if starting || wanted => Self::Starting,
            () if leaving => Self::Draining,
            () => Self::Zero,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_for_a_state() {
        use Phase::{Draining, Ready, Starting, Unready};
        for (phases, trouble, wanted, draining, expected) in [
            (&[][..], false, false, false, ServiceState::Zero),
            (&[], false, true, false, ServiceState::Starting),
            (&[Starting], false, true, false, ServiceState::Starting),
            (&[Unready], false, true, false, ServiceState::Starting),
            (&[Draining, Starting], false, true, false, ServiceState::Starting),
            (&[Starting, Ready], false, true, false, ServiceState::Ready),
            (&[Draining, Ready], true, true, false, ServiceState::Ready),
            (&[Starting], true, true, false, ServiceState::Failing),
            (&[], true, false, false, ServiceState::Failing),
            (&[Draining], false, false, false, ServiceState::Draining),
            (&[Ready], false, true, true, ServiceState::Draining),
            (&[], false, false, true, ServiceState::Draining),
        ] {
            let state = ServiceState::of(phases.iter().copied(), trouble, wanted, draining);
            assert_eq!(state, expected, "{phases:?} {trouble} {wanted} {draining}");
        }
    }
}

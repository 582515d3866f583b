//! `/api/services`: what there is, and the two commands a person has.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Shared;
use super::error::AdminError;
use super::view::ServiceView;
use crate::clock;
use crate::config::spec::ServiceKey;
use crate::fleet::Member;

/// All services, by namespace and name.
pub(super) async fn list(State(shared): State<Shared>) -> Json<Vec<ServiceView>> {
    let members = shared.fleet.members();
    Json(members.values().map(|member| shared.view(member)).collect())
}

/// One service.
pub(super) async fn one(
    State(shared): State<Shared>,
    Path(path): Path<(String, String)>,
) -> Result<Json<ServiceView>, AdminError> {
    let member = shared.member(&path)?;
    Ok(Json(shared.view(&member)))
}

/// Starts a service as a request would; answers with what it is then.
pub(super) async fn wake(
    State(shared): State<Shared>,
    Path(path): Path<(String, String)>,
) -> Result<(StatusCode, Json<ServiceView>), AdminError> {
    let member = shared.member(&path)?;
    if shared.drain.is_draining() {
        return Err(AdminError::Draining);
    }
    let key = &member.managed.service.key;
    if !shared.autoscaler.wake(key.clone()).await {
        return Err(shared.gone(key));
    }
    Ok((StatusCode::ACCEPTED, Json(shared.view(&member))))
}

/// Sends a service to its minimum, unless requests run or wait there.
pub(super) async fn sleep(
    State(shared): State<Shared>,
    Path(path): Path<(String, String)>,
) -> Result<(StatusCode, Json<ServiceView>), AdminError> {
    let member = shared.member(&path)?;
    if shared.drain.is_draining() {
        return Err(AdminError::Draining);
    }
    let service = &member.managed.service;
    if !shared.autoscaler.sleep(service.key.clone()).await {
        return Err(match service.meter.current() {
            0 if !shared.fleet.members().contains_key(&service.key) => shared.gone(&service.key),
            // The last request may have ended since: it was busy when it was asked.
            busy => AdminError::Busy(service.key.clone(), busy.max(1)),
        });
    }
    Ok((StatusCode::ACCEPTED, Json(shared.view(&member))))
}

// === impl Shared ===

impl Shared {
    /// The service of a path.
    pub(super) fn member(&self, (namespace, name): &(String, String)) -> Result<Member, AdminError> {
        let key = ServiceKey::new(namespace, name);
        self.fleet.members().get(&key).cloned().ok_or(AdminError::NoService(key))
    }

    fn view(&self, member: &Member) -> ServiceView {
        ServiceView::of(&self.fleet, member, self.drain.is_draining(), clock::now())
    }

    /// The autoscaler does not know it any more.
    fn gone(&self, key: &ServiceKey) -> AdminError {
        if self.drain.is_draining() { AdminError::Draining } else { AdminError::NoService(key.clone()) }
    }
}

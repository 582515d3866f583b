//! pilotlight's own view of a service: `GET /api/services/NAMESPACE/NAME` on its admin port.

use std::path::PathBuf;

use ::pilotlight::config::field::Field;
use serde::Deserialize;

use super::error::ObserveError;
use super::http::Http;
use super::{Of, address, key};
use crate::run::Observed;

/// Which service of which pilotlight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// The admin port's address, such as `http://127.0.0.1:8081`.
    pub(crate) admin: String,
    /// `NAMESPACE/NAME`; none = the scenario's name of the service, in `default`.
    pub(crate) service: Option<String>,
    /// A file whose content is sent as a bearer token.
    pub(crate) token_file: Option<PathBuf>,
}

/// Reads it.
pub(super) struct Reader {
    http: Http,
    path: String,
}

/// The part of the answer that is looked at.
#[derive(Deserialize)]
struct Service {
    desired: u64,
    in_flight: u64,
    queued: u64,
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    phase: String,
}

// === impl At ===

impl At {
    pub(super) fn read(field: &Field<'_>, of: Of<'_>) -> Option<Self> {
        let fields = field.fields();
        let (admin, service) = (address(&fields, "admin"), of.text(&fields, "service"));
        let token_file = of.file(&fields, "tokenFile");
        fields.finish();
        Some(Self { admin: admin?, service, token_file })
    }

    pub(super) fn reader(&self, service: &str) -> Result<Reader, ObserveError> {
        let (namespace, name) = key(self.service.as_deref().unwrap_or(service));
        let path = format!("/api/services/{}/{}", segment(namespace), segment(name));
        Ok(Reader { http: Http::new(&self.admin, self.token_file.clone())?, path })
    }
}

/// A name as a segment of a path: form encoding but for the space, which names do not have.
fn segment(name: &str) -> String {
    form_urlencoded::byte_serialize(name.as_bytes()).collect()
}

// === impl Reader ===

impl Reader {
    pub(super) async fn read(&mut self) -> Result<Observed, ObserveError> {
        let body = self.http.get(&self.path).await?;
        match serde_json::from_slice::<Service>(&body) {
            Ok(service) => Ok(service.observed()),
            Err(e) => Err(ObserveError::Answer {
                url: self.http.url(&self.path),
                of: "pilotlight's admin API",
                reason: e.to_string(),
            }),
        }
    }
}

// === impl Service ===

impl Service {
    fn observed(&self) -> Observed {
        let count = |phases: &[&str]| {
            let of = self.replicas.iter().filter(|replica| phases.contains(&replica.phase.as_str()));
            Some(of.count() as u64)
        };
        Observed {
            at_s: 0.0,
            desired: Some(self.desired),
            ready: count(&["ready"]),
            starting: count(&["starting", "unready"]),
            in_flight: Some(self.in_flight),
            queued: Some(self.queued),
        }
    }
}

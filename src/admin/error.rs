//! Why an admin request was not served: the proxy's JSON shape, with codes of its own.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::config::spec::ServiceKey;

/// Why an admin request was not served. Only those of [`StatusCode::SERVICE_UNAVAILABLE`] are worth repeating.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No such path.
    #[error("no such path; see /api/services, /api/config, /api/events, /metrics, /healthz, /readyz")]
    NoPath,
    /// The path has other methods; `Allow` lists them.
    #[error("this path does not have that method")]
    Method,
    /// No such service.
    #[error("there is no service {0}")]
    NoService(ServiceKey),
    /// No replica of that name, running or among the last ones.
    #[error("{0} has no replica {1:?}, and none of the last ones had that name")]
    NoReplica(ServiceKey, String),
    /// A query parameter is wrong.
    #[error("{0}")]
    Query(String),
    /// Requests run or wait.
    #[error("{0} is busy: {1} requests run or wait")]
    Busy(ServiceKey, u32),
    /// Not ready, and why.
    #[error("{0}")]
    NotReady(&'static str),
    /// The program is leaving.
    #[error("pilotlight is draining")]
    Draining,
    /// Every place for a stream is taken.
    #[error("{0} streams are open already")]
    TooManyStreams(usize),
    /// No `Host`, or more than one.
    #[error("{0}")]
    BadHost(String),
    /// The name is none that this listener is reached under.
    #[error("{0:?} is no name of this listener: use localhost or its address")]
    ForeignHost(String),
    /// A page of another origin wants to change something.
    #[error("a page of another origin may not do that")]
    CrossOrigin,
    /// A body of another type.
    #[error("a body here must be application/json")]
    MediaType,
    /// Our fault.
    #[error("bug: {0}")]
    Bug(&'static str),
}

// === impl AdminError ===

impl AdminError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoPath | Self::NoService(_) | Self::NoReplica(..) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Query(_) | Self::BadHost(_) => StatusCode::BAD_REQUEST,
            Self::Busy(..) => StatusCode::CONFLICT,
            Self::NotReady(_) | Self::Draining | Self::TooManyStreams(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::ForeignHost(_) | Self::CrossOrigin => StatusCode::FORBIDDEN,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Bug(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoPath => "no_such_path",
            Self::Method => "method_not_allowed",
            Self::NoService(_) => "no_such_service",
            Self::NoReplica(..) => "no_such_replica",
            Self::Query(_) => "bad_query",
            Self::Busy(..) => "busy",
            Self::NotReady(_) => "not_ready",
            Self::Draining => "draining",
            Self::TooManyStreams(_) => "too_many_streams",
            Self::BadHost(_) => "bad_request",
            Self::ForeignHost(_) => "foreign_host",
            Self::CrossOrigin => "cross_origin",
            Self::MediaType => "unsupported_media_type",
            Self::Bug(_) => "internal_error",
        }
    }

    fn service(&self) -> String {
        match self {
            Self::NoService(key) | Self::NoReplica(key, _) | Self::Busy(key, _) => key.to_string(),
            _ => String::new(),
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = self.status();
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1u64);
        let json = json!({"error": {
            "code": self.code(),
            "message": self.to_string(),
            "service": self.service(),
            "retry_after": retry_after,
        }});
        let mut response = (status, Json(json)).into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

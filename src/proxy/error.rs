//! Why a request got no answer from an app, and the one place that turns it into HTTP or gRPC.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Response, StatusCode};
use serde_json::json;

use super::body::Body;
use super::grpc::{self, Code};
use super::head::Traits;
use crate::config::spec::Timeouts;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request itself.
    Client,
    /// Load, or a replica that is not there.
    Capacity,
    /// The app.
    App,
}

/// A request that got no answer from an app.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProxyError {
    /// No service has this host.
    #[error("no service has the host {0:?}")]
    NoService(String),
    /// No service has the model that the request is for, or it is for none.
    #[error("{0}")]
    NoSuchModel(String),
    /// The name of the model cannot be found where it belongs.
    #[error("{0}")]
    NoModel(String),
    /// The name of the model did not come.
    #[error("the beginning of the body, which names the model, did not come in {limit:?}")]
    SlowBody {
        /// How long it may take.
        limit: Duration,
    },
    /// The request names no host.
    #[error("the request names no host: send a Host header")]
    NoHost,
    /// The line, or its memory, is full.
    #[error("{what} of {limit} is full")]
    Overflow {
        /// Which bound.
        what: &'static str,
        /// Its value.
        limit: u64,
        /// When it may be worth to come back.
        retry_after: Duration,
    },
    /// More requests per second than allowed.
    #[error("the rate limit of {limit}/s is used up{}", if *.tenant { " for this tenant" } else { "" })]
    RateLimit {
        /// Requests per second.
        limit: f64,
        /// Whether it is the tenant's.
        tenant: bool,
        /// When the next one fits.
        retry_after: Duration,
    },
    /// At zero, and the request is of a kind that starts nothing.
    #[error("the service is at zero and this request does not wake it (noWake)")]
    Asleep,
    /// The owner refused those who wait: it cannot start, or it is going away.
    #[error("{0}")]
    Refused(Refusal),
    /// A stage took too long.
    #[error("the {stage} timeout of {limit:?} passed")]
    Timeout {
        /// Which one.
        stage: Stage,
        /// Its length.
        limit: Duration,
    },
    /// The client's own deadline passed before the app answered.
    #[error("the call's deadline (grpc-timeout {limit:?}) passed while it waited for {}", if *.sent { "the app's answer" } else { "a free replica" })]
    Deadline {
        /// As the client gave it.
        limit: Duration,
        /// Whether the app had the call.
        sent: bool,
    },
    /// The app speaks HTTP/1 alone where HTTP/2 is needed.
    #[error("the app does not speak HTTP/2 with prior knowledge, which gRPC and `protocol: h2c` need")]
    NoHttp2,
    /// The app closed or broke the exchange after it may have got the request. Not safe to repeat.
    #[error("the app broke the exchange: {0}")]
    App(String),
    /// The client went away while it waited; nobody reads the answer.
    #[error("the client went away")]
    ClientGone,
    /// The request cannot be forwarded as it is. Its connection is closed: what follows may not be what it seems.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The request's head is too large.
    #[error("the request's head is larger than {limit} bytes")]
    HeadTooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// The request's target is too long.
    #[error("the request's target is longer than {limit} bytes")]
    TargetTooLong {
        /// What is allowed.
        limit: usize,
    },
}

/// Why the owner of a line refuses those who wait in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In words, for the client.
    pub reason: Arc<str>,
    /// The code in the error's JSON.
    pub code: &'static str,
    /// When it may be worth to come back.
    pub retry_after: Duration,
}

/// A stage of a request that has a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waiting for a replica.
    Activation,
    /// From the request sent to the response's head.
    ResponseStart,
    /// Without a byte in either direction.
    Idle,
    /// The whole request.
    Request,
    /// The whole call, as its gRPC client bounds it.
    Call,
}

/// How the client wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A status and JSON.
    Http,
    /// Always 200, with `grpc-status` and `grpc-message`.
    Grpc,
}

// === impl Dialect ===

impl Dialect {
    /// gRPC says so in its content type.
    pub fn of(headers: &HeaderMap) -> Self {
        if grpc::is_call(headers) { Self::Grpc } else { Self::Http }
    }
}

// === impl Stage ===

impl Stage {
    /// Its bound has passed, for a request that an app has.
    pub fn passed(self, timeouts: &Timeouts, traits: Traits) -> ProxyError {
        let limit = match self {
            Self::Call => {
                let limit = traits.grpc_timeout.unwrap_or_default();
                return ProxyError::Deadline { limit, sent: true };
            }
            Self::Activation => timeouts.activation,
            Self::ResponseStart => timeouts.response_start,
            Self::Idle => timeouts.idle,
            Self::Request => timeouts.request,
        };
        ProxyError::Timeout { stage: self, limit }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Activation => "activation",
            Self::ResponseStart => "response start",
            Self::Idle => "idle",
            Self::Request => "request",
            Self::Call => "call's own",
        })
    }
}

// === impl Refusal ===

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

// === impl ProxyError ===

impl ProxyError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NoService(_)
            | Self::NoSuchModel(_)
            | Self::NoModel(_)
            | Self::SlowBody { .. }
            | Self::NoHost
            | Self::BadRequest(_)
            | Self::TargetTooLong { .. }
            | Self::HeadTooLarge { .. }
            | Self::RateLimit { .. }
            | Self::ClientGone => Fault::Client,
            Self::Overflow { .. }
            | Self::Asleep
            | Self::Refused(_)
            | Self::Timeout { stage: Stage::Activation, .. }
            | Self::Deadline { sent: false, .. } => Fault::Capacity,
            Self::Timeout { .. } | Self::Deadline { .. } | Self::App(_) | Self::NoHttp2 => Fault::App,
        }
    }

    /// The status for HTTP.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoService(_) | Self::NoSuchModel(_) => StatusCode::NOT_FOUND,
            Self::SlowBody { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::NoHost | Self::NoModel(_) | Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::TargetTooLong { .. } => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            // nginx's code for it, seen in metrics only.
            Self::ClientGone => StatusCode::from_u16(499).expect("in range"),
            Self::RateLimit { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Overflow { .. } | Self::Asleep | Self::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout { .. } | Self::Deadline { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::App(_) | Self::NoHttp2 => StatusCode::BAD_GATEWAY,
        }
    }

    /// The status for gRPC.
    fn grpc_code(&self) -> Code {
        match self {
            Self::NoService(_) | Self::NoSuchModel(_) => Code::Unimplemented,
            Self::ClientGone => Code::Cancelled,
            Self::NoHost
            | Self::NoModel(_)
            | Self::BadRequest(_)
            | Self::TargetTooLong { .. }
            | Self::HeadTooLarge { .. } => Code::InvalidArgument,
            Self::RateLimit { .. } => Code::ResourceExhausted,
            Self::Overflow { .. } | Self::Asleep | Self::Refused(_) | Self::App(_) => Code::Unavailable,
            // Trying again does not help.
            Self::NoHttp2 => Code::Internal,
            Self::Timeout { .. } | Self::Deadline { .. } | Self::SlowBody { .. } => Code::DeadlineExceeded,
        }
    }

    /// A short word for the error's JSON and for metrics; one of a fixed set.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoService(_) => "no_such_service",
            Self::NoSuchModel(_) => "no_such_model",
            Self::NoModel(_) => "no_model",
            Self::SlowBody { .. } => "slow_body",
            Self::NoHost => "no_host",
            Self::Overflow { .. } => "overflow",
            Self::RateLimit { tenant: false, .. } => "rate_limit",
            Self::RateLimit { tenant: true, .. } => "tenant_rate_limit",
            Self::Asleep => "asleep",
            Self::Refused(refusal) => refusal.code,
            Self::Timeout { stage: Stage::Activation, .. } => "activation_timeout",
            Self::Timeout { stage: Stage::ResponseStart, .. } => "response_start_timeout",
            Self::Timeout { stage: Stage::Idle, .. } => "idle_timeout",
            Self::Timeout { stage: Stage::Request, .. } => "request_timeout",
            Self::Timeout { stage: Stage::Call, .. } | Self::Deadline { .. } => "deadline",
            Self::NoHttp2 => "app_without_http2",
            Self::App(_) => "app_error",
            Self::ClientGone => "client_gone",
            Self::BadRequest(_) => "bad_request",
            Self::TargetTooLong { .. } => "target_too_long",
            Self::HeadTooLarge { .. } => "head_too_large",
        }
    }

    /// Whole seconds for `Retry-After`, at least 1, where coming back makes sense.
    fn retry_after(&self) -> Option<u64> {
        let after = match self {
            Self::Overflow { retry_after, .. } | Self::RateLimit { retry_after, .. } => *retry_after,
            Self::Refused(refusal) => refusal.retry_after,
            Self::Asleep => Duration::from_secs(1),
            _ => return None,
        };
        Some(after.as_millis().div_ceil(1000).max(1) as u64)
    }

    /// The answer to the client. `service` is `NAMESPACE/NAME`, or empty when there is none.
    pub fn response(&self, dialect: Dialect, service: &str) -> Response<Body> {
        let retry_after = self.retry_after();
        let mut response = match dialect {
            Dialect::Http => {
                let json = json!({"error": {
                    "code": self.code(),
                    "message": self.to_string(),
                    "service": service,
                    "retry_after": retry_after,
                }});
                let mut response = Response::new(Body::full(json.to_string() + "\n"));
                *response.status_mut() = self.status();
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Dialect::Grpc => grpc::failed(self.grpc_code(), &self.to_string()),
        };
        // Not for HTTP/2, which has no such field and needs none: hyper leaves it out there.
        let stays = matches!(self, Self::NoService(_) | Self::NoSuchModel(_) | Self::RateLimit { .. });
        if self.status().is_client_error() && !stays {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overflow() -> ProxyError {
        ProxyError::Overflow { what: "the queue", limit: 5, retry_after: Duration::from_millis(1200) }
    }

    #[test]
    fn http_gets_a_status_and_retry_after() {
        let response = overflow().response(Dialect::Http, "default/iris");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "2");
    }

    #[test]
    fn grpc_gets_200_and_a_grpc_status() {
        let timeout = ProxyError::Timeout { stage: Stage::Activation, limit: Duration::from_secs(1) };
        let response = timeout.response(Dialect::Grpc, "default/iris");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["grpc-status"], "4");
        assert_eq!(response.headers()["grpc-message"], "the activation timeout of 1s passed");
    }
}

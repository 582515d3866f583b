//! Sends one request, whose slot is held, to its replica, and hands the answer on as it comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use tokio::time::timeout_at;

use super::Permit;
use super::body::{AppBody, Body, RequestBody};
use super::client::Wire;
use super::error::{Dialect, ProxyError, Stage};
use super::exchange::Exchange;
use super::head::{self, Traits};
use super::metrics::ServiceMetrics;
use super::send_error::SendError;
use super::timeout::IdleTimer;
use super::upgrade;
use crate::clock;
use crate::config::spec::Timeouts;
use crate::drain::Drain;
use crate::stat::Counted;

/// A request that was admitted, between two attempts.
#[derive(Debug)]
pub struct Forward {
    /// In canonical form ([`head::canonical`]).
    pub request: Request<RequestBody>,
    /// What its head said.
    pub traits: Traits,
    /// How its client wants errors.
    pub dialect: Dialect,
    /// When it came.
    pub started: Instant,
    /// Counts it as load.
    pub counted: Option<Counted>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was sent: give the slot back, take another and try again.
    NotSent(Box<Forward>, Permit, SendError),
    /// The exchange broke. The request, if it had no body and the connection was reset before a byte of the response:
    /// should it turn out that the app's process has died, it had not read all of the request, and the request may
    /// go elsewhere.
    Broken(Option<Box<Forward>>, Permit, SendError),
    /// The app refused the request before it did anything with it, but is well: once more, elsewhere if possible.
    Refused(Box<Forward>, Permit, SendError),
    /// Final.
    Final(ProxyError),
}

impl Forward {
    /// One attempt at the replica of `permit`.
    pub async fn attempt(
        mut self,
        permit: Permit,
        timeouts: &Timeouts,
        metrics: &Arc<ServiceMetrics>,
        drain: &Drain,
    ) -> Result<Response<Body>, Failure> {
        let grpc = self.dialect == Dialect::Grpc;
        let client = permit.endpoint().client(grpc).clone();
        let sent = clock::now();
        let request_deadline = at(self.started, timeouts.request);
        let start_deadline = at(sent, timeouts.response_start);
        let call_deadline = self.traits.grpc_timeout.map(|limit| self.started + limit);
        let deadline = [call_deadline, request_deadline, start_deadline].into_iter().flatten().min();
        let wire = match (client.known_wire(self.traits.h2, grpc), deadline) {
            (Some(wire), _) => Some(wire),
            (None, None) => Some(client.wire(grpc).await),
            (None, Some(deadline)) => timeout_at(deadline.into(), client.wire(grpc)).await.ok(),
        };
        let traits = self.traits;
        let expired = || {
            let (stage, limit) = match deadline {
                passed if passed == call_deadline => {
                    let limit = traits.grpc_timeout.unwrap_or_default();
                    return Failure::Final(ProxyError::Deadline { limit, sent: true });
                }
                passed if passed == request_deadline => (Stage::Request, timeouts.request),
                _ => (Stage::ResponseStart, timeouts.response_start),
            };
            Failure::Final(ProxyError::Timeout { stage, limit })
        };
        let wire = wire.ok_or_else(expired)?;
        if grpc && wire == Wire::H1 {
            return Err(Failure::Final(ProxyError::NoHttp2));
        }
        head::shape(&mut self.request, wire).map_err(Failure::Final)?;
        let upgrade = self.traits.upgrade.then(|| upgrade::client_side(&mut self.request));
        let spare = spare(&self.request);
        let send = client.send(wire, self.request);
        let answered = match deadline {
            None => send.await,
            Some(deadline) => match timeout_at(deadline.into(), send).await {
                Ok(answered) => answered,
                Err(_) => return Err(expired()),
            },
        };
        let (mut response, lease) = match answered {
            Ok(answered) => answered,
            Err(SendError::Connect { addr, error, request }) => {
                let Self { traits, dialect, started, counted, .. } = self;
                let again = Self { request: *request, traits, dialect, started, counted };
                let error = SendError::Connect { addr, error, request: Box::default() };
                return Err(Failure::NotSent(Box::new(again), permit, error));
            }
            Err(SendError::Refused { error, request }) => {
                let Self { traits, dialect, started, counted, .. } = self;
                let again = Self { request: *request, traits, dialect, started, counted };
                let error = SendError::Broken(error);
                return Err(Failure::Refused(Box::new(again), permit, error));
            }
            Err(SendError::NoHttp2) => return Err(Failure::Final(ProxyError::NoHttp2)),
            Err(error) if error.is_clients() => {
                return Err(Failure::Final(ProxyError::BadRequest("the request's body broke off")));
            }
            Err(error @ SendError::Broken(_)) => {
                let Self { traits, dialect, started, counted, .. } = self;
                let unread = spare.filter(|_| error.is_reset() && !traits.upgrade);
                let again =
                    unread.map(|request| Box::new(Self { request, traits, dialect, started, counted }));
                return Err(Failure::Broken(again, permit, error));
            }
        };
        let now = clock::now();
        permit.answered(now.saturating_duration_since(sent));
        metrics.first_byte(now.saturating_duration_since(sent));
        head::response(&mut response);
        let status = response.status();
        let metrics = metrics.clone();
        let exchange =
            Exchange::new(permit, self.counted, Some(lease), metrics, self.started, sent, status.as_u16());
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return match upgrade {
                Some(client) => {
                    upgrade::tunnel(client, &mut response, exchange, drain);
                    Ok(response.map(|_| Body::Empty))
                }
                None => Err(Failure::Final(ProxyError::App(
                    "it switched protocols although the client had not asked for it".into(),
                ))),
            };
        }
        let idle = IdleTimer::new(timeouts.idle, request_deadline);
        Ok(response.map(|incoming| Body::App(AppBody::new(incoming, exchange, idle))))
    }
}

/// A copy of a request that has no body: a few reference counts and two small allocations.
fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !matches!(request.body(), RequestBody::Empty) {
        return None;
    }
    let mut spare = Request::new(RequestBody::Empty);
    *spare.method_mut() = request.method().clone();
    *spare.uri_mut() = request.uri().clone();
    *spare.version_mut() = request.version();
    *spare.headers_mut() = request.headers().clone();
    Some(spare)
}

fn at(start: Instant, after: Duration) -> Option<Instant> {
    (after > Duration::ZERO).then(|| start + after)
}

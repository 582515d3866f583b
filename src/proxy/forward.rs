//! Sends one request, whose slot is held, to its replica, and hands the answer on as it comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use tokio::time::timeout_at;

use super::Permit;
use super::body::{AppBody, Body, RequestBody};
use super::client::SendError;
use super::error::{Dialect, ProxyError, Stage};
use super::exchange::Exchange;
use super::head::{self, Traits};
use super::metrics::ServiceMetrics;
use super::timeout::IdleTimer;
use super::upgrade;
use crate::clock;
use crate::config::spec::Timeouts;
use crate::drain::Drain;
use crate::stat::Counted;

/// Connections that the app may close under one request, one after the other.
const MOST_UNREAD: u32 = 3;

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
        let client = permit.endpoint().client(self.dialect == Dialect::Grpc).clone();
        let wire = client.wire(self.traits.h2).await;
        head::shape(&mut self.request, wire).map_err(Failure::Final)?;
        let upgrade = self.traits.upgrade.then(|| upgrade::client_side(&mut self.request));

        self.request.body_mut().count_into(metrics.request_bytes());
        let mut spare = spare(&self.request);
        let sent = clock::now();
        let request_deadline = at(self.started, timeouts.request);
        let start_deadline = at(sent, timeouts.response_start);
        let deadline = [request_deadline, start_deadline].into_iter().flatten().min();
        let mut answered = until(deadline, client.send(wire, self.request)).await;
        for _ in 0..MOST_UNREAD {
            let (Some(Err(SendError::Unread(_))), Some(again)) = (&answered, &spare) else { break };
            let next = self::spare(again);
            let again = std::mem::replace(&mut spare, next).expect("looked at above");
            metrics.retried();
            answered = until(deadline, client.send(wire, again)).await;
        }
        let answered = match answered {
            Some(answered) => answered,
            None if request_deadline == deadline => {
                let limit = timeouts.request;
                return Err(Failure::Final(ProxyError::Timeout { stage: Stage::Request, limit }));
            }
            None => {
                let limit = timeouts.response_start;
                return Err(Failure::Final(ProxyError::Timeout { stage: Stage::ResponseStart, limit }));
            }
        };
        let (mut response, lease) = match answered {
            Ok(answered) => answered,
            Err(SendError::Connect { addr, error, request }) => {
                let Self { traits, dialect, started, counted, .. } = self;
                let again = Self { request: *request, traits, dialect, started, counted };
                let error = SendError::Connect { addr, error, request: Box::default() };
                return Err(Failure::NotSent(Box::new(again), permit, error));
            }
            Err(error) if error.is_clients() => {
                return Err(Failure::Final(ProxyError::BadRequest("the request's body broke off")));
            }
            Err(error) => {
                let Self { traits, dialect, started, counted, .. } = self;
                let unread = spare.filter(|_| error.is_reset() && !traits.upgrade);
                let again =
                    unread.map(|request| Box::new(Self { request, traits, dialect, started, counted }));
                return Err(Failure::Broken(again, permit, error));
            }
        };
        let now = clock::now();
        permit.answered(now.saturating_duration_since(sent));
        permit.endpoint().set_answered();
        metrics.first_byte(now.saturating_duration_since(sent));
        head::response(&mut response);
        let status = response.status();
        let metrics = metrics.clone();
        let exchange =
            Exchange::new(permit, self.counted, lease, metrics, self.started, sent, status.as_u16());
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

/// `None` when the deadline passes first.
async fn until<T>(deadline: Option<Instant>, send: impl Future<Output = T>) -> Option<T> {
    match deadline {
        None => Some(send.await),
        Some(deadline) => timeout_at(deadline.into(), send).await.ok(),
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

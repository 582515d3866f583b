//! Sends one request, whose slot is held, to its replica, and hands the answer on as it comes.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use tokio::time::timeout_at;

use super::Permit;
use super::body::{AppBody, Body};
use super::client::{Client, Wire};
use super::download::Download;
use super::error::{Dialect, ProxyError, Refusal, Stage};
use super::exchange::Exchange;
use super::fault::{self, AppFault};
use super::head::{self, Traits};
use super::metrics::ServiceMetrics;
use super::request_body::RequestBody;
use super::send_error::SendError;
use super::timeout;
use super::upgrade::{self, Upgrade};
use super::watch::{Deadline, Watch};
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
    pub request: Box<Request<RequestBody>>,
    /// What its head said.
    pub traits: Traits,
    /// How its client wants errors.
    pub dialect: Dialect,
    /// When it came.
    pub started: Instant,
    /// Counts it as load.
    pub counted: Option<Counted>,
    /// The client's half of a connection that is to speak something else; none before the first attempt.
    pub upgrade: Option<Box<Upgrade>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// Nothing was sent: give the slot back, take another and try again.
    NotSent(Permit, SendError),
    /// The exchange broke. If the request is `unread` (it had no body, and the connection was reset before a byte of the
    /// response) and it turns out that the app's process has died, that process had not read all of the request, which may
    /// go elsewhere.
    Broken {
        /// To be given back.
        permit: Permit,
        /// How.
        error: SendError,
        /// Whether the request may be unread.
        unread: bool,
    },
    /// The app refused the request before it did anything with it, but is well: once more, elsewhere if possible.
    Refused(Permit, SendError),
    /// Final.
    Final(ProxyError),
}

impl Forward {
    /// One attempt at the replica of `permit`, which was got at `sent`.
    pub async fn attempt(
        &mut self,
        permit: Permit,
        sent: Instant,
        timeouts: &Timeouts,
        metrics: &Arc<ServiceMetrics>,
        drain: &Drain,
    ) -> Result<Response<Body>, Failure> {
        let grpc = self.dialect == Dialect::Grpc;
        let traits = self.traits;
        let client = permit.endpoint().client(grpc).clone();
        let total = at(self.started, timeouts.request).map(|at| (at, Stage::Request));
        let call = traits.grpc_timeout.map(|limit| (self.started + limit, Stage::Call));
        let until_answered = [call, total].into_iter().flatten().min_by_key(|(at, _)| *at);
        let passed = |stage: Stage| Failure::Final(stage.passed(timeouts, traits));

        // Nearly every app that takes upgrades takes HTTP/1.1's.
        let wire = match client.known_wire(traits.h2 && !traits.upgrade, grpc) {
            Some(wire) => wire,
            None => Box::pin(asked(client.wire(grpc), until_answered)).await.map_err(passed)?,
        };
        if grpc && wire == Wire::H1 {
            return Err(Failure::Final(ProxyError::NoHttp2));
        }
        if traits.upgrade && self.upgrade.is_none() {
            self.upgrade = Some(Box::new(Upgrade::of(&mut self.request, traits.h2)));
        }
        head::shape(&mut self.request, wire).map_err(Failure::Final)?;

        self.request.body_mut().count_into(metrics.request_bytes());
        let uploading = self.request.body().watch();
        let answered = {
            let send = pin!(send(&client, wire, &mut self.request, sent, metrics));
            timeout::until_head(send, timeouts, sent, until_answered, uploading.as_deref()).await
        };
        let answered = answered.map_err(passed)?;
        let mut response = match answered {
            Ok(answered) => answered,
            Err(error) => return Err(self.failure(error, permit, metrics)),
        };
        let now = clock::now();
        permit.answered(now.saturating_duration_since(sent));
        permit.endpoint().set_answered();
        metrics.first_byte(now.saturating_duration_since(sent));
        let endpoint = permit.endpoint().clone();
        let upgrade = match self.upgrade.take() {
            Some(upgrade) => upgrade.agreed(wire, &mut response).map_err(Failure::Final)?.then_some(upgrade),
            None => None,
        };
        let fault = match head::response(&mut response) {
            Ok(()) if response.status() == StatusCode::SWITCHING_PROTOCOLS && upgrade.is_none() => {
                Some(AppFault::UnaskedUpgrade)
            }
            Ok(()) => None,
            Err(fault) => Some(fault),
        };
        if let Some(fault) = fault {
            metrics.app_fault(fault, &fault);
            return Err(Failure::Final(ProxyError::App(fault.to_string())));
        }
        let status = response.status();
        let metrics = metrics.clone();
        let exchange =
            Exchange::new(permit, self.counted.take(), metrics, self.started, sent, status.as_u16());
        if let Some(upgrade) = upgrade {
            let limits = upgrade::Limits {
                idle: timeouts.idle,
                total,
                drain: drain.clone(),
                leaving: endpoint.leaving(),
            };
            upgrade.tunnel(&mut response, exchange, limits);
            return Ok(response.map(|_| Body::Empty));
        }
        let watch = uploading.unwrap_or_else(Watch::current);
        let body = |download| AppBody::new(download, exchange, watch, now, timeouts.idle, total);
        Ok(response.map(|download| Body::App(body(download))))
    }

    /// What is left to do after an attempt that got no answer.
    fn failure(&self, error: SendError, permit: Permit, metrics: &ServiceMetrics) -> Failure {
        match error {
            // We ran out, not the replica: it stays in the line.
            SendError::Connect { error, .. } if is_ours(&error) => {
                Failure::Final(ProxyError::Refused(Refusal {
                    reason: format!("no connection to the app can be opened: {error}").into(),
                    code: "no_descriptors",
                    retry_after: Duration::from_secs(1),
                }))
            }
            SendError::Connect { error: ref cause, .. } => {
                metrics.app_fault(AppFault::Unreachable, cause);
                Failure::NotSent(permit, error)
            }
            SendError::Refused(_) => Failure::Refused(permit, error),
            SendError::NoHttp2 => Failure::Final(ProxyError::NoHttp2),
            SendError::Broken { error: ref cause, intact }
            | SendError::Unread { error: ref cause, intact } => {
                // The request's own body failed: the app is not to blame.
                if let Some(cause) = cause.of_client() {
                    return Failure::Final(fault::of_request_body(cause));
                }
                let fault = AppFault::of(cause);
                metrics.app_fault(fault, &fault);
                if fault != AppFault::Closed {
                    // It is there and speaks, if strangely: looking at it again would find it well.
                    return Failure::Final(ProxyError::App(fault.to_string()));
                }
                // An upgrade's client half went with the attempt.
                let unread = intact && cause.is_reset() && !self.traits.upgrade;
                Failure::Broken { permit, error, unread }
            }
        }
    }
}

/// Whether a connection failed for want of open files or ports on our side.
fn is_ours(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let ours = [Errno::MFILE, Errno::NFILE, Errno::ADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| ours.iter().any(|errno| errno.raw_os_error() == code))
}

/// Sends a request; anew, if it has no body, when the app had closed the connection under it and not read it.
async fn send(
    client: &Arc<Client>,
    wire: Wire,
    request: &mut Request<RequestBody>,
    now: Instant,
    metrics: &ServiceMetrics,
) -> Result<Response<Download>, SendError> {
    let mut left = MOST_UNREAD;
    loop {
        match client.send(wire, request, now).await {
            Err(SendError::Unread { intact: true, .. }) if left > 0 => left -= 1,
            answered => return answered,
        }
        metrics.retried();
    }
}

/// What the app says that it speaks, if it says so before the deadline.
async fn asked(answer: impl Future<Output = Wire>, deadline: Option<Deadline>) -> Result<Wire, Stage> {
    match deadline {
        None => Ok(answer.await),
        Some((at, stage)) => timeout_at(at.into(), answer).await.map_err(|_| stage),
    }
}

fn at(start: Instant, after: Duration) -> Option<Instant> {
    (after > Duration::ZERO).then(|| start + after)
}

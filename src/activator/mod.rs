//! Client → **activator** → replica: finds the service, waits for a slot, forwards.
//!
//! What flows in: requests from listeners, routes from the configuration, endpoints from the runtime (they join
//! each service's line). What flows out: requests to replicas, load to the autoscaler ([`Service::meter`]), and a
//! poke when somebody waits ([`wake`]).

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::header::ACCEPT_ENCODING;
use http::{HeaderName, HeaderValue, Request, Response};

use crate::clock;
use crate::config::spec::ServiceKey;
use crate::drain::Drain;
use crate::proxy::Permit;
use crate::proxy::body::Body;
use crate::proxy::endpoint::Endpoint;
use crate::proxy::error::{Dialect, ProxyError};
use crate::proxy::forward::{Failure, Forward};
use crate::proxy::request_body::RequestBody;
use crate::proxy::send_error::SendError;
use crate::proxy::server::{Conn, Handler};
use crate::proxy::{grpc, head, host};

pub mod admit;
pub mod heartbeat;
pub mod limits;
pub mod models;
pub mod route;
pub mod service;
pub mod tenants;
pub mod unrouted;
pub mod wake;

use heartbeat::Pulse;
use models::SharedHosts;
use route::Routes;
use service::Service;
use unrouted::Unrouted;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The data path of all services.
#[derive(Debug)]
pub struct Activator {
    routes: ArcSwap<Routes>,
    shared: SharedHosts,
    unrouted: Unrouted,
    drain: Drain,
}

/// Answers on the common port: the host names the service, or is shared and the request names a model.
#[derive(Clone, Debug)]
pub struct ByHost(pub Arc<Activator>);

/// Answers on a service's own port, whatever the host.
#[derive(Clone, Debug)]
pub struct ByPort(pub Arc<Activator>, pub ServiceKey);

// === impl Activator ===

impl Activator {
    /// Knows no service yet.
    pub fn new(drain: Drain) -> Self {
        Self {
            routes: ArcSwap::default(),
            shared: SharedHosts::default(),
            unrouted: Unrouted::default(),
            drain,
        }
    }

    /// On these hosts, requests name a model.
    #[must_use]
    pub fn with_shared_hosts(self, shared: SharedHosts) -> Self {
        Self { shared, ..self }
    }

    /// Requests that reached no service.
    pub fn unrouted(&self) -> &Unrouted {
        &self.unrouted
    }

    /// The services it knows.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.load_full()
    }

    /// Takes new routes, effective for the next request.
    pub fn set_routes(&self, routes: Routes) {
        self.routes.store(Arc::new(routes));
    }

    /// Answers a request for this service.
    async fn take(
        self: &Arc<Self>,
        service: Arc<Service>,
        conn: Arc<Conn>,
        request: Box<Request<RequestBody>>,
    ) -> Response<Body> {
        match service.heartbeat() {
            Some(period) if heartbeat::may_stream(&request) => {
                // Off the way of all others, whose connections would hold its memory.
                Box::pin(heartbeat::answer(self.clone(), service, conn, request, period)).await
            }
            _ => self.answer(&service, &conn, request, None).await,
        }
    }

    /// Answers a request that no service was found for.
    fn lost(&self, error: &ProxyError, dialect: Dialect) -> Response<Body> {
        self.unrouted.count(error.code());
        tracing::debug!(%error, "answered here: no service");
        error.response(dialect, "")
    }

    async fn answer(
        &self,
        service: &Arc<Service>,
        conn: &Conn,
        request: Box<Request<RequestBody>>,
        pulse: Option<&mut Pulse>,
    ) -> Response<Body> {
        let dialect = Dialect::of(request.headers());
        match self.forward(service, conn, request, dialect, pulse).await {
            Ok(response) => response,
            Err(error) => {
                service.metrics.refused(error.code(), error.status().as_u16());
                tracing::debug!(service = %service.key, %error, "answered here");
                error.response(dialect, &service.key.to_string())
            }
        }
    }

    async fn forward(
        &self,
        service: &Arc<Service>,
        conn: &Conn,
        mut request: Box<Request<RequestBody>>,
        dialect: Dialect,
        mut pulse: Option<&mut Pulse>,
    ) -> Result<Response<Body>, ProxyError> {
        let started = clock::now();
        service.limits().check(request.headers())?;
        let traits = head::canonical(&mut request, conn, &service.own_host)?;
        let no_wake = service.no_wake(&request);
        if no_wake && service.line.replicas() == 0 {
            return Err(ProxyError::Asleep);
        }
        let counted = (!no_wake).then(|| service.meter.enter(started));
        let (mut permit, mut bound) = if let Some(permit) = service.line.try_acquire() {
            (permit, started)
        } else {
            let pulse = pulse.as_deref_mut();
            // A wait is worth an allocation; a connection that waits for nothing need not hold its memory.
            let wait = Box::pin(admit::in_line(service, conn, &mut request, traits, started, pulse));
            let permit = wait.await?;
            let bound = clock::now();
            let wait = bound.saturating_duration_since(started);
            service.metrics.waited(wait, permit.endpoint().ready > started);
            if let Some(limit) = traits.grpc_timeout {
                grpc::set_timeout(request.headers_mut(), limit.saturating_sub(wait));
            }
            (permit, bound)
        };
        if pulse.is_some_and(|pulse| pulse.has_begun()) {
            // The head that went out tells of no coding.
            request.headers_mut().remove(ACCEPT_ENCODING);
        }
        let mut forward = Forward { request, traits, dialect, started, counted, upgrade: None };
        let timeouts = service.spec().timeouts;
        let mut tries = Tries::default();
        loop {
            let endpoint = permit.endpoint().clone();
            match forward.attempt(permit, bound, &timeouts, &service.metrics, &self.drain).await {
                Ok(mut response) => {
                    if let Some(timing) = server_timing(&endpoint, started, bound) {
                        response.headers_mut().append(SERVER_TIMING, timing);
                    }
                    return Ok(response);
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::NotSent(refused, error)) => {
                    // A second port that refuses says nothing about the first.
                    if !endpoint.has_own_port(dialect == Dialect::Grpc) {
                        suspect(service, &endpoint, &error);
                    }
                    if !tries.after_refusal(&endpoint).await {
                        return Err(ProxyError::App(error.to_string()));
                    }
                    permit = Box::pin(self.retry(service, conn, &forward, refused)).await?;
                }
                Err(Failure::Refused(refused, error)) => {
                    if !tries.after_refused_stream() {
                        return Err(ProxyError::App(error.to_string()));
                    }
                    permit = Box::pin(self.retry(service, conn, &forward, refused)).await?;
                }
                Err(Failure::Broken { permit: broken, error, unread }) => {
                    if endpoint.broke(clock::now()) {
                        suspect(service, &endpoint, &error);
                    }
                    if !(unread && tries.after_reset(&endpoint).await) {
                        return Err(ProxyError::App(error.to_string()));
                    }
                    permit = Box::pin(self.retry(service, conn, &forward, broken)).await?;
                }
            }
            bound = clock::now();
        }
    }

    /// Back to its place in line with a request that no app has seen, and on with the next slot.
    async fn retry(
        &self,
        service: &Service,
        conn: &Conn,
        forward: &Forward,
        used: Permit,
    ) -> Result<Permit, ProxyError> {
        service.may_retry()?;
        let place = service.line.requeue(used.ticket());
        drop(used);
        service.metrics.retried();
        admit::again(service, conn, forward.traits, place, forward.started).await
    }
}

impl Handler for ByHost {
    async fn handle(&self, conn: Arc<Conn>, request: Box<Request<RequestBody>>) -> Response<Body> {
        let host = match host::of(&request) {
            Ok(host) => host,
            Err(error) => return self.0.lost(&error, Dialect::of(request.headers())),
        };
        let service = self.0.routes.load().by_host(host).cloned();
        match service {
            Some(service) => self.0.take(service, conn, request).await,
            // Off the way of all others, whose connections would hold its memory.
            None if self.0.shared.has(host) => Box::pin(models::answer(&self.0, conn, request)).await,
            None => self.0.lost(&ProxyError::NoService(shown(host)), Dialect::of(request.headers())),
        }
    }
}

impl Handler for ByPort {
    async fn handle(&self, conn: Arc<Conn>, request: Box<Request<RequestBody>>) -> Response<Body> {
        let service = self.0.routes.load().by_key(&self.1).cloned();
        if let Some(service) = service {
            return self.0.take(service, conn, request).await;
        }
        self.0.lost(&ProxyError::NoService(self.1.to_string()), Dialect::of(request.headers()))
    }
}

/// How often one request may go to another replica.
#[derive(Debug, Default)]
struct Tries {
    refusals: u32,
    resets: u32,
    refused_streams: u32,
}

// === impl Tries ===

impl Tries {
    /// Living replicas that may refuse the connection before the client is told.
    const REFUSALS: u32 = 3;
    /// Dying replicas that may take the request with them: more would let a request that kills its app kill all.
    const RESETS: u32 = 1;
    const REFUSED_STREAMS: u32 = 1;

    /// Whether to try again after `endpoint` refused the connection. Nothing was sent, so a replica that turns out to
    /// have died costs no try: whoever waits for a restart waits until its deadline.
    async fn after_refusal(&mut self, endpoint: &Endpoint) -> bool {
        if !endpoint.is_gone().await {
            self.refusals += 1;
        }
        self.refusals < Self::REFUSALS
    }

    /// Whether to try again after an app that is well refused the stream: once. It has too much to do.
    fn after_refused_stream(&mut self) -> bool {
        self.refused_streams += 1;
        self.refused_streams <= Self::REFUSED_STREAMS
    }

    /// Whether to try again after `endpoint` reset the connection: once, and only if its process has died.
    async fn after_reset(&mut self, endpoint: &Endpoint) -> bool {
        self.resets += 1;
        self.resets <= Self::RESETS && endpoint.is_gone().await
    }
}

/// A replica that cannot be reached, or broke an exchange, gets nothing more until it has been looked at: a process
/// that was killed accepts connections for a moment longer than it answers any.
fn suspect(service: &Service, endpoint: &Endpoint, error: &SendError) {
    tracing::debug!(service = %service.key, replica = endpoint.replica, %error, "looking at a replica again");
    endpoint.suspect(error, || service.leave(endpoint.replica));
}

/// A host as it may be repeated to its sender.
fn shown(host: &str) -> String {
    const LONGEST: usize = 253;
    host.chars().take(LONGEST).collect()
}

/// For a request that waited for a start: how long it was in line, until its replica's process was started, and
/// from there to ready. Milliseconds.
fn server_timing(endpoint: &Endpoint, started: Instant, bound: Instant) -> Option<HeaderValue> {
    if endpoint.ready <= started {
        return None;
    }
    let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
    let queue = ms(started, bound);
    let start = ms(started, endpoint.spawned);
    let ready = ms(endpoint.spawned, endpoint.ready);
    let timing = format!("queue;dur={queue:.1}, start;dur={start:.1}, ready;dur={ready:.1}");
    Some(HeaderValue::try_from(timing).expect("numbers are ASCII"))
}

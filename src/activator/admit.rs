//! Waiting in line: until a slot is free, the client goes, the deadline passes, or the owner refuses.

use std::time::{Duration, Instant};

use http::Request;
use http_body::Body;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use super::heartbeat::Pulse;
use super::service::{Charge, Service};
use crate::clock;
use crate::policy::line::Tenant;
use crate::proxy::breaker::Refused;
use crate::proxy::error::{ProxyError, Refusal, Stage};
use crate::proxy::fault;
use crate::proxy::head::Traits;
use crate::proxy::request_body::{Prefetched, RequestBody};
use crate::proxy::server::{Conn, STREAM_WINDOW};
use crate::proxy::{Permit, Place};

/// A waiting body is read up to here, then the sender is held back.
const PREFETCH: u64 = 64 * 1024;
/// How often a connection that nobody reads is asked whether its peer is still there: soon when bytes of its body may
/// lie unread before its end, and seldom otherwise, since hyper then sees the end by itself unless another request was
/// sent ahead (pipelining).
const HANGUP_CHECK: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(2);
/// Requests of a flooding tenant that one request of another may push out for want of bytes.
const MOST_DISPLACED: usize = 8;
/// What one header costs in memory beyond its bytes.
const PER_HEADER: usize = 32;

/// A request that waits.
struct Waiting<'r> {
    service: &'r Service,
    conn: &'r Conn,
    traits: Traits,
    started: Instant,
    /// How often its connection is asked whether the peer is still there.
    check: Duration,
}

/// Reads a body while its request waits.
struct Reader<'r, 's> {
    body: &'r mut Prefetched,
    charge: &'r mut Charge<'s>,
    /// Whether there may be more to read.
    on: bool,
}

/// Joins the line with a request that found no free slot, and waits.
pub async fn in_line(
    service: &Service,
    conn: &Conn,
    request: &mut Request<RequestBody>,
    traits: Traits,
    started: Instant,
    pulse: Option<&mut Pulse>,
) -> Result<Permit, ProxyError> {
    refuse_if_failing(service)?;
    let tenant = service.limits().tenant(request.headers());
    let mut charge = charge(service, tenant, held_by(request, traits)).await?;
    let place = service.line.acquire(tenant).map_err(|reason| refused(service, reason))?;
    service.poke_if_stuck();
    let body = std::mem::take(request.body_mut());
    // `100 Continue` goes out with the first read, and no client may be told to go on before it has a slot.
    let is_read = matches!(body, RequestBody::Prefetched(_));
    let read = (!traits.expects_continue || is_read) && !body.is_end_stream();
    let check = if body.is_end_stream() { SELDOM } else { HANGUP_CHECK };
    let mut body = body.prefetched();
    let reader = body.as_deref_mut().map(|body| Reader { body, charge: &mut charge, on: read });
    let waiting = Waiting { service, conn, traits, started, check };
    let permit = waiting.wait(place, reader, pulse).await?;
    *request.body_mut() = body.map(|body| body.into_body()).unwrap_or_default();
    Ok(permit)
}

/// Waits again, in its old place, with a request that its replica did not take.
pub async fn again(
    service: &Service,
    conn: &Conn,
    traits: Traits,
    place: Place,
    started: Instant,
) -> Result<Permit, ProxyError> {
    service.poke_if_stuck();
    Waiting { service, conn, traits, started, check: HANGUP_CHECK }.wait(place, None, None).await
}

/// Room for a request's bytes, if need be at the cost of who has the most in the line: a flood must not keep others
/// out by its bytes either.
async fn charge(service: &Service, tenant: Tenant, bytes: u64) -> Result<Charge<'_>, ProxyError> {
    for _ in 0..MOST_DISPLACED {
        match service.charge(bytes) {
            Err(_) if service.line.displace(tenant) => {}
            result => return result,
        }
        // Its bytes come free when its task has seen that it must go.
        tokio::task::yield_now().await;
    }
    service.charge(bytes)
}

fn refused(service: &Service, refused: Refused<Refusal>) -> ProxyError {
    match refused {
        Refused::Full => ProxyError::Overflow {
            what: "the queue",
            limit: u64::from(service.spec().buffer.requests),
            retry_after: service.retry_after(),
        },
        Refused::Reason(reason) => ProxyError::Refused(reason),
    }
}

fn refuse_if_failing(service: &Service) -> Result<(), ProxyError> {
    let Some(trouble) = service.trouble() else { return Ok(()) };
    let now = clock::now();
    if service.line.replicas() > 0 || now >= trouble.until {
        return Ok(());
    }
    Err(ProxyError::Refused(trouble.refusal(now)))
}

// === impl Waiting ===

impl Waiting<'_> {
    async fn wait(
        self,
        mut place: Place,
        mut reader: Option<Reader<'_, '_>>,
        mut pulse: Option<&mut Pulse>,
    ) -> Result<Permit, ProxyError> {
        let Self { service, conn, traits, started, check } = self;
        let timeouts = service.spec().timeouts;
        let some = |limit: Duration| (limit > Duration::ZERO).then_some(limit);
        let bounds = [
            some(timeouts.activation).map(|limit| (limit, Stage::Activation)),
            some(timeouts.request).map(|limit| (limit, Stage::Request)),
            traits.grpc_timeout.map(|limit| (limit, Stage::Call)),
        ];
        let bound = bounds.into_iter().flatten().min_by_key(|(limit, _)| *limit);
        let deadline = bound.map(|(limit, _)| started + limit);
        let mut expired = std::pin::pin!(sleep_until(deadline.unwrap_or(started).into()));
        // Those who came together shall not all ask together.
        let first = clock::now() + check.mul_f32(0.5 + fastrand::f32());
        let mut look = interval_at(first.into(), check);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // While something reads, hyper sees the client go, and an HTTP/2 stream's reset is always seen.
            let reads = reader.as_ref().is_some_and(|reader| reader.on);
            let unwatched = !reads && !traits.h2;
            tokio::select! {
                biased;
                slot = &mut place => return slot.map_err(|reason| refused(service, reason)),
                () = &mut expired, if deadline.is_some() => {
                    return Err(match bound.expect("there is a deadline") {
                        (limit, Stage::Call) => ProxyError::Deadline { limit, sent: false },
                        (_, stage) => stage.passed(&timeouts, traits),
                    });
                }
                result = read_on(&mut reader), if reads => result?,
                () = due(&mut pulse), if pulse.is_some() => {
                    let read = reader.as_ref().map_or(&[][..], |reader| reader.body.data());
                    pulse.as_mut().expect("it is due").beat(read);
                }
                _ = look.tick(), if unwatched => {
                    if conn.hangup.peer_closed() {
                        return Err(ProxyError::ClientGone);
                    }
                }
            }
        }
    }
}

async fn due(pulse: &mut Option<&mut Pulse>) {
    match pulse {
        Some(pulse) => pulse.due().await,
        None => std::future::pending().await,
    }
}

/// Reads one more piece, and stops when that was the last or as much as may be held is. An error when the body breaks
/// off, or is malformed.
async fn read_on(reader: &mut Option<Reader<'_, '_>>) -> Result<(), ProxyError> {
    let Some(Reader { body, charge, on }) = reader else { return std::future::pending().await };
    if body.bytes() >= PREFETCH {
        *on = false;
        return Ok(());
    }
    let before = body.held();
    if !body.more().await {
        *on = false;
        return body.error().map_or(Ok(()), |error| Err(fault::of_request_body(error)));
    }
    // Over the bound by one frame at most: it is read already, and nothing more will be.
    *on = charge.add(body.held().saturating_sub(before));
    Ok(())
}

/// What a waiting request holds from the start: its head, and for HTTP/2 the window that its sender may fill.
fn held_by(request: &Request<RequestBody>, traits: Traits) -> u64 {
    let body = request.body();
    let headers: usize =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + PER_HEADER).sum();
    let window = if traits.h2 && !body.is_end_stream() { STREAM_WINDOW } else { 0 };
    let read = if let RequestBody::Prefetched(body) = body { body.held() } else { 0 };
    (request.uri().path().len() + headers) as u64 + u64::from(window) + read
}

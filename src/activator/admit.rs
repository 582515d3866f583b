//! Waiting in line: until a slot is free, the client goes, the deadline passes, or the owner refuses.

use std::time::{Duration, Instant};

use http::request;
use hyper::body::Incoming;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use super::service::{Charge, Service};
use crate::clock;
use crate::policy::line::Tenant;
use crate::proxy::body::{Prefetched, RequestBody};
use crate::proxy::breaker::Refused;
use crate::proxy::error::{ProxyError, Refusal, Stage};
use crate::proxy::fault;
use crate::proxy::head::Traits;
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

/// Joins the line with a request that found no free slot, and waits.
pub async fn in_line(
    service: &Service,
    conn: &Conn,
    parts: &request::Parts,
    traits: Traits,
    incoming: Incoming,
    started: Instant,
) -> Result<(Permit, RequestBody), ProxyError> {
    refuse_if_failing(service)?;
    let tenant = service.limits().tenant(&parts.headers);
    let mut charge = charge(service, tenant, held_by(parts, traits, &incoming)).await?;
    let place = service.line.acquire(tenant).map_err(|reason| refused(service, reason))?;
    service.poke_if_stuck();
    // `100 Continue` goes out with the first read, and no client may be told to go on before it has a slot.
    let read = !traits.expects_continue && !http_body::Body::is_end_stream(&incoming);
    let check = if http_body::Body::is_end_stream(&incoming) { SELDOM } else { HANGUP_CHECK };
    let mut body = Prefetched::new(incoming);
    let reader = read.then_some((&mut body, &mut charge));
    let permit = wait(service, conn, traits, place, started, check, reader).await?;
    Ok((permit, body.into_body()))
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
    wait(service, conn, traits, place, started, HANGUP_CHECK, None).await
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

async fn wait(
    service: &Service,
    conn: &Conn,
    traits: Traits,
    mut place: Place,
    started: Instant,
    check_every: Duration,
    mut reader: Option<(&mut Prefetched, &mut Charge<'_>)>,
) -> Result<Permit, ProxyError> {
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
    let first = clock::now() + check_every.mul_f32(0.5 + fastrand::f32());
    let mut check = interval_at(first.into(), check_every);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // While something reads, hyper sees the client go, and an HTTP/2 stream's reset is always seen.
        let unwatched = reader.is_none() && !traits.h2;
        tokio::select! {
            biased;
            slot = &mut place => return slot.map_err(|reason| refused(service, reason)),
            () = &mut expired, if deadline.is_some() => {
                return Err(match bound.expect("there is a deadline") {
                    (limit, Stage::Call) => ProxyError::Deadline { limit, sent: false },
                    (_, stage) => stage.passed(&timeouts, traits),
                });
            }
            more = read_on(&mut reader) => match more {
                Read::More => {}
                Read::Enough => reader = None,
                Read::Failed(error) => return Err(error),
            },
            _ = check.tick(), if unwatched => {
                if conn.hangup.peer_closed() {
                    return Err(ProxyError::ClientGone);
                }
            }
        }
    }
}

enum Read {
    More,
    /// All of it, or as much as may be held.
    Enough,
    /// The body broke off, or is malformed.
    Failed(ProxyError),
}

async fn read_on(reader: &mut Option<(&mut Prefetched, &mut Charge<'_>)>) -> Read {
    let Some((body, charge)) = reader else { return std::future::pending().await };
    if body.bytes() >= PREFETCH {
        return Read::Enough;
    }
    let before = body.held();
    if !body.more().await {
        return body.error().map_or(Read::Enough, |error| Read::Failed(fault::of_request_body(error)));
    }
    // Over the bound by one frame at most: it is read already, and nothing more will be.
    if charge.add(body.held().saturating_sub(before)) { Read::More } else { Read::Enough }
}

/// What a waiting request holds from the start: its head, and for HTTP/2 the window that its sender may fill.
fn held_by(parts: &request::Parts, traits: Traits, incoming: &Incoming) -> u64 {
    let headers: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + PER_HEADER).sum();
    let window = if traits.h2 && !http_body::Body::is_end_stream(incoming) { STREAM_WINDOW } else { 0 };
    (parts.uri.path().len() + headers) as u64 + u64::from(window)
}

//! Clients that stay to the end, one after the other until time is over.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::answer::{Want, patiently};
use crate::ask;
use crate::bare;
use crate::ledger::{Kind, Outcome};
use crate::site::{NAP, Site};
use crate::support::{Call, Wire, host};
use crate::tunnels;
use crate::vanish;

/// Of a hundred clients, so many vanish.
const VANISH_PERCENT: f64 = 1.0;
/// Requests at the same time on one HTTP/2 connection.
const STREAMS: usize = 6;
/// A client of a service that refuses does not try again at once.
const REST_AFTER_REFUSAL: Duration = Duration::from_millis(20);

pub(crate) async fn until_over(site: Arc<Site>, kind: Kind) {
    while !site.is_over() {
        if fastrand::f64() * 100.0 < VANISH_PERCENT {
            vanish::once(&site, kind).await;
        }
        let service = Site::any_service();
        match kind {
            Kind::KeepAlive => keep_alive(&site).await,
            Kind::Pipelined => bare::pipelined(&site, service).await,
            Kind::Http10 => bare::http_10(&site, service).await,
            Kind::H2 => h2(&site).await,
            Kind::GrpcUnary => grpc_unary(&site).await,
            Kind::GrpcStream => grpc_stream(&site, service).await,
            Kind::Events => events(&site, service).await,
            Kind::WebSocket => tunnels::websocket(&site, service).await,
            Kind::Upgrade => tunnels::upgrade(&site, service).await,
        }
    }
}

/// Requests one after the other on a connection.
async fn keep_alive(site: &Site) {
    let Ok(mut wire) = Wire::open(site.serve.traffic, false).await else { return };
    let mut before = None;
    for _ in 0..fastrand::u32(1..50) {
        let service = Site::any_service();
        let ticket = site.ledger.begin(Kind::KeepAlive, service);
        let (call, want) = ask::any(service, &ticket.id);
        let what = format!("{call:?}");
        let mut last = false;
        let outcome = patiently(async {
            let reply = wire.send(call).await;
            last = reply.as_ref().map_or(true, |reply| reply.header("connection") == "close");
            Outcome::of(reply, &want)
        });
        let mut outcome = outcome.await;
        if let Outcome::Cut(why) = &mut outcome {
            *why = format!("{why} (after {before:?})");
        }
        before = Some((what, outcome.clone()));
        rest_if_refused(&outcome).await;
        last |= matches!(outcome, Outcome::Wrong(_));
        ticket.end(outcome);
        if last || site.is_over() {
            return;
        }
        if fastrand::u32(..20) == 0 {
            tokio::time::sleep(Duration::from_millis(fastrand::u64(..200))).await;
        }
    }
}

/// Requests side by side on a connection.
async fn h2(site: &Arc<Site>) {
    let Ok(wire) = Wire::open(site.serve.traffic, true).await else { return };
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let (site, mut wire) = (site.clone(), wire.share());
        streams.spawn(async move {
            for _ in 0..fastrand::u32(1..30) {
                let service = Site::any_service();
                let ticket = site.ledger.begin(Kind::H2, service);
                let (call, want) = ask::any(service, &ticket.id);
                let outcome = patiently(async { Outcome::of(wire.send(call.h2()).await, &want) }).await;
                rest_if_refused(&outcome).await;
                ticket.end(outcome);
                if site.is_over() {
                    return;
                }
            }
        });
    }
    while let Some(stream) = streams.join_next().await {
        stream.unwrap();
    }
}

/// Calls one after the other on a connection.
async fn grpc_unary(site: &Site) {
    let Ok(mut wire) = Wire::open(site.serve.traffic, true).await else { return };
    for _ in 0..fastrand::u32(1..20) {
        let service = Site::any_service();
        let ticket = site.ledger.begin(Kind::GrpcUnary, service);
        let message = ask::message();
        let call = grpc(Call::post(&host(service), "/soak.Echo/Unary", message.clone()), &ticket.id);
        let outcome = patiently(async { Outcome::of_grpc(wire.send(call).await, &message) }).await;
        rest_if_refused(&outcome).await;
        ticket.end(outcome);
        if site.is_over() {
            return;
        }
    }
}

/// A call whose messages come back one by one.
async fn grpc_stream(site: &Site, service: &'static str) {
    let ticket = site.ledger.begin(Kind::GrpcStream, service);
    let (call, messages) = Call::post_pieces(&host(service), "/soak.Echo/Stream");
    let call = grpc(call, &ticket.id);
    let exchange = async {
        let mut open = call.open(site.serve.traffic).await?;
        for i in 0..fastrand::u32(1..10) {
            let message = ask::message();
            if messages.send(message.clone()).await.is_err() {
                break; // The answer is there already; it says why.
            }
            let mut back = Vec::new();
            while back.len() < message.len() {
                match open.chunk().await {
                    Some(piece) => back.extend_from_slice(&piece?),
                    None => return Ok(Outcome::of_grpc(Ok(open.rest().await?), b"the rest of a stream")),
                }
            }
            if back != message {
                return Ok(Outcome::Wrong(format!(
                    "message {i} of {} came back as {}",
                    message.len(),
                    back.len()
                )));
            }
        }
        drop(messages);
        Ok(Outcome::of_grpc(Ok(open.rest().await?), b""))
    };
    let outcome = patiently(async { exchange.await.unwrap_or_else(Outcome::Cut) }).await;
    rest_if_refused(&outcome).await;
    ticket.end(outcome);
}

fn grpc(call: Call, id: &str) -> Call {
    call.id(id).header("content-type", "application/grpc").header("te", "trailers").h2()
}

/// Server-sent events.
async fn events(site: &Site, service: &'static str) {
    let ticket = site.ledger.begin(Kind::Events, service);
    let n = fastrand::u32(1..30);
    let call = Call::get(&host(service), &format!("/sse?n={n}&ms={}", fastrand::u32(..20))).id(&ticket.id);
    let call = if fastrand::bool() { call.h2() } else { call };
    let want = Want::Bytes(all_events(n).into());
    let outcome = patiently(async { Outcome::of(call.send(site.serve.traffic).await, &want) }).await;
    rest_if_refused(&outcome).await;
    ticket.end(outcome);
}

/// What testapp sends.
pub(crate) fn all_events(n: u32) -> String {
    let mut all = String::new();
    for i in 0..n {
        let _ = write!(all, "data: {i}\n\n");
    }
    all
}

/// A burst, then silence until there is no replica, over and over.
pub(crate) async fn naps(site: Arc<Site>) {
    while !site.is_over() {
        let mut burst = JoinSet::new();
        for i in 0..fastrand::u32(1..10) {
            let site = site.clone();
            burst.spawn(async move {
                let kind = if i % 2 == 0 { Kind::KeepAlive } else { Kind::H2 };
                let ticket = site.ledger.begin(kind, NAP);
                let (call, want) = ask::any(NAP, &ticket.id);
                let call = if kind == Kind::H2 { call.h2() } else { call };
                ticket
                    .end(patiently(async { Outcome::of(call.send(site.serve.traffic).await, &want) }).await);
            });
        }
        while let Some(one) = burst.join_next().await {
            one.unwrap();
        }
        while !site.is_over() {
            if site.serve.service(NAP).await["state"] == "zero" {
                site.turmoil.lock().naps += 1;
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn rest_if_refused(outcome: &Outcome) {
    if matches!(outcome, Outcome::Refused(..)) {
        tokio::time::sleep(REST_AFTER_REFUSAL).await;
    }
}

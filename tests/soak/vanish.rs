//! Clients that vanish, at any stage, with a FIN or a reset.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::answer::noise_of;
use crate::bare::Bare;
use crate::ledger::{Kind, Outcome};
use crate::site::Site;
use crate::support::{Call, Wire, host};
use crate::tunnels;

/// Longer than anything takes that is waited for before vanishing: a queue, a start.
const STAGE: Duration = Duration::from_secs(5);

/// One client of that kind.
pub(crate) async fn once(site: &Site, kind: Kind) {
    let service = Site::any_service();
    let ticket = site.ledger.begin(kind, service);
    let staged = async {
        match kind {
            Kind::H2 | Kind::GrpcUnary | Kind::GrpcStream => h2(site, service, &ticket.id).await,
            Kind::WebSocket => tunnel(site, service, &ticket.id, "websocket").await,
            Kind::Upgrade => tunnel(site, service, &ticket.id, "echo").await,
            _ => h1(site, service, &ticket.id).await,
        }
    };
    // However far it got.
    let _ = tokio::time::timeout(STAGE, staged).await;
    ticket.end(Outcome::Vanished);
}

async fn h1(site: &Site, service: &str, id: &str) -> Result<(), String> {
    let mut bare = Bare::connect(site.serve.traffic).await?;
    let fields = format!("HTTP/1.1\r\nhost: {}\r\nx-request-id: {id}\r\n", host(service));
    match fastrand::u32(..5) {
        // In the head.
        0 => bare.send(&fields.as_bytes()[..fields.len() / 2]).await?,
        // In the body, by either framing.
        1 => bare.send(format!("POST /echo {fields}content-length: 100000\r\n\r\nbegun")).await?,
        2 => bare.send(format!("POST /echo {fields}transfer-encoding: chunked\r\n\r\n5\r\nbeg")).await?,
        // While it waits for its answer.
        3 => bare.send(format!("GET /sleep?ms=300 {fields}\r\n")).await?,
        // In the answer.
        _ => {
            bare.send(format!("GET /bytes?n=3000000 {fields}\r\n")).await?;
            bare.until(b"\r\n\r\n").await?;
            bare.more().await?;
        }
    }
    pause().await;
    leave(bare).await;
    Ok(())
}

async fn h2(site: &Site, service: &str, id: &str) -> Result<(), String> {
    let host = host(service);
    let wire = Wire::open(site.serve.traffic, true).await?;
    let mut stream = wire.share();
    match fastrand::u32(..3) {
        0 => {
            let (call, pieces) = Call::post_pieces(&host, "/echo");
            let body = async {
                pieces.send(noise_of(1_000)).await.ok();
                pause().await;
            };
            tokio::select! {
                _ = stream.send(call.id(id).h2()) => {}
                () = body => {}
            }
        }
        1 => {
            tokio::select! {
                _ = stream.send(Call::get(&host, "/sleep?ms=300").id(id).h2()) => {}
                () = pause() => {}
            }
        }
        _ => {
            let mut open = Call::get(&host, "/bytes?n=3000000").id(id).h2().open(site.serve.traffic).await?;
            open.chunk().await;
        }
    }
    // Half of them leave only the stream for now, the others the connection.
    if fastrand::bool() {
        pause().await;
    }
    drop(wire);
    Ok(())
}

async fn tunnel(site: &Site, service: &str, id: &str, protocol: &str) -> Result<(), String> {
    let mut bare = Bare::connect(site.serve.traffic).await?;
    bare.send(tunnels::ask(service, id, protocol)).await?;
    if fastrand::bool() {
        bare.until(b"\r\n\r\n").await?;
        let frame = tunnels::frame();
        bare.send(&frame[..fastrand::usize(..frame.len())]).await?;
        pause().await;
    }
    leave(bare).await;
    Ok(())
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(..50))).await;
}

async fn leave(mut bare: Bare) {
    match fastrand::u32(..3) {
        0 => drop(bare.stream),
        1 => drop(bare.stream.set_zero_linger()),
        // Says no more, and stays a while without reading.
        _ => {
            let _ = bare.stream.shutdown().await;
            pause().await;
        }
    }
}

//! Upgraded connections (websocket and others): bytes pass both ways until one side ends; the slot is held as long.

use std::io;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::body::RequestBody;
use super::exchange::Exchange;
use crate::drain::Drain;

/// Read ahead of the slower side, for each direction.
const BUFFER: usize = 16 * 1024;

/// The client's half, taken before its request is sent on.
pub fn client_side(request: &mut Request<RequestBody>) -> OnUpgrade {
    hyper::upgrade::on(request)
}

/// Joins both halves once the app has answered 101. Ends with either side, or when the drain's owner goes.
pub fn tunnel(client: OnUpgrade, response: &mut Response<Incoming>, mut exchange: Exchange, drain: &Drain) {
    let app = hyper::upgrade::on(response);
    let open = drain.open();
    tokio::spawn(async move {
        match join(client, app).await {
            Ok((from_client, from_app)) => exchange.passed(from_client, from_app),
            Err(error) => tracing::debug!(%error, "an upgraded connection ended early"),
        }
        drop((exchange, open));
    });
}

/// Returns the bytes that passed from the client, and from the app.
async fn join(client: OnUpgrade, app: OnUpgrade) -> io::Result<(u64, u64)> {
    let io = |upgraded: Upgraded| TokioIo::new(upgraded);
    let mut client = io(client.await.map_err(io::Error::other)?);
    let mut app = io(app.await.map_err(io::Error::other)?);
    copy_bidirectional_with_sizes(&mut client, &mut app, BUFFER, BUFFER).await
}

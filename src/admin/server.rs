//! The admin port's listener: a few connections, HTTP/1.1, and answers until the very end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::drain::Drain;

/// Connections at once; more wait in the kernel's backlog.
const CONNECTIONS: usize = 256;
/// For a request's head to arrive. Bounds a connection's rest between requests too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// What a request's head may take.
const MAX_HEAD: usize = 32 * 1024;
/// For answers that are under way when the server ends.
const GRACE: Duration = Duration::from_secs(1);
/// How long to rest after a failed accept: out of descriptors, most likely.
const ACCEPT_REST: Duration = Duration::from_millis(20);

/// Serves until `drain` has begun and nothing that it waits for is open any more: while a program drains, its admin
/// port says so. Connections of this port hold nothing up. Dropping the future ends them all.
pub async fn serve(listener: TcpListener, router: Router, drain: Drain) {
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let over = CancellationToken::new();
    let mut connections = JoinSet::new();
    let mut end = pin!(async {
        drain.begun().await;
        drain.finished().await;
    });
    loop {
        let accept = async {
            // It is never closed, so there is a place.
            let place = places.clone().acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        tokio::select! {
            biased;
            () = &mut end => break,
            Some(_) = connections.join_next() => {}
            (accepted, place) = accept => match accepted {
                Ok((stream, _)) => {
                    let (builder, router, over) = (builder.clone(), router.clone(), over.clone());
                    connections.spawn(async move {
                        connection(&builder, stream, router, &over).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept an admin connection");
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            },
        }
    }
    over.cancel();
    let all = async { while connections.join_next().await.is_some() {} };
    // Those that are left are dropped with the set.
    let _ = tokio::time::timeout(GRACE, all).await;
}

async fn connection(builder: &http1::Builder, stream: TcpStream, router: Router, over: &CancellationToken) {
    if stream.set_nodelay(true).is_err() {
        return; // It is gone already.
    }
    let service = service_fn(move |request| router.clone().oneshot(request));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        biased;
        ended = &mut connection => ended,
        () = over.cancelled() => {
            // Idle ones close at once.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an admin connection ended early");
    }
}

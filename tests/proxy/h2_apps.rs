//! Apps in the test itself that speak HTTP/2 alone, so that a test decides over every stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

/// A request that reached the app.
pub(crate) struct Asked {
    pub(crate) request: Request<RecvStream>,
    pub(crate) answer: SendResponse<Bytes>,
}

/// Listens, and gives every connection that says something to `serve`, numbered from 0; a probe only connects.
pub(crate) async fn listen<F>(serve: impl Fn(usize, TcpStream) -> F + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (serve, numbers) = (Arc::new(serve), Count::default());
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let (serve, numbers) = (serve.clone(), numbers.clone());
            tokio::spawn(async move {
                if stream.peek(&mut [0]).await.is_ok_and(|n| n > 0) {
                    serve(numbers.one(), stream).await;
                }
            });
        }
    });
    addr
}

/// HTTP/2 with prior knowledge and nothing else; each request goes to `answer` as a task of its own.
pub(crate) async fn h2_only<F>(answer: impl Fn(Asked) -> F + Clone + Send + Sync + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    listen(move |_, stream| {
        let answer = answer.clone();
        async move {
            let Ok(mut streams) = h2::server::handshake(stream).await else { return };
            while let Some(Ok((request, reply))) = streams.accept().await {
                tokio::spawn(answer(Asked { request, answer: reply }));
            }
        }
    })
    .await
}

/// The same, with the connection in the test's hands after each request.
pub(crate) async fn h2_connections<F>(
    serve: impl Fn(usize, Connection<TcpStream, Bytes>) -> F + Clone + Send + Sync + 'static,
) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    listen(move |number, stream| {
        let serve = serve.clone();
        async move {
            if let Ok(connection) = h2::server::handshake(stream).await {
                serve(number, connection).await;
            }
        }
    })
    .await
}

/// Counts what happened.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

// === impl Asked ===

impl Asked {
    /// Reads all of the body and sends it back, with a trailer.
    pub(crate) async fn echo(self) {
        let Self { request, mut answer, .. } = self;
        let (head, mut body) = request.into_parts();
        let mut all = Vec::new();
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
            all.extend(data);
        }
        let mut response = Response::new(());
        let mut copy = |from: &str, to: &'static str| {
            if let Some(value) = head.headers.get(from) {
                response.headers_mut().insert(to, value.clone());
            }
        };
        copy("cookie", "x-cookie");
        copy("te", "x-te");
        copy("content-length", "x-content-length");
        let authority = head.uri.authority().map_or("none", |authority| authority.as_str());
        response.headers_mut().insert("x-authority", authority.parse().unwrap());
        response.headers_mut().insert("trailer", "x-end".parse().unwrap());
        let Ok(mut send) = answer.send_response(response, false) else { return };
        let _ = send.send_data(all.into(), false);
        let _ = send.send_trailers(HeaderMap::from_iter([("x-end".parse().unwrap(), "1".parse().unwrap())]));
    }

    pub(crate) fn refuse(mut self, reason: Reason) {
        self.answer.send_reset(reason);
    }

    pub(crate) fn ok(mut self, body: &'static str) {
        if let Ok(mut send) = self.answer.send_response(Response::new(()), false) {
            let _ = send.send_data(Bytes::from_static(body.as_bytes()), true);
        }
    }
}

// === impl Count ===

impl Count {
    /// How often before.
    pub(crate) fn one(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

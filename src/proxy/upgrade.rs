//! Upgraded connections (websocket and others): bytes pass both ways until one side ends; the slot is held as long.
//!
//! In canonical form an upgrade is HTTP/1.1's (RFC 9110 §7.8), whatever it came as; an extended CONNECT (RFC 8441) is
//! brought into that form and out of it again, on either side.
//!
//! When the program or the replica leaves, a websocket is told so in its own language: a close 1001 to both ends,
//! between two frames, and then a moment for their closes. What is no websocket is closed.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::header::{CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::client::Wire;
use super::download::{Download, Tunnel};
use super::error::{ProxyError, Stage};
use super::exchange::Exchange;
use super::request_body::RequestBody;
use super::signals::Held;
use super::watch::{Deadline, Watch, Watched};
use super::websocket::{self, Frames};
use crate::drain::Drain;

/// Read ahead of the slower side, for each direction.
const BUFFER: usize = 8 * 1024;
/// How long a websocket may stay once it is at its end: one side has ended, or the program or the replica leaves. For
/// the end of a frame under way, and then for both ends' closes.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// What a request that wants another protocol leaves behind when it is sent on.
#[derive(Debug)]
pub struct Upgrade {
    client: OnUpgrade,
    /// How the client asked for it.
    came_h2: bool,
    protocol: HeaderValue,
    /// Of a websocket that came over HTTP/1.1.
    key: Option<HeaderValue>,
    /// The client's connection does not rest.
    held: Option<Held>,
}

/// When a tunnel has to end.
#[derive(Debug)]
pub struct Limits {
    /// Without a byte in either direction; zero = none.
    pub idle: Duration,
    /// The whole request's.
    pub total: Option<Deadline>,
    /// The program's.
    pub drain: Drain,
    /// The replica's.
    pub leaving: CancellationToken,
}

/// Brings an extended CONNECT into canonical form. False when the request is a plain CONNECT.
pub fn canonical<B>(request: &mut Request<B>) -> bool {
    let Some(protocol) = request.extensions_mut().remove::<Protocol>() else { return false };
    let Ok(protocol) = HeaderValue::from_str(protocol.as_str()) else { return false };
    *request.method_mut() = Method::GET;
    let headers = request.headers_mut();
    if is_websocket(&protocol) {
        let key = HeaderValue::try_from(websocket::key()).expect("base64 is ASCII");
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
    true
}

/// Makes a canonical upgrade an extended CONNECT.
pub fn into_connect<B>(request: &mut Request<B>) {
    let Some(protocol) = request.headers_mut().remove(UPGRADE) else { return };
    request.headers_mut().remove(CONNECTION);
    request.headers_mut().remove(SEC_WEBSOCKET_KEY);
    if let Ok(protocol) = protocol.to_str() {
        // One that is offered; an app that wants another refuses.
        let protocol = Protocol::from(protocol.split(',').next().unwrap_or_default().trim());
        request.extensions_mut().insert(protocol);
        *request.method_mut() = Method::CONNECT;
    }
}

// === impl Upgrade ===

impl Upgrade {
    /// The client's half of a canonical request, before it is sent on.
    pub fn of(request: &mut Request<RequestBody>, came_h2: bool) -> Self {
        let client = hyper::upgrade::on(&mut *request);
        let take = |name: HeaderName| request.headers().get(name).cloned();
        let protocol = take(UPGRADE).unwrap_or_else(|| HeaderValue::from_static(""));
        let key = take(SEC_WEBSOCKET_KEY);
        let held = request.extensions_mut().remove::<Held>();
        Self { client, came_h2, protocol, key, held }
    }

    /// Whether the app agreed. If so, its answer gets the form that the client expects.
    pub fn agreed(&self, wire: Wire, response: &mut Response<Download>) -> Result<bool, ProxyError> {
        let agreed = match wire {
            Wire::H1 => response.status() == StatusCode::SWITCHING_PROTOCOLS,
            Wire::H2 => response.status() == StatusCode::OK,
        };
        if !agreed {
            // Over CONNECT any success would be an agreement.
            if self.came_h2 && response.status().is_success() {
                return Err(ProxyError::App("it did not switch protocols as it was asked to".into()));
            }
            return Ok(false);
        }
        let headers = response.headers_mut();
        if self.came_h2 {
            for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT] {
                headers.remove(name);
            }
        } else if wire == Wire::H2 {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, self.protocol.clone());
            if let Some(key) = self.key.as_ref().filter(|_| is_websocket(&self.protocol)) {
                let accept = websocket::accept(key.as_bytes());
                headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept).expect("base64 is ASCII"));
            }
        }
        *response.status_mut() = if self.came_h2 { StatusCode::OK } else { StatusCode::SWITCHING_PROTOCOLS };
        Ok(true)
    }

    /// Joins both halves. Ends with either side, a limit, or the departure of the program or the replica.
    pub fn tunnel(self, response: &mut Response<Download>, mut exchange: Exchange, limits: Limits) {
        let Some(app) = Download::tunnel(response) else { return };
        let open = limits.drain.open();
        tokio::spawn(async move {
            let framed = is_websocket(&self.protocol);
            let carried = Carried::default();
            let tunnel = Watched::new(join(self.client, app, framed, &limits, &carried));
            if let Err(error) = tunnel.await.unwrap_or_else(|stage| Err(timed_out(stage))) {
                tracing::debug!(%error, "an upgraded connection ended early");
            }
            exchange.passed(carried.from_client.load(Relaxed), carried.from_app.load(Relaxed));
            drop((exchange, open, self.held));
        });
    }
}

fn is_websocket(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
}

fn timed_out(stage: Stage) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("the {stage} timeout passed"))
}

async fn join(
    client: OnUpgrade,
    app: Tunnel,
    framed: bool,
    limits: &Limits,
    carried: &Carried,
) -> io::Result<()> {
    let watch = Watch::current();
    let _armed = watch.clone().arm(limits.idle, limits.total);
    let client = TokioIo::new(client.await.map_err(io::Error::other)?);
    let (client_out, client_in) = split(client);
    let (app_out, app_in, _stream) = halves(app).await?;
    let leave = CancellationToken::new();
    let way = |from, carried| Way {
        frames: framed.then(Frames::default),
        from,
        leave: &leave,
        watch: &watch,
        carried,
    };
    let up = way(websocket::From::Client, &carried.from_client);
    let down = way(websocket::From::Server, &carried.from_app);
    let ended = CancellationToken::new();
    // A websocket has no half that goes on alone (RFC 6455 §7.1.1); other protocols may.
    let half = |way: io::Result<()>| {
        if framed {
            ended.cancel();
        }
        way
    };
    let both = async {
        tokio::try_join!(async { half(up.pass(client_out, app_in).await) }, async {
            half(down.pass(app_out, client_in).await)
        },)
    };
    let bound = async {
        tokio::select! {
            () = limits.drain.begun() => leave.cancel(),
            () = limits.leaving.cancelled() => leave.cancel(),
            () = ended.cancelled() => {}
        }
        let aborted = limits.drain.aborted();
        let _ = tokio::time::timeout(CLOSE_WAIT, aborted).await;
    };
    tokio::select! {
        biased;
        ended = both => ended.map(drop),
        () = bound => Err(io::Error::new(io::ErrorKind::TimedOut, "it was not closed by both ends in time")),
    }
}

/// What comes from the app and what goes to it. Keep what comes third as long as either.
async fn halves(
    app: Tunnel,
) -> io::Result<(impl AsyncRead + Unpin, impl AsyncWrite + Unpin, Option<super::shared::Stream>)> {
    match app {
        Tunnel::H1(answer) => {
            let early = io::Error::other("the app switched protocols before it had all of the request");
            let (stream, come) = answer.into_stream().ok_or(early)?;
            let (out, into) = split(stream);
            Ok((Either::Left(io::Cursor::new(come).chain(out)), Either::Left(into), None))
        }
        Tunnel::H2(upgraded, stream) => {
            let (out, into) = split(TokioIo::new(upgraded.await.map_err(io::Error::other)?));
            Ok((Either::Right(out), Either::Right(into), Some(stream)))
        }
    }
}

/// Bytes that a tunnel has carried, in each direction.
#[derive(Debug, Default)]
struct Carried {
    from_client: AtomicU64,
    from_app: AtomicU64,
}

/// One direction of a tunnel.
struct Way<'a> {
    /// Of a websocket.
    frames: Option<Frames>,
    from: websocket::From,
    leave: &'a CancellationToken,
    watch: &'a Arc<Watch>,
    carried: &'a AtomicU64,
}

// === impl Way ===

impl Way<'_> {
    /// Passes bytes on until the sender ends, or until it is time to leave.
    async fn pass(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let leave = self.leave;
        loop {
            let read = tokio::select! {
                biased;
                () = leave.cancelled() => return self.close(from, to, &mut buffer).await,
                read = from.read(&mut buffer) => read?,
            };
            if read == 0 {
                return to.shutdown().await;
            }
            self.watch.touch();
            self.carried.fetch_add(read as u64, Relaxed);
            if let Some(frames) = &mut self.frames {
                frames.pass(&buffer[..read]);
            }
            to.write_all(&buffer[..read]).await?;
            to.flush().await?;
        }
    }

    /// Says good-bye in the sender's name, after the frame that is under way, and waits for what the sender says to
    /// that: its close, or its end. What it sends in between is for nobody (RFC 6455 §1.4).
    async fn close(
        self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let Some(mut frames) = self.frames else { return to.shutdown().await };
        let (mut told, mut unread) = (false, 0..0);
        loop {
            if !told && frames.at_boundary() {
                if !frames.closed() {
                    to.write_all(&websocket::going_away(self.from)).await?;
                    to.flush().await?;
                }
                told = true;
            }
            if frames.closed() && frames.at_boundary() {
                return to.shutdown().await;
            }
            if unread.is_empty() {
                unread = 0..from.read(buffer).await?;
            }
            if unread.is_empty() {
                return to.shutdown().await;
            }
            let end = unread.start + frames.to_boundary(&buffer[unread.clone()]);
            if !told {
                to.write_all(&buffer[unread.start..end]).await?;
                to.flush().await?;
            }
            unread.start = end;
        }
    }
}

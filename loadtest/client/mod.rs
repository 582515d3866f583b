//! Asks one service, by whichever protocol. A caller belongs to one thread; nothing in it is shared between threads.

mod connect;
mod grpc;
mod http1;
mod http2;
mod request;
mod sse;
mod websocket;

use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{HeaderMap, Response};
use pilotlight::clock;
use tokio::time::timeout_at;

pub(crate) use connect::{Connector, Io, Tls};

use self::http1::{Busy, Http1};
use self::http2::Http2;
use self::request::Requests;
use crate::outcome::{Answer, Code, Events, Failed, Failure, Start};
use crate::recorder::{Recorder, Shot};
use crate::scenario::{Protocol, Service};

/// Asks one service.
pub(crate) struct Caller {
    service: Service,
    requests: Requests,
    connections: Connections,
}

enum Connections {
    Http1(Http1),
    Http2(Http2),
}

// === impl Caller ===

impl Caller {
    /// Nothing is connected before the first request. `seed` is for templates.
    pub(crate) fn new(service: &Service, tls: &Tls, seed: u64) -> Self {
        let http2 = matches!(service.protocol, Protocol::H2c | Protocol::Grpc);
        let connector = Connector::new(&service.target, tls, http2);
        let connections = if http2 {
            Connections::Http2(Http2::new(connector, service.connections))
        } else {
            Connections::Http1(Http1::new(connector))
        };
        Self { requests: Requests::new(service, seed), service: service.clone(), connections }
    }

    /// Sends one request and reads its answer to the end. Everything that happens goes to the recorder, but for what came
    /// of it at last.
    pub(crate) async fn call(
        &self,
        shot: Shot,
        left: Instant,
        recorder: &Recorder,
    ) -> Result<Answer, Failed> {
        let deadline = shot.intended + self.service.timeout;
        let asked = async {
            let body = self.requests.body(shot.index);
            recorder.left(shot, left, body.len() as u64);
            match &self.service.protocol {
                Protocol::Http1 | Protocol::H2c => self.plain(shot, body).await,
                Protocol::Grpc => self.grpc(shot, body).await,
                Protocol::Sse => self.events(shot, body, recorder).await,
                Protocol::Websocket(how) => self.talk(shot, body, how, recorder).await,
            }
        };
        timeout_at(deadline.into(), asked).await.unwrap_or(Err(Failure::Timeout.into()))
    }

    async fn plain(&self, shot: Shot, body: Bytes) -> Result<Answer, Failed> {
        let (mut answer, busy) = self.send(shot, body).await?;
        let mut bytes_in = 0;
        read(answer.body_mut(), |data| bytes_in += data.len() as u64).await?;
        if let Some(busy) = busy {
            busy.rest();
        }
        Ok(self.answer(&answer, bytes_in))
    }

    async fn grpc(&self, shot: Shot, body: Bytes) -> Result<Answer, Failed> {
        let (mut answer, _) = self.send(shot, body).await?;
        let mut bytes_in = 0;
        let trailers = read(answer.body_mut(), |data| bytes_in += data.len() as u64).await?;
        let code = grpc::code(&answer, trailers.as_ref())?;
        let ok = matches!(code, Code::Grpc(code) if self.service.success.has(code));
        Ok(Answer { code, ok, ..self.answer(&answer, bytes_in) })
    }

    async fn events(&self, shot: Shot, body: Bytes, recorder: &Recorder) -> Result<Answer, Failed> {
        let (mut answer, busy) = self.send(shot, body).await?;
        let (mut bytes_in, mut parser) = (0, sse::Parser::default());
        let mut seen: Option<Events> = None;
        read(answer.body_mut(), |data| {
            bytes_in += data.len() as u64;
            let new = parser.push(&data);
            if new == 0 {
                return;
            }
            let now = clock::now();
            let events = seen.get_or_insert(Events { first: now, last: now, count: 0 });
            for _ in 0..new {
                // Events that came in one piece have no gap: the client had them at once.
                if events.count > 0 {
                    recorder.gap(shot, now.saturating_duration_since(events.last));
                }
                events.count += 1;
                events.last = now;
            }
        })
        .await?;
        if let Some(busy) = busy {
            busy.rest();
        }
        let answer = self.answer(&answer, bytes_in);
        if answer.ok && seen.is_none() {
            return Err(Failure::NoEvent.into());
        }
        Ok(Answer { events: seen, ..answer })
    }

    /// The response's head has come when this returns.
    async fn send(&self, shot: Shot, body: Bytes) -> Result<(Response<Incoming>, Option<Busy<'_>>), Failed> {
        match &self.connections {
            Connections::Http1(http1) => {
                let (answer, busy) = http1.send(self.requests.http1(shot.index, body)?).await?;
                Ok((answer, Some(busy)))
            }
            Connections::Http2(http2) => {
                Ok((http2.send(self.requests.http2(shot.index, body)?).await?, None))
            }
        }
    }

    fn answer(&self, response: &Response<impl Sized>, bytes_in: u64) -> Answer {
        let code = response.status().as_u16();
        Answer {
            code: Code::Http(code),
            ok: self.service.success.has(code),
            bytes_in,
            events: None,
            messages: None,
            start: start(response.headers()),
        }
    }
}

fn start(headers: &HeaderMap) -> Option<Start> {
    headers.get_all("server-timing").iter().find_map(|value| Start::read(value.to_str().ok()?))
}

/// Reads a body to its end. Returns its trailers.
async fn read(body: &mut Incoming, mut each: impl FnMut(Bytes)) -> Result<Option<HeaderMap>, Failed> {
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.map_err(|e| Failed::new(Failure::Body, &e))?.into_data() {
            Ok(data) => each(data),
            Err(other) => trailers = other.into_trailers().ok(),
        }
    }
    Ok(trailers)
}

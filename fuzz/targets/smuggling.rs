//! A connection's bytes through the server, the watch, the shaping of heads, and the client: what an app gets is one
//! message, read in one way, and the one that the letter of RFC 9112 says was sent.
//!
//! As in `proxy::server` and `proxy::guarded`, but without sockets, timers and lines.
#![no_main]

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use libfuzzer_sys::fuzz_target;
use pilotlight::proxy::body::Body;
use pilotlight::proxy::client;
use pilotlight::proxy::error::{Dialect, ProxyError};
use pilotlight::proxy::framing::{Framing, MAX_HEAD};
use pilotlight::proxy::head;
use pilotlight_fuzz::http1::{self, End, Message};
use pilotlight_fuzz::memory::{Wire, drive};
use pilotlight_fuzz::pieces;

const MAX_HEADERS: usize = 128;
/// Of a connection whose bytes are all there.
const POLLS: u32 = 2_000;
/// Until all that can be sent on is sent.
const SETTLED: u32 = 4;
/// Fields that are never to be taken from a trailer.
const NOT_IN_TRAILERS: [&[u8]; 5] =
    [b"content-length", b"transfer-encoding", b"host", b"connection", b"content-type"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    Going,
    Whole,
    Broken,
}

/// A body on its way to the app.
struct Noted {
    incoming: Incoming,
    upload: Rc<Cell<Upload>>,
}

/// What became of a request that hyper handed over.
#[derive(Debug)]
enum Fate {
    Refused,
    Sent(Vec<u8>, Upload),
}

// === impl Noted ===

impl HttpBody for Noted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Err(_))) => self.upload.set(Upload::Broken),
            Poll::Ready(None) => self.upload.set(Upload::Whole),
            // Behind trailers, nobody asks for more.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() || self.incoming.is_end_stream() => {
                self.upload.set(Upload::Whole);
            }
            Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

async fn forward(
    request: Request<Incoming>,
    conn: &pilotlight::proxy::server::Conn,
) -> Result<Fate, ProxyError> {
    let (mut parts, incoming) = request.into_parts();
    head::canonical(&mut parts, conn, &http::HeaderValue::from_static("fixed.example"))?;
    let upload = Rc::new(Cell::new(if incoming.is_end_stream() { Upload::Whole } else { Upload::Going }));
    let mut request = Request::from_parts(parts, Noted { incoming, upload: upload.clone() });
    head::shape(&mut request, client::Wire::H1)?;
    let app = Wire::default();
    let handshake = hyper::client::conn::http1::handshake(app.pipe(|_: &mut Vec<u8>| {}));
    let (mut sender, connection) =
        drive(handshake, 1).expect("waits for nobody").expect("has nothing to fail");
    let mut connection = pin!(connection);
    let mut answer = pin!(sender.send_request(request));
    let mut polls = 0;
    poll_fn(|cx| {
        let over = connection.as_mut().poll(cx).is_ready();
        if answer.as_mut().poll(cx).is_ready() || over {
            return Poll::Ready(());
        }
        if upload.get() != Upload::Going {
            polls += 1;
        }
        if polls == SETTLED {
            app.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
        Poll::Pending
    })
    .await;
    Ok(Fate::Sent(app.written(), upload.get()))
}

/// What hyper and we make of the bytes.
fn through<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Fate> {
    let client = Wire::default();
    pieces.into_iter().for_each(|piece| client.send(piece));
    client.end();
    let framing = RefCell::new(Framing::default());
    let refused_at = Cell::new(u32::MAX);
    let pipe = client.pipe(|bytes: &mut Vec<u8>| {
        let mut framing = framing.borrow_mut();
        if framing.read(bytes).is_err() {
            refused_at.set(framing.heads());
        }
        if let Some(spoilt) = framing.spoilt() {
            bytes.truncate(spoilt);
            bytes.extend_from_slice(b"\0\r\n\r\n");
        }
    });
    let (fates, handed_over) = (RefCell::new(Vec::new()), Cell::new(0));
    let conn = pilotlight::fuzz::conn(([10, 0, 0, 9], 1234).into());
    let service = service_fn(|request: Request<Incoming>| {
        let number = handed_over.replace(handed_over.get() + 1);
        let taken = number < refused_at.get();
        let (fates, conn) = (&fates, &conn);
        async move {
            let refused = ProxyError::BadRequest("refused by the watch");
            let fate = if taken { forward(request, conn).await } else { Err(refused) };
            let response = match &fate {
                Ok(_) => http::Response::new(Body::Empty),
                Err(error) => error.response(Dialect::Http, ""),
            };
            fates.borrow_mut().push(fate.unwrap_or(Fate::Refused));
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let ended = drive(builder.serve_connection(pipe, service), POLLS);
    assert!(ended.is_some(), "the connection never ends");
    fates.into_inner()
}

/// The app's reading of what it was sent.
fn only_message(sent: &[u8]) -> Message {
    let reading = http1::read(sent);
    assert_eq!((reading.end, reading.messages.len()), (End::Clean, 1), "{}", sent.escape_ascii());
    let message = reading.messages.into_iter().next().expect("counted above");
    assert_eq!(message.all("host").count(), 1, "{}", sent.escape_ascii());
    for (name, _) in &message.trailers {
        assert!(!NOT_IN_TRAILERS.contains(&&name[..]), "{}", sent.escape_ascii());
    }
    message
}

fn compare(asked: &Message, sent: &Message) {
    assert_eq!(asked.method, sent.method);
    if asked.target.starts_with(b"/") {
        let fragment = asked.target.iter().position(|byte| *byte == b'#').unwrap_or(asked.target.len());
        assert_eq!(
            asked.target[..fragment].escape_ascii().to_string(),
            sent.target.escape_ascii().to_string()
        );
    }
}

fuzz_target!(|data: &[u8]| {
    let (pieces, text) = pieces(data);
    let fates = through(pieces);
    let sound = http1::read(text);
    for (number, fate) in fates.iter().enumerate() {
        let Fate::Sent(sent, upload) = fate else {
            assert_eq!(number + 1, fates.len(), "a refusal is a connection's last answer");
            continue;
        };
        if *upload != Upload::Whole {
            let reading = http1::read(sent);
            assert!(reading.messages.is_empty(), "half a body looks whole: {}", sent.escape_ascii());
        } else if let Some(asked) = sound.messages.get(number) {
            let sent = only_message(sent);
            compare(asked, &sent);
            assert_eq!(asked.body.escape_ascii().to_string(), sent.body.escape_ascii().to_string());
        } else {
            // What is wrong with it is in its body's coding, which is not passed on, and it was the last.
            let last = (sound.end, number, number + 1);
            assert_eq!(last, (End::Wrong { head: true }, sound.messages.len(), fates.len()), "{fates:?}");
            let asked = sound.last_head.as_ref().expect("its head is sound");
            compare(asked, &only_message(sent));
        }
    }
});

//! A connection's bytes through the server, the watch, the shaping of heads, and our encoder: what an app gets is one
//! message, read in one way, and the one that the letter of RFC 9112 says was sent.
//!
//! As in `proxy::server` and `proxy::guarded`, but without sockets, timers and lines.
#![no_main]

use std::cell::{Cell, RefCell};
use std::future::poll_fn;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use libfuzzer_sys::fuzz_target;
use pilotlight::proxy::body::Body;
use pilotlight::proxy::client;
use pilotlight::proxy::error::{Dialect, ProxyError};
use pilotlight::proxy::framing::{Framing, MAX_HEAD};
use pilotlight::proxy::h1::outgoing::Outgoing;
use pilotlight::proxy::head;
use pilotlight::proxy::request_body::RequestBody;
use pilotlight_fuzz::http1::{self, End, Message};
use pilotlight_fuzz::memory::{Wire, drive};
use pilotlight_fuzz::pieces;

const MAX_HEADERS: usize = 100;
/// Of a connection whose bytes are all there.
const POLLS: u32 = 2_000;
/// Fields that are never to be taken from a trailer.
const NOT_IN_TRAILERS: [&[u8]; 5] =
    [b"content-length", b"transfer-encoding", b"host", b"connection", b"content-type"];

/// What became of a request that hyper handed over.
#[derive(Debug)]
enum Fate {
    Refused,
    /// What was written, and whether the body came to its end.
    Sent(Vec<u8>, bool),
}

async fn forward(
    request: Request<Incoming>,
    conn: &pilotlight::proxy::server::Conn,
) -> Result<Fate, ProxyError> {
    let mut request = request.map(RequestBody::from);
    head::canonical(&mut request, conn, &http::HeaderValue::from_static("fixed.example"))?;
    head::shape(&mut request, client::Wire::H1)?;
    let mut upload = Outgoing::new(&mut request, Vec::new());
    let mut written = Vec::new();
    let whole = poll_fn(|cx| upload.poll(cx, &mut written)).await.is_ok();
    Ok(Fate::Sent(written, whole))
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
        let Fate::Sent(sent, whole) = fate else {
            assert_eq!(number + 1, fates.len(), "a refusal is a connection's last answer");
            continue;
        };
        if !whole {
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

//! An app's answer to a request, head and body, as our own reading of HTTP/1.1 takes it: how its bytes are cut does not
//! matter, and where hyper finds an answer too, it is the same.
#![no_main]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::Body as _;
use http_body_util::Empty;
use libfuzzer_sys::fuzz_target;
use pilotlight::proxy::h1::decode::Decoder;
use pilotlight::proxy::h1::head::{self, MAX_BYTES};
use pilotlight_fuzz::memory::{Wire, drive};
use pilotlight_fuzz::pieces;

/// Of a connection whose bytes are all there.
const POLLS: u32 = 2_000;

/// An answer, as far as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reading {
    status: Option<StatusCode>,
    fields: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// It came to its end.
    whole: bool,
    /// It is none.
    wrong: bool,
}

// === impl Reading ===

impl Reading {
    fn of<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let (mut reading, mut read, mut decoder) = (Self::default(), BytesMut::new(), None);
        for piece in pieces {
            read.extend_from_slice(piece);
            if reading.go_on(&mut read, &mut decoder).is_err() {
                reading.wrong = true;
                break;
            }
        }
        if let Some(decoder) = &decoder {
            reading.whole = !reading.wrong && (decoder.is_done() || decoder.is_to_close());
        }
        reading
    }

    fn go_on(&mut self, read: &mut BytesMut, decoder: &mut Option<Decoder>) -> Result<(), ()> {
        while decoder.is_none() {
            let Some(head) = head::take(read, &mut HeaderMap::new()).map_err(drop)? else {
                assert!(read.len() < MAX_BYTES, "more of a head is kept than is allowed");
                return Ok(());
            };
            if !head.is_interim() {
                *decoder = Some(Decoder::behind(&head, &Method::GET).map_err(drop)?);
                self.status = Some(head.status);
                self.fields = head.headers;
            }
        }
        let Some(decoder) = decoder else { return Ok(()) };
        while let Some(frame) = decoder.next(read).map_err(drop)? {
            match frame.into_data() {
                Ok(data) => self.body.extend_from_slice(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        Ok(())
    }

    /// hyper's.
    fn of_hyper(bytes: &[u8]) -> Option<Self> {
        let app = Wire::default();
        app.send(bytes);
        app.end();
        let handshake = hyper::client::conn::http1::handshake(app.pipe(|_: &mut Vec<u8>| {}));
        let (mut sender, connection) = drive(handshake, 1)?.ok()?;
        let mut connection = pin!(connection);
        let request = Request::get("/").body(Empty::<Bytes>::new()).ok()?;
        let mut exchange = pin!(async {
            let response = sender.send_request(request).await.ok()?;
            let (head, mut body) = response.into_parts();
            let mut reading = Self { status: Some(head.status), fields: head.headers, ..Self::default() };
            while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                match frame.ok()?.into_data() {
                    Ok(data) => reading.body.extend_from_slice(&data),
                    Err(frame) => reading.trailers = frame.into_trailers().ok(),
                }
            }
            reading.whole = true;
            Some(reading)
        });
        let both = poll_fn(|cx| {
            let _ = connection.as_mut().poll(cx);
            exchange.as_mut().poll(cx)
        });
        drive(both, POLLS).flatten()
    }
}

fuzz_target!(|data: &[u8]| {
    let (pieces, bytes) = pieces(data);
    let (whole, cut) = (Reading::of([bytes]), Reading::of(pieces));
    assert_eq!(whole, cut, "{}", bytes.escape_ascii());
    if whole.whole
        && whole.status != Some(StatusCode::SWITCHING_PROTOCOLS)
        && let Some(hypers) = Reading::of_hyper(bytes)
    {
        assert_eq!(whole, hypers, "{}", bytes.escape_ascii());
    }
});

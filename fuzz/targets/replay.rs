//! A request that is kept at hand while it is sent: what comes back is all of it, or nothing.
#![no_main]

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body as HttpBody, Frame};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use libfuzzer_sys::fuzz_target;
use pilotlight::proxy::replay::Kept;
use pilotlight::proxy::request_body::RequestBody;
use pilotlight_fuzz::http1::{self, End};
use pilotlight_fuzz::memory::{Wire, drive};
use pilotlight_fuzz::pieces;

const POLLS: u32 = 2_000;
/// hyper takes a hundred fields, of a head and of trailers.
const MAX_LINES: usize = 100;

/// All that a body holds; `None` when it was broken off.
async fn read(mut body: RequestBody) -> Option<(Vec<u8>, Option<HeaderMap>)> {
    let (mut data, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.ok()?.into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Some((data, trailers))
}

/// Sends `frames` frames of it, takes it back, and again; then reads what there is to the end.
async fn again(request: Request<Incoming>, frames: [u8; 2]) -> Option<(Vec<u8>, Option<HeaderMap>)> {
    let head = (request.method().clone(), request.uri().clone(), request.headers().clone());
    let mut request = request.map(RequestBody::from);
    for frames in frames {
        let kept = Kept::of(&mut request);
        let length = request.body().size_hint().exact();
        let mut sent = 0;
        for _ in 0..frames % 8 {
            let frame: Option<Result<Frame<Bytes>, _>> =
                poll_fn(|cx| Pin::new(request.body_mut()).poll_frame(cx)).await;
            match frame {
                Some(Ok(frame)) => sent += frame.data_ref().map_or(0, Bytes::len) as u64,
                Some(Err(_)) => return None,
                None => break,
            }
        }
        let left = request.body().size_hint();
        if let (Some(length), Some(left)) = (length, left.exact()) {
            assert_eq!(length, sent + left, "lengths of what was sent and what is left");
        }
        let back = kept.take().expect("so little is kept");
        assert_eq!((back.method(), back.uri(), back.headers()), (&head.0, &head.1, &head.2));
        if let (Some(length), Some(whole)) = (length, back.body().size_hint().exact()) {
            assert_eq!(length, whole, "it is as long as before");
        }
        request = back;
    }
    read(request.into_body()).await
}

fuzz_target!(|data: &[u8]| {
    let Some((frames, data)) = data.split_first_chunk::<2>() else { return };
    let (pieces, text) = pieces(data);
    let sound = http1::read(text);
    if text.iter().filter(|byte| **byte == b'\n').count() > MAX_LINES {
        return;
    }
    let client = Wire::default();
    pieces.into_iter().for_each(|piece| client.send(piece));
    client.end();
    let number = Cell::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        let (number, sound) = (number.replace(number.get() + 1), &sound);
        async move {
            let found = again(request, *frames).await;
            if let Some(message) = sound.messages.get(number) {
                let (data, trailers) = found.expect("its body is whole");
                assert_eq!(data, message.body);
                // Some have no place there.
                assert!(trailers.map_or(0, |trailers| trailers.len()) <= message.trailers.len());
            } else if let End::Cut { .. } = sound.end {
                assert!(found.is_none(), "half a body looks whole");
            }
            Ok::<_, std::convert::Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let server = hyper::server::conn::http1::Builder::new()
        .serve_connection(client.pipe(|_: &mut Vec<u8>| {}), service);
    assert!(drive(server, POLLS).is_some(), "the connection never ends");
});

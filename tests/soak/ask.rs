//! What plain requests ask for.

use bytes::Bytes;

use crate::answer::{Want, noise};
use crate::support::{Call, host};

/// A request of any kind to `service`, and its right answer.
pub(crate) fn any(service: &str, id: &str) -> (Call, Want) {
    let host = host(service);
    let (call, want) = match fastrand::u32(..100) {
        0..25 => (Call::get(&host, "/"), Want::About(id.to_owned())),
        25..40 => {
            let path = format!("/sleep?ms={}", fastrand::u32(..60));
            (Call::get(&host, &path), Want::About(id.to_owned()))
        }
        40..50 => {
            let n = fastrand::usize(..300_000);
            (Call::get(&host, &format!("/bytes?n={n}")), Want::Zeros(n))
        }
        50..55 => (Call::head(&host, "/"), Want::Nothing),
        55..80 => {
            let body = noise();
            (Call::post(&host, "/echo", body.clone()), Want::Bytes(body))
        }
        _ => chunked(&host),
    };
    (call.id(id), want)
}

/// A body whose length is not said.
fn chunked(host: &str) -> (Call, Want) {
    let body = noise();
    let (call, pieces) = Call::post_pieces(host, "/echo");
    let mut rest = body.clone();
    tokio::spawn(async move {
        while !rest.is_empty() {
            let piece = rest.split_to(fastrand::usize(1..=rest.len().min(30_000)));
            if pieces.send(piece).await.is_err() {
                return; // Answered without reading on, or broken off: the reply says which.
            }
        }
    });
    (call, Want::Bytes(body))
}

/// A gRPC message.
pub(crate) fn message() -> Bytes {
    let text = noise();
    let mut message = vec![0];
    message.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
    message.extend(&text);
    message.into()
}

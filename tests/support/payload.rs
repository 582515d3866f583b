//! Request bodies.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;

/// What a request carries.
pub(crate) type Payload = UnsyncBoxBody<Bytes, Infallible>;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Nothing.
pub(crate) fn empty() -> Payload {
    Empty::new().boxed_unsync()
}

/// These bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Payload {
    Full::new(bytes.into()).boxed_unsync()
}

/// `n` zero bytes that never exist at once.
pub(crate) fn zeros(n: u64) -> Payload {
    let chunks = stream::unfold(n, |left| async move {
        let take = left.min(ZEROS.len() as u64);
        let frame = Frame::data(Bytes::from_static(&ZEROS[..usize::try_from(take).unwrap()]));
        (take > 0).then_some((Ok(frame), left - take))
    });
    StreamBody::new(chunks).boxed_unsync()
}

/// What is sent into the channel.
pub(crate) fn pieces() -> (tokio::sync::mpsc::Sender<Bytes>, Payload) {
    let (pieces, received) = tokio::sync::mpsc::channel::<Bytes>(1);
    let frames = stream::unfold(received, |mut received| async move {
        received.recv().await.map(|piece| (Ok(Frame::data(piece)), received))
    });
    (pieces, StreamBody::new(frames).boxed_unsync())
}

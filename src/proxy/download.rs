//! An app's response body, and what of the replica's connections it occupies.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::client::Client;
use super::h1::{self, Answer};
use super::send_error::ExchangeError;
use super::shared::Stream;

/// A response's body. Dropping it breaks the exchange off: an HTTP/1.1 connection is closed, a stream is reset.
#[derive(Debug)]
pub enum Download {
    /// All of an HTTP/1.1 connection, and whose it is.
    H1(Answer, Arc<Client>),
    /// One stream of an HTTP/2 connection; dropping it is giving it back.
    H2(Incoming, Stream),
    /// It has ended, or is not there.
    Over,
}

/// An app's half of a connection that is to speak something else.
#[derive(Debug)]
pub enum Tunnel {
    /// The connection, and what has come of it already.
    H1(Box<Answer>),
    /// A stream.
    H2(OnUpgrade, Stream),
}

// === impl Download ===

impl Download {
    /// The response was read to its end: its connection can be used again.
    pub fn end(&mut self, now: Instant) {
        match std::mem::replace(self, Self::Over) {
            Self::H1(answer, client) => client.take_back(answer.finish(), now),
            Self::H2(..) | Self::Over => {}
        }
    }

    /// Takes the connection out of a response after which it speaks something else.
    pub fn tunnel(response: &mut Response<Self>) -> Option<Tunnel> {
        let on_upgrade = hyper::upgrade::on(&mut *response);
        match std::mem::replace(response.body_mut(), Self::Over) {
            Self::H1(answer, _) => Some(Tunnel::H1(Box::new(answer))),
            Self::H2(_, stream) => Some(Tunnel::H2(on_upgrade, stream)),
            Self::Over => None,
        }
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        match &mut *self {
            Self::H1(answer, _) => Pin::new(answer).poll_frame(cx).map_err(h1::Error::into),
            Self::H2(incoming, _) => Pin::new(incoming).poll_frame(cx).map_err(hyper::Error::into),
            Self::Over => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::H1(answer, _) => answer.is_end_stream(),
            Self::H2(incoming, _) => incoming.is_end_stream(),
            Self::Over => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::H1(answer, _) => answer.size_hint(),
            Self::H2(incoming, _) => incoming.size_hint(),
            Self::Over => SizeHint::with_exact(0),
        }
    }
}

//! A response's body, and the connection that it comes by.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Error;
use super::connection::{Connection, Rest};
use super::decode::Decoder;
use crate::net::TcpStream;

/// A response's body. Dropping it closes the connection; [`finish`](Self::finish) does not.
#[derive(Debug)]
pub struct Answer {
    connection: Box<Connection>,
    decoder: Decoder,
    keeps_alive: bool,
    /// The request's body is still on its way.
    rest: Option<Rest>,
}

/// What is left of a connection after its answer.
#[derive(Debug)]
pub enum Finished {
    /// It can take the next request.
    Ready(Box<Connection>),
    /// It can once the rest of the request went out.
    Sending(Box<Connection>, Rest),
    /// Nothing.
    Over,
}

// === impl Answer ===

impl Answer {
    pub(super) fn new(
        connection: Box<Connection>,
        decoder: Decoder,
        keeps_alive: bool,
        rest: Option<Rest>,
    ) -> Self {
        Self { connection, decoder, keeps_alive, rest }
    }

    /// The answer is read; what becomes of its connection.
    pub fn finish(self) -> Finished {
        if !(self.keeps_alive && self.decoder.is_done() && self.connection.read.is_empty()) {
            return Finished::Over;
        }
        match self.rest {
            None => Finished::Ready(self.connection),
            Some(rest) => Finished::Sending(self.connection, rest),
        }
    }

    /// The connection after 101, and what has come of the other protocol. `None` while the request is still on its way.
    pub fn into_stream(self) -> Option<(TcpStream, BytesMut)> {
        self.connection.into_stream()
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self { connection, decoder, .. } = &mut *self;
        loop {
            if let Some(frame) = decoder.next(&mut connection.read)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if decoder.is_done() {
                return Poll::Ready(None);
            }
            let came = ready!(connection.poll_fill(cx)).map_err(Error::Io)?;
            if came == 0 && decoder.is_to_close() {
                *decoder = Decoder::Done;
            } else if came == 0 {
                return Poll::Ready(Some(Err(Error::Closed)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.is_done()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }
}

// === impl Finished ===

impl Finished {
    /// The connection, when it can take the next request.
    pub async fn ready(self) -> Option<Box<Connection>> {
        match self {
            Self::Ready(connection) => Some(connection),
            Self::Sending(connection, rest) => Some(Box::new(connection.unsplit(rest.await.ok()??))),
            Self::Over => None,
        }
    }
}

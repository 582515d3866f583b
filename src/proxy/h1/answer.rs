//! A response's body, and the connection that it comes by.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Error;
use super::connection::{Connection, Rest, Writer};
use super::decode::Decoder;
use crate::net::TcpStream;

/// A response's body. Dropping it closes the connection; [`finish`](Self::finish) does not.
#[derive(Debug)]
pub struct Answer {
    connection: Box<Connection>,
    decoder: Decoder,
    keeps_alive: bool,
    upload: Upload,
}

/// What has become of the request since its answer began.
#[derive(Debug)]
enum Upload {
    /// All of it had gone out by then.
    Whole,
    /// → `Sent`, `Failed`.
    Going(Rest),
    Sent(Writer),
    /// The app does not take it, and may go on with its answer all the same.
    Failed,
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
        let upload = rest.map_or(Upload::Whole, Upload::Going);
        Self { connection, decoder, keeps_alive, upload }
    }

    /// The answer is read; what becomes of its connection.
    pub fn finish(self) -> Finished {
        if !(self.keeps_alive && self.decoder.is_done() && self.connection.read.is_empty()) {
            return Finished::Over;
        }
        match self.upload {
            Upload::Whole => Finished::Ready(self.connection),
            Upload::Going(rest) => Finished::Sending(self.connection, rest),
            Upload::Sent(writer) => Finished::Ready(Box::new(self.connection.unsplit(writer))),
            Upload::Failed => Finished::Over,
        }
    }

    /// The connection after 101, and what has come of the other protocol. `None` while the request is still on its way.
    pub fn into_stream(self) -> Option<(TcpStream, BytesMut)> {
        self.connection.into_stream()
    }

    /// Looks after the rest of the request while the app says nothing. If it is the client who broke it off, an app that
    /// waits for more of it would be waited for in vain.
    fn look_after_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let Upload::Going(rest) = &mut self.upload else { return Ok(()) };
        let Poll::Ready(ended) = Pin::new(rest).poll(cx) else { return Ok(()) };
        self.upload = match ended {
            Ok(Ok(writer)) => Upload::Sent(writer),
            Ok(Err(error @ Error::Client(_))) => return Err(error),
            Ok(Err(_)) | Err(_) => Upload::Failed,
        };
        Ok(())
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        loop {
            if let Some(frame) = this.decoder.next(&mut this.connection.read)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if this.decoder.is_done() {
                return Poll::Ready(None);
            }
            let filled = this.connection.poll_fill(cx).map_err(Error::Io);
            if filled.is_pending() {
                this.look_after_upload(cx)?;
            }
            let came = ready!(filled)?;
            if came == 0 && this.decoder.is_to_close() {
                this.decoder = Decoder::Done;
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
            Self::Sending(connection, rest) => Some(Box::new(connection.unsplit(rest.await.ok()?.ok()?))),
            Self::Over => None,
        }
    }
}

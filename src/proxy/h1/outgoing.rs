//! A request on its way: written as the connection takes it and the client sends it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Request;
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use super::Error;
use super::encode::{self, Coding};
use crate::proxy::request_body::{Prefetched, RequestBody};

/// Pieces of a body up to this size are copied behind what is written before them: cheaper than a vectored write.
const COPIED: usize = 4 * 1024;
/// As much is gathered before it is written, if it is there.
const GATHERED: usize = 16 * 1024;

/// One request, from its head to the end of its body.
#[derive(Debug)]
pub struct Outgoing {
    body: RequestBody,
    coding: Coding,
    /// Encoded: from `written` on, then `data`, then `tail`.
    out: Vec<u8>,
    written: usize,
    data: Bytes,
    tail: &'static [u8],
    at: At,
    /// A byte of it was written.
    sent: bool,
    /// What was read of the body before anything was written.
    unsent: Vec<Frame<Bytes>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nobody has asked for the body yet. → `Body`.
    Head,
    /// → `End`.
    Body,
    /// All of it is encoded.
    End,
}

// === impl Outgoing ===

impl Outgoing {
    /// Takes the body out of `request`, and encodes its head into `out`, which is empty.
    pub fn new(request: &mut Request<RequestBody>, mut out: Vec<u8>) -> Self {
        let body = std::mem::take(request.body_mut());
        let (at, coding) = if body.is_end_stream() {
            (At::End, Coding::Length(0))
        } else {
            (At::Head, encode::framing(request.headers_mut(), body.size_hint().exact()))
        };
        encode::head(&mut out, request.method(), request.uri(), request.headers());
        Self {
            body,
            coding,
            out,
            written: 0,
            data: Bytes::new(),
            tail: b"",
            at,
            sent: false,
            unsent: Vec::new(),
        }
    }

    /// Whether all of it is written.
    pub fn is_done(&self) -> bool {
        self.at == At::End && self.is_written()
    }

    /// Whether a byte of it was written.
    pub fn is_sent(&self) -> bool {
        self.sent
    }

    /// The body as it was, of a request that was not sent. `None`: it cannot be had again.
    pub fn into_body(self) -> Option<RequestBody> {
        Prefetched::rewound(self.unsent, self.body)
    }

    /// The buffer, for the next one.
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.out.clear();
        self.out
    }

    /// Goes on as far as the client and the connection allow; ready when all of it is written.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Error>> {
        loop {
            let gathered = self.gather(cx);
            if self.at == At::Head && gathered.is_pending() {
                // hyper reads a body when it is asked for, which was now: what has come with the head is there at the next
                // poll, and goes out with it in one write.
                self.at = At::Body;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Poll::Ready(Err(error)) = gathered {
                return Poll::Ready(Err(error));
            }
            ready!(self.write(cx, to)).map_err(Error::Io)?;
            if self.at == At::End {
                return Poll::Ready(Ok(()));
            }
            ready!(gathered)?;
        }
    }

    /// Encodes what there is of the body. Pending when there is no more for now.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while self.at != At::End && self.data.is_empty() && self.out.len() < GATHERED {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if !self.sent {
                        self.unsent.extend(copy(&frame));
                    }
                    self.at = At::Body;
                    self.encode(frame)?;
                }
                Some(Err(error)) => return Poll::Ready(Err(Error::Client(error))),
                None => self.end()?,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn encode(&mut self, frame: Frame<Bytes>) -> Result<(), Error> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                if let Coding::Chunked(named) = &self.coding {
                    encode::last_chunk(&mut self.out, frame.trailers_ref(), named);
                    self.at = At::End;
                    return Ok(());
                }
                return self.end();
            }
        };
        if data.is_empty() {
            return Ok(());
        }
        let last = match &mut self.coding {
            Coding::Length(left) => {
                let Some(less) = left.checked_sub(data.len() as u64) else {
                    return Err(wrong("the request's body is longer than its head says"));
                };
                *left = less;
                self.tail = b"";
                less == 0
            }
            Coding::Chunked(_) => {
                encode::chunk(&mut self.out, data.len());
                self.tail = b"\r\n";
                self.body.is_end_stream()
            }
        };
        if data.len() <= COPIED {
            self.out.extend_from_slice(&data);
            self.out.extend_from_slice(std::mem::take(&mut self.tail));
        } else {
            self.data = data;
        }
        if last && self.data.is_empty() {
            return self.end();
        }
        Ok(())
    }

    /// The body has ended.
    fn end(&mut self) -> Result<(), Error> {
        match &self.coding {
            Coding::Length(0) => {}
            Coding::Length(_) => return Err(wrong("the request's body is shorter than its head says")),
            Coding::Chunked(_) => encode::last_chunk(&mut self.out, None, &[]),
        }
        self.at = At::End;
        Ok(())
    }

    fn is_written(&self) -> bool {
        self.written == self.out.len() && self.data.is_empty() && self.tail.is_empty()
    }

    fn write(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        while !self.is_written() {
            let out = &self.out[self.written..];
            let to = Pin::new(&mut *to);
            let wrote = if self.data.is_empty() && self.tail.is_empty() {
                to.poll_write(cx, out)
            } else {
                let parts = [out, &self.data, self.tail].map(IoSlice::new);
                // The first must not be empty: not every stream looks at more than that.
                to.poll_write_vectored(cx, &parts[usize::from(out.is_empty())..])
            };
            let mut wrote = ready!(wrote)?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if !std::mem::replace(&mut self.sent, true) {
                self.unsent = Vec::new();
            }
            let mut of = |left: usize| {
                let part = wrote.min(left);
                wrote -= part;
                part
            };
            self.written += of(self.out.len() - self.written);
            self.data.advance(of(self.data.len()));
            self.tail = &self.tail[of(self.tail.len())..];
        }
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

fn copy(frame: &Frame<Bytes>) -> Option<Frame<Bytes>> {
    let data = frame.data_ref().cloned().map(Frame::data);
    data.or_else(|| frame.trailers_ref().cloned().map(Frame::trailers))
}

/// hyper and h2 see to it that a body has the length that was told, so this is a bug of somebody's.
fn wrong(why: &'static str) -> Error {
    Error::Io(io::Error::new(io::ErrorKind::InvalidInput, why))
}

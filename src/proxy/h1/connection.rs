//! One connection to an app: a request at a time.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use http::{HeaderMap, Request, Response};
use http_body::Body as _;
use memchr::memchr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, ReadBuf, ReadHalf, WriteHalf, split};
use tokio_util::io::poll_read_buf;
use tokio_util::task::AbortOnDropHandle;

use super::decode::Decoder;
use super::head::{self, Head};
use super::outgoing::Outgoing;
use super::{Answer, Error};
use crate::net::TcpStream;
use crate::proxy::request_body::RequestBody;

/// What may come before a response's head: thousands of interim responses, and what is read ahead of the head.
pub const MAX_BEFORE_HEAD: usize = 256 * 1024;
/// Read at once: at first, and when an app has filled that, at most.
const READ: usize = 8 * 1024;
const MAX_READ: usize = 64 * 1024;
/// With less room than this, a read is not worth its system call.
const ROOM: usize = 2 * 1024;

/// A connection that has nothing to do, or whose request is under way.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// What has come and nobody has taken yet.
    pub(super) read: BytesMut,
    read_size: usize,
    /// For the next request's head.
    out: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Whole(TcpStream),
    /// The other half is with the rest of an upload.
    Half(ReadHalf<TcpStream>),
}

/// The rest of an upload whose answer has begun. Gives its half of the connection back when all went out.
pub(super) type Rest = AbortOnDropHandle<Result<Writer, Error>>;
/// A connection's half, and the buffer for the next request's head.
pub(super) type Writer = (WriteHalf<TcpStream>, Vec<u8>);

/// Why a request has no answer.
#[derive(Debug)]
pub enum Unanswered {
    /// Nothing of it was sent, and it is as it was.
    Unsent,
    /// The exchange broke. The request is as it was only if it is `intact`: it had no body, and nothing of a response came.
    Broken {
        /// How.
        error: Error,
        /// Whether the request can be sent again, where that is safe.
        intact: bool,
    },
}

// === impl Connection ===

impl Connection {
    /// Speaks HTTP/1.1 on `stream`.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: Stream::Whole(stream), read: BytesMut::new(), read_size: READ, out: Vec::new() }
    }

    /// Whether it can take a request: it is open, as far as is known here, and nothing has come unasked.
    pub fn is_ready(&mut self) -> bool {
        let Stream::Whole(stream) = &mut self.stream else { return false };
        if !self.read.is_empty() {
            return false;
        }
        let mut byte = [0];
        // No system call unless the runtime knows of something.
        let peeked = stream.poll_peek(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte));
        peeked.is_pending()
    }

    /// The connection itself, and what has come of what follows the response's head.
    pub fn into_stream(self) -> Option<(TcpStream, BytesMut)> {
        match self.stream {
            Stream::Whole(stream) => Some((stream, self.read)),
            Stream::Half(_) => None,
        }
    }

    /// Whole again, after the rest of an upload went out.
    pub(super) fn unsplit(self, (writer, out): Writer) -> Self {
        let stream = match self.stream {
            Stream::Half(reader) => Stream::Whole(reader.unsplit(writer)),
            whole @ Stream::Whole(_) => whole,
        };
        Self { stream, out, ..self }
    }

    /// Sends a request and waits for the head of its response. What it does not need any more of the request is gone
    /// afterwards: the body, and the fields, whose memory the response's are given.
    pub async fn send(
        mut self: Box<Self>,
        request: &mut Request<RequestBody>,
    ) -> Result<Response<Answer>, Unanswered> {
        let without_body = request.body().is_end_stream();
        let mut upload = Outgoing::new(request, std::mem::take(&mut self.out));
        let (mut heard, mut failed) = (0, None);
        let answered = poll_fn(|cx| {
            if failed.is_none()
                && let Poll::Ready(Err(error)) = upload.poll(cx, self.stream.whole())
            {
                if !upload.is_sent() || matches!(error, Error::Client(_)) {
                    return Poll::Ready(Err(error));
                }
                // An app may answer, close, and reset what it did not want to read: the answer is here by then.
                failed = Some(error);
            }
            match self.poll_head(cx, &mut heard, request.headers_mut()) {
                Poll::Ready(Err(Error::Closed | Error::Io(_))) | Poll::Pending if failed.is_some() => {
                    Poll::Ready(Err(failed.take().expect("just looked at")))
                }
                polled => polled,
            }
        })
        .await;
        let head = match answered {
            Ok(head) => head,
            Err(error) if !upload.is_sent() && !matches!(error, Error::Client(_)) => {
                let Some(body) = upload.into_body() else {
                    return Err(Unanswered::Broken { error, intact: false });
                };
                *request.body_mut() = body;
                return Err(Unanswered::Unsent);
            }
            Err(error) => return Err(Unanswered::Broken { error, intact: without_body && heard == 0 }),
        };
        let decoder = Decoder::behind(&head, request.method())
            .map_err(|error| Unanswered::Broken { error, intact: false })?;
        let keeps_alive = failed.is_none() && head.keeps_alive() && !decoder.is_to_close();
        let (connection, rest) = if failed.is_some() || upload.is_done() {
            self.out = upload.into_buffer();
            (self, None)
        } else {
            let (half, rest) = self.send_on(upload);
            (Box::new(half), Some(rest))
        };
        let mut response = Response::new(Answer::new(connection, decoder, keeps_alive, rest));
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers;
        if let Some(reason) = head.reason {
            response.extensions_mut().insert(reason);
        }
        Ok(response)
    }

    /// Reads until there is a head that is not interim. `heard`: bytes of this and of those before it.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        heard: &mut usize,
        headers: &mut HeaderMap,
    ) -> Poll<Result<Head, Error>> {
        loop {
            let came = ready!(self.poll_fill(cx)).map_err(Error::Io)?;
            if came == 0 {
                return Poll::Ready(Err(if self.stream.is_reset_too() {
                    Error::Unread
                } else {
                    Error::Closed
                }));
            }
            let first = *heard == 0;
            *heard += came;
            // A head that comes in pieces is looked at again only when a line of it has come to its end.
            let fresh = &self.read[self.read.len() - came..];
            if !first && self.read.len() < head::MAX_BYTES && memchr(b'\n', fresh).is_none() {
                continue;
            }
            while let Some(head) = head::take(&mut self.read, headers)? {
                if !head.is_interim() {
                    return Poll::Ready(Ok(head));
                }
            }
            if *heard > MAX_BEFORE_HEAD {
                return Poll::Ready(Err(Error::Interims));
            }
        }
    }

    /// The answer has begun, and not all of the request is written. A client may send all of it before it reads
    /// anything, so it goes on in a task of its own, also while nobody reads the answer.
    fn send_on(self, mut upload: Outgoing) -> (Self, Rest) {
        let Stream::Whole(stream) = self.stream else { unreachable!("bug: a request on half a connection") };
        let (reader, mut writer) = split(stream);
        let rest = tokio::spawn(async move {
            poll_fn(|cx| upload.poll(cx, &mut writer)).await?;
            Ok((writer, upload.into_buffer()))
        });
        (Self { stream: Stream::Half(reader), ..self }, AbortOnDropHandle::new(rest))
    }

    /// Reads what has come. 0: the app has closed its side.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.read.capacity() - self.read.len() < ROOM {
            self.read.reserve(self.read_size);
        }
        let room = self.read.capacity() - self.read.len();
        let came = ready!(poll_read_buf(Pin::new(&mut self.stream), cx, &mut self.read))?;
        if came == room && room >= self.read_size {
            self.read_size = (self.read_size * 2).min(MAX_READ);
        }
        Poll::Ready(Ok(came))
    }
}

// === impl Stream ===

impl Stream {
    /// Of a connection that is given its next request.
    fn whole(&mut self) -> &mut TcpStream {
        match self {
            Self::Whole(stream) => stream,
            Self::Half(_) => unreachable!("bug: a request on half a connection"),
        }
    }

    /// After a FIN: whether the app's kernel has refused what was sent since. HUP says that both directions are closed,
    /// and ours was not closed by us.
    ///
    /// An app may close a connection that rests at the very moment at which it is used again. What comes back is its FIN,
    /// which was on its way before the request arrived, and then the kernel's RST, which answers bytes for a socket that is
    /// closed. An app that had read the whole request and closed then sends a FIN and nothing after it: there is nothing
    /// left to refuse. One that closes with bytes unread sends a RST without a FIN. So a FIN with a RST behind it says that
    /// the request was not read to its end, and a request without a body that was not read to its end was not acted upon.
    ///
    /// The RST has come by the time the FIN is read when both ends share a kernel, as a sidecar and its app do. Where it
    /// has not, nothing is claimed.
    fn is_reset_too(&self) -> bool {
        let Self::Whole(stream) = self else { return false };
        let mut fds = [PollFd::new(stream, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Whole(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Half(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

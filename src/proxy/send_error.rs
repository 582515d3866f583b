//! Why an app did not answer a request, and whether it may be sent again.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use http::Request;

use super::body::RequestBody;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection could be made, so nothing was sent: safe on another replica. Gives the request back.
    #[error("cannot connect to {addr}: {error}")]
    Connect {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        error: io::Error,
        /// The request, untouched.
        request: Box<Request<RequestBody>>,
    },
    /// The app refused the stream before it did anything with it: safe on another replica. Gives the request back.
    #[error("it refused the stream: {}", describe(.error))]
    Refused {
        /// Its words.
        error: hyper::Error,
        /// The request, as it was.
        request: Box<Request<RequestBody>>,
    },
    /// It answers HTTP/2 with something else.
    #[error("it does not speak HTTP/2")]
    NoHttp2,
    /// The app had closed the resting connection on which the request went, and did not read it ([`app_stream`](super::app_stream)).
    /// Safe to repeat if it has no body.
    #[error("{}", describe(.0))]
    Unread(hyper::Error),
    /// The exchange broke after the app may have got the request. Not safe to repeat.
    #[error("{}", describe(.0))]
    Broken(hyper::Error),
}

/// What an HTTP/2 app did not do with a request, so that it may be sent again (RFC 9113 §8.7).
pub enum Unprocessed {
    /// It leaves, and named an earlier stream as its last: another connection will do.
    GoAway,
    /// It has too much to do.
    RefusedStream,
}

// === impl SendError ===

impl SendError {
    /// Whether an app that speaks HTTP/2 alone may have caused it: its first frame, which can come before the request is
    /// written, is no HTTP/1; or it closed the connection.
    pub fn is_unlike_h1(&self) -> bool {
        match self {
            Self::Connect { error, .. } => error.kind() == io::ErrorKind::ConnectionReset,
            Self::Broken(error) => is_garbage(error) || error.is_incomplete_message(),
            Self::Refused { .. } | Self::Unread(_) | Self::NoHttp2 => false,
        }
    }

    /// Whether the client's own body broke off: neither the replica's fault nor worth another try.
    pub fn is_clients(&self) -> bool {
        let Self::Broken(error) = self else { return false };
        // Over HTTP/2 hyper resets the stream for it: the only reset that is neither the app's nor h2's own.
        let reset = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
        error.is_user() || reset.is_some_and(|e| e.is_reset() && !e.is_remote() && !e.is_library())
    }

    /// Whether an HTTP/1 connection was reset before a byte of the response came. Linux resets a connection that is closed
    /// with bytes unread; one whose bytes were all read ends with a FIN. Of an HTTP/2 connection neither says which
    /// stream the bytes were of: h2 calls any end a broken pipe, and does not hand on the system's code.
    pub fn is_reset(&self) -> bool {
        use rustix::io::Errno;
        let Self::Broken(error) = self else { return false };
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                let resets = [Errno::CONNRESET, Errno::PIPE].map(Errno::raw_os_error);
                return io.raw_os_error().is_some_and(|code| resets.contains(&code));
            }
            cause = inner.source();
        }
        false
    }
}

// === impl Unprocessed ===

impl Unprocessed {
    /// From the error of one stream.
    pub fn of(error: &hyper::Error) -> Option<Self> {
        let error = error.source()?.downcast_ref::<h2::Error>()?;
        if !error.is_remote() {
            return None;
        }
        if error.is_go_away() {
            // h2 gives this to streams above the last that the app named; the others go on.
            return Some(Self::GoAway);
        }
        (error.reason() == Some(h2::Reason::REFUSED_STREAM)).then_some(Self::RefusedStream)
    }
}

/// Something came that is no HTTP/1 at all.
pub(super) fn is_garbage(error: &hyper::Error) -> bool {
    error.is_parse() && !error.is_parse_too_large()
}

/// hyper's message with its cause, which says what happened.
fn describe(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "it closed the connection before its response was complete".into();
    }
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

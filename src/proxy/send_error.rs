//! Why an app did not answer a request, and whether it may be sent again.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use super::h1;

/// Why a request was not answered. Where nothing of it was sent or read, it is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection could be made, so nothing was sent: safe on another replica.
    #[error("cannot connect to {addr}: {error}")]
    Connect {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// The app refused the stream before it did anything with it: safe on another replica.
    #[error("it refused the stream: {}", describe(.0))]
    Refused(hyper::Error),
    /// It answers HTTP/2 with something else.
    #[error("it does not speak HTTP/2")]
    NoHttp2,
    /// The app had closed the resting connection on which the request went, and did not read it. Safe to repeat if it is
    /// `intact`.
    #[error("{error}")]
    Unread {
        /// What came back.
        error: ExchangeError,
        /// The request had no body.
        intact: bool,
    },
    /// The exchange broke after the app may have got the request. Not safe to repeat, unless it is `intact` and it turns
    /// out that the app's process has died with the request unread.
    #[error("{error}")]
    Broken {
        /// How.
        error: ExchangeError,
        /// The request had no body, and nothing of a response came.
        intact: bool,
    },
}

/// How an exchange with an app broke.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Over HTTP/1.1.
    #[error(transparent)]
    H1(#[from] h1::Error),
    /// Over HTTP/2.
    #[error("{}", describe(.0))]
    H2(#[from] hyper::Error),
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
            Self::Broken { error: ExchangeError::H1(error), .. } => {
                matches!(error, h1::Error::Garbage(_) | h1::Error::Closed | h1::Error::Unread)
            }
            Self::Broken { .. } | Self::Refused { .. } | Self::Unread { .. } | Self::NoHttp2 => false,
        }
    }
}

// === impl ExchangeError ===

impl ExchangeError {
    /// What came was no HTTP/1 at all.
    pub fn is_garbage(&self) -> bool {
        matches!(self, Self::H1(h1::Error::Garbage(_)))
    }

    /// The error of the client's own body, if it broke off: neither the replica's fault nor worth another try.
    pub fn of_client(&self) -> Option<&hyper::Error> {
        match self {
            Self::H1(h1::Error::Client(error)) => Some(error),
            Self::H1(_) => None,
            Self::H2(error) => {
                // hyper resets the stream for it: the only reset that is neither the app's nor h2's own.
                let reset = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
                let ours = reset.is_some_and(|e| e.is_reset() && !e.is_remote() && !e.is_library());
                (error.is_user() || ours).then_some(error)
            }
        }
    }

    /// Whether an HTTP/1 connection was reset before a byte of the response came. Linux resets a connection that is closed
    /// with bytes unread; one whose bytes were all read ends with a FIN. Of an HTTP/2 connection neither says which
    /// stream the bytes were of: h2 calls any end a broken pipe, and does not hand on the system's code.
    pub fn is_reset(&self) -> bool {
        use rustix::io::Errno;
        let Self::H1(h1::Error::Io(error)) = self else { return false };
        let resets = [Errno::CONNRESET, Errno::PIPE].map(Errno::raw_os_error);
        error.raw_os_error().is_some_and(|code| resets.contains(&code))
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

/// hyper's message with its cause, which says what happened.
fn describe(error: &hyper::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

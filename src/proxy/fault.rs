//! What an app did wrong: counted by kind, and told once in a while.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use super::error::ProxyError;
use super::h1;
use super::send_error::ExchangeError;

/// The log tells of one kind of fault of one service at most this often.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// How an app broke an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppFault {
    /// It takes no connections.
    Unreachable,
    /// It closed or reset the connection before its response's head was there.
    Closed,
    /// What it sent is no HTTP.
    Garbage,
    /// Its response's head has too many or too large fields.
    HeadTooLarge,
    /// Interim responses (1xx) without end.
    InterimStorm,
    /// Its response tells its length twice, or in a coding that we do not know.
    Framing,
    /// 101 that nobody had asked for.
    UnaskedUpgrade,
    /// It broke off in the body of its response.
    CutShort,
}

/// When to tell the log.
#[derive(Debug, Default)]
pub struct Telling {
    last: Option<Instant>,
    untold: u64,
}

// === impl AppFault ===

impl AppFault {
    /// The fault behind an error on the app's connection before its response's head.
    pub fn of(error: &ExchangeError) -> Self {
        match error {
            ExchangeError::H1(h1::Error::HeadTooLarge) => Self::HeadTooLarge,
            ExchangeError::H1(h1::Error::Garbage(_)) => Self::Garbage,
            ExchangeError::H1(h1::Error::Framing) => Self::Framing,
            ExchangeError::H1(h1::Error::Interims) => Self::InterimStorm,
            ExchangeError::H1(_) | ExchangeError::H2(_) => Self::Closed,
        }
    }

    /// A short word for metrics; one of a fixed set.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Closed => "closed",
            Self::Garbage => "garbage",
            Self::HeadTooLarge => "head_too_large",
            Self::InterimStorm => "interim_storm",
            Self::Framing => "framing",
            Self::UnaskedUpgrade => "unasked_upgrade",
            Self::CutShort => "cut_short",
        }
    }
}

impl fmt::Display for AppFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "it takes no connections",
            Self::Closed => "it closed the connection before its response was complete",
            Self::Garbage => "what it sent is no HTTP",
            Self::HeadTooLarge => "its response's head is too large",
            Self::InterimStorm => "it sent too many interim responses",
            Self::Framing => "its response tells its length more than once, or not plainly",
            Self::UnaskedUpgrade => "it switched protocols although the client had not asked for it",
            Self::CutShort => "it broke off its response",
        })
    }
}

// === impl Telling ===

impl Telling {
    /// Whether to tell now; if so, how many were not told since the last time.
    pub fn now(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < TELL_EVERY) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// What a request ends with whose own body could not be read.
pub fn of_request_body(error: &hyper::Error) -> ProxyError {
    use io::ErrorKind::{InvalidData, InvalidInput};
    match io_cause(error) {
        Some(io) if matches!(io.kind(), InvalidData | InvalidInput) => {
            ProxyError::BadRequest("the request's body is not chunked as its head says")
        }
        Some(_) => ProxyError::ClientGone,
        // Towards an app over HTTP/2, hyper does not say why.
        None => ProxyError::BadRequest("the request's body broke off"),
    }
}

fn io_cause(error: &hyper::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref() {
            return Some(io);
        }
        cause = inner.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn tells_once_in_a_while_and_how_often_it_did_not() {
        let (mut telling, start) = (Telling::default(), clock::now());
        assert_eq!(telling.now(start), Some(0));
        assert_eq!(telling.now(start), None);
        assert_eq!(telling.now(start + TELL_EVERY / 2), None);
        assert_eq!(telling.now(start + TELL_EVERY), Some(2));
        assert_eq!(telling.now(start + TELL_EVERY * 2), Some(0));
    }
}

//! What came of a request.

use std::fmt;
use std::time::{Duration, Instant};

/// A request that was answered to the end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// Its code.
    pub(crate) code: Code,
    /// Whether the scenario calls it a success.
    pub(crate) ok: bool,
    /// Bytes of its body.
    pub(crate) bytes_in: u64,
    /// Of a stream that had any event.
    pub(crate) events: Option<Events>,
    /// Of a websocket: messages that came back.
    pub(crate) messages: Option<u64>,
    /// What `Server-Timing` tells of a start.
    pub(crate) start: Option<Start>,
}

/// The events of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Events {
    /// The first one's arrival.
    pub(crate) first: Instant,
    /// The last one's.
    pub(crate) last: Instant,
    /// How many.
    pub(crate) count: u64,
}

/// What a request that waited for a start waited for, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Start {
    /// For a slot.
    pub(crate) queue: Option<f64>,
    /// For a replica.
    pub(crate) replica: Option<f64>,
    /// Until the replica was ready.
    pub(crate) ready: Option<f64>,
}

/// What a request is counted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    /// HTTP's status.
    Http(u16),
    /// gRPC's.
    Grpc(u16),
    /// No whole answer.
    Failed(Failure),
}

/// No whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// What it is counted under.
    pub(crate) kind: Failure,
    /// In words, where somebody said something.
    pub(crate) why: Option<String>,
}

/// Why there is no whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// No connection: refused, unreachable, unknown host.
    Connect,
    /// No TLS, or a certificate that is not trusted.
    Tls,
    /// Not answered in the service's `timeout`.
    Timeout,
    /// The connection or stream broke before the answer began.
    Reset,
    /// It broke while the answer came.
    Body,
    /// The answer is none of this protocol.
    Protocol,
    /// A stream ended without an event.
    NoEvent,
    /// The run ended first.
    CutOff,
}

// === impl Failed ===

impl Failed {
    /// With an error's own words and those of what caused it.
    pub(crate) fn new(kind: Failure, error: &dyn std::error::Error) -> Self {
        let causes = std::iter::successors(Some(error), |error| error.source());
        let mut words: Vec<String> = causes.map(ToString::to_string).collect();
        words.dedup();
        Self { kind, why: Some(words.join(": ")) }
    }
}

impl From<Failure> for Failed {
    fn from(kind: Failure) -> Self {
        Self { kind, why: None }
    }
}

// === impl Start ===

impl Start {
    /// Reads `queue;dur=3, start;dur=20, ready;dur=18`. None: it waited for no start.
    pub(crate) fn read(server_timing: &str) -> Option<Self> {
        let mut found = Self::default();
        for metric in server_timing.split(',') {
            let mut parts = metric.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let duration = parts.find_map(|p| p.strip_prefix("dur=")?.trim_matches('"').parse().ok());
            match name {
                "queue" => found.queue = duration,
                "start" => found.replica = duration,
                "ready" => found.ready = duration,
                _ => {}
            }
        }
        (found.replica.is_some() || found.ready.is_some()).then_some(found)
    }
}

// === impl Events ===

impl Events {
    /// Events after the first one, per second since then. None: there is only one.
    pub(crate) fn per_second(&self) -> Option<f64> {
        let time = self.last.saturating_duration_since(self.first);
        (self.count > 1 && time > Duration::ZERO).then(|| (self.count - 1) as f64 / time.as_secs_f64())
    }
}

// === impl Code ===

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(code) => write!(f, "{code}"),
            Self::Grpc(code) => write!(f, "grpc {code}"),
            Self::Failed(failure) => write!(f, "{failure}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Body => "body",
            Self::Protocol => "protocol",
            Self::NoEvent => "no event",
            Self::CutOff => "cut off",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_told_by_server_timing() {
        let start = Start::read("queue;dur=3.5, start;desc=\"x\";dur=20, ready;dur=18").unwrap();
        let expected = Start { queue: Some(3.5), replica: Some(20.0), ready: Some(18.0) };
        assert_eq!(start, expected);
        for none in ["", "queue;dur=3", "cache;desc=hit", "db;dur=5"] {
            assert_eq!(Start::read(none), None, "{none}");
        }
    }

    #[test]
    fn tokens_per_second_leave_the_first_out() {
        let first = pilotlight::clock::now();
        let events = Events { first, last: first + Duration::from_secs(2), count: 11 };
        assert_eq!(events.per_second(), Some(5.0));
        assert_eq!(Events { count: 1, ..events }.per_second(), None);
    }
}

//! What came of requests, by code.

/// Whether a code is an answer that most would call good. The scenario's own idea of success is in the totals; this one
/// only chooses colours and the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// 1xx to 3xx, `grpc 0`.
    Good,
    /// 4xx.
    Refused,
    /// 5xx, other `grpc` codes.
    Error,
    /// No whole answer: `connect`, `timeout`, `reset`, …
    None,
}

// === impl Kind ===

impl Kind {
    /// Of a code as [`crate::run::ServiceRun::codes`] has it.
    pub(crate) fn of(code: &str) -> Self {
        if let Some(status) = code.strip_prefix("grpc ") {
            return if status == "0" { Self::Good } else { Self::Error };
        }
        match code.parse::<u16>() {
            Ok(100..=399) => Self::Good,
            Ok(400..=499) => Self::Refused,
            Ok(_) => Self::Error,
            Err(_) => Self::None,
        }
    }
}

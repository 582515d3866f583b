//! How many replicas, and why.

use std::fmt;

use serde::Serialize;

/// How many replicas a service should have, with everything it was decided from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Replicas to have.
    pub desired: u32,
    /// What settled that number.
    pub reason: Reason,
    /// Whether load rose so fast that nothing is scaled down for now.
    pub in_panic: bool,
    /// Capacity to spare after a burst of the wanted size; below 0 the activator belongs in the path.
    pub excess_burst: i64,
    /// Load averaged over the stable window.
    pub stable: f64,
    /// Load averaged over the panic window.
    pub panic: f64,
    /// Replicas that were ready.
    pub ready: u32,
    /// Load that one replica is meant to take.
    pub target: f64,
}

/// What settled a number of replicas. The last rule that changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No load at all.
    Idle,
    /// The stable window's average.
    Stable,
    /// The panic window's average.
    Panic,
    /// Nothing is taken away in panic.
    PanicHeld,
    /// `maxUpRate`.
    MaxUpRate,
    /// `maxDownRate`.
    MaxDownRate,
    /// `activation`.
    Activation,
    /// `scaleDownDelay`.
    ScaleDownDelay,
    /// `min`.
    Minimum,
    /// `max`.
    Maximum,
    /// Requests that wait while nothing is ready.
    Backlog,
    /// A wake is a floor for a while.
    Wake,
    /// Idle, but not for long enough to go to zero.
    NotYetZero,
}

// === impl Decision ===

impl Decision {
    /// The decision within the service's bounds; `max` is [`Scaling::ceiling`](crate::config::spec::Scaling::ceiling)
    /// and wins over `min`.
    #[must_use]
    pub fn bounded(self, min: u32, max: u32) -> Self {
        let raised = self.at_least(min, Reason::Minimum);
        if raised.desired > max { Self { desired: max, reason: Reason::Maximum, ..raised } } else { raised }
    }

    /// The decision raised to `floor`, for `reason` if that changes anything.
    #[must_use]
    pub fn at_least(self, floor: u32, reason: Reason) -> Self {
        if self.desired < floor { Self { desired: floor, reason, ..self } } else { self }
    }
}

// === impl Reason ===

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "no load in the stable window",
            Self::Stable => "average load over the stable window",
            Self::Panic => "load rose fast: average over the panic window",
            Self::PanicHeld => "load rose fast a moment ago: nothing is scaled down until it settles",
            Self::MaxUpRate => "more is needed, but one step may go up by maxUpRate at most",
            Self::MaxDownRate => "less would do, but one step may go down by maxDownRate at most",
            Self::Activation => "raised to scaling.activation",
            Self::ScaleDownDelay => "more was needed within scaleDownDelay",
            Self::Minimum => "raised to scaling.min",
            Self::Maximum => "more is needed, but scaling.max allows no more",
            Self::Backlog => "requests wait and nothing is ready",
            Self::Wake => "woken: held until first ready and for a stable window after",
            Self::NotYetZero => "idle, but not for long enough to go to zero",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECISION: Decision = Decision {
        desired: 4,
        reason: Reason::Stable,
        in_panic: false,
        excess_burst: -1,
        stable: 2.8,
        panic: 0.0,
        ready: 1,
        target: 0.7,
    };

    #[test]
    fn bounds_change_the_reason_only_with_the_number() {
        assert_eq!(DECISION.bounded(0, 10), DECISION);
        assert_eq!(DECISION.bounded(4, 4), DECISION);
        let (low, high) = (DECISION.bounded(6, 10), DECISION.bounded(0, 3));
        assert_eq!((low.desired, low.reason), (6, Reason::Minimum));
        assert_eq!((high.desired, high.reason), (3, Reason::Maximum));
        assert_eq!(DECISION.bounded(6, 2).desired, 2);
    }

    #[test]
    fn reasons_are_words_for_machines_and_for_people() {
        let json = serde_json::to_value(DECISION.at_least(9, Reason::NotYetZero)).expect("plain data");
        assert_eq!((&json["desired"], &json["reason"]), (&9.into(), &"not_yet_zero".into()));
        assert_eq!(Reason::Wake.to_string(), "woken: held until first ready and for a stable window after");
    }
}

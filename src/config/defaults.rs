//! What a specification says when nothing is said: the defaults of the design.

use std::time::Duration;

use super::spec::{Aggregation, Buffer, Concurrency, Metric, Policy, Scaling, Slo, Timeouts};

// === impl defaults ===

impl Default for Concurrency {
    fn default() -> Self {
        Self { limit: 0, queue: 100 }
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self { requests: 10_000, bytes: 256 << 20 }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            activation: Duration::from_mins(10),
            response_start: Duration::from_mins(5),
            idle: Duration::from_mins(5),
            request: Duration::ZERO,
            drain: Duration::from_mins(10),
        }
    }
}

impl Default for Slo {
    fn default() -> Self {
        Self { wait: Duration::from_millis(100), percentile: 99.0 }
    }
}

impl Default for Scaling {
    /// The defaults of the design, for an unlimited service.
    fn default() -> Self {
        Self {
            min: 0,
            max: 10,
            initial: 0,
            activation: 1,
            policy: Policy::Kpa,
            metric: Metric::Concurrency,
            total: 100.0,
            target: 70.0,
            window: Duration::from_mins(1),
            panic_window: Duration::from_secs(6),
            panic_threshold: 2.0,
            max_up_rate: 1000.0,
            max_down_rate: 2.0,
            scale_down_delay: Duration::ZERO,
            scale_to_zero_after: Duration::from_secs(30),
            burst_capacity: -1,
            aggregation: Aggregation::Linear,
            slo: Slo::default(),
        }
    }
}

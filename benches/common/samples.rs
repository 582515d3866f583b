//! Numbers of one kind.

/// Samples of one figure, in the order they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

// === impl Samples ===

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The nearest rank; the median of an even number of samples is the mean of the two in the middle.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let n = sorted.len();
        if n == 0 {
            return f64::NAN;
        }
        #[allow(clippy::float_cmp, reason = "a literal of the caller")]
        if q == 0.5 && n.is_multiple_of(2) {
            return f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]);
        }
        let rank = (q * n as f64).ceil() as usize;
        sorted[rank.clamp(1, n) - 1]
    }

    /// The latest.
    pub(crate) fn last(&self) -> f64 {
        self.0.last().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    pub(crate) fn min(&self) -> f64 {
        self.quantile(0.0)
    }
}

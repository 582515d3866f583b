//! When to ask again. Pure.

use std::time::Duration;

const MIN: Duration = Duration::from_millis(1);
/// The longest pause.
pub(super) const MAX: Duration = Duration::from_millis(50);
/// 0.2 % of the time spent so far.
const SHARE: u32 = 500;

/// The pause after an attempt that ended `after` the start and that must not take more than half of the time if it
/// took `cost`.
pub(super) fn pause(after: Duration, cost: Duration) -> Duration {
    (after / SHARE).max(cost).clamp(MIN, MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn grows_with_the_start() {
        assert_eq!(pause(ms(0), ms(0)), ms(1));
        assert_eq!(pause(ms(200), ms(0)), ms(1));
        assert_eq!(pause(ms(2000), ms(0)), ms(4));
        assert_eq!(pause(ms(25_000), ms(0)), ms(50));
        assert_eq!(pause(ms(1_000_000), ms(0)), ms(50));
        assert_eq!(pause(ms(0), ms(8)), ms(8));
        assert_eq!(pause(ms(0), ms(900)), ms(50));
    }
}

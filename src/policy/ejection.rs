//! How long a replica that the data path lost faith in stays out of the set before it is asked whether it is well.
//!
//! The first time it is asked at once: a process that dies is restarted by somebody, and one that broke a single
//! exchange has as a rule done so because of the request. A replica that passes its probe and then fails again without
//! having answered anything in between is not well whatever its probe says: each time it stays out twice as long.
//! One answer wipes the slate clean, so a client whose requests make an app break off cannot keep it from others.

use std::time::Duration;

/// The second time in a row.
const BASE: Duration = Duration::from_millis(100);
/// Never longer: a replica that is well again should not stand idle.
const LONGEST: Duration = Duration::from_secs(10);

/// One replica's ejections in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejections {
    in_a_row: u32,
}

// === impl Ejections ===

impl Ejections {
    /// It leaves the set; `answered` says whether it had answered anything since it last joined. Returns how long it
    /// stays out at least. `random` spreads replicas that fail together: half of the time is theirs to choose from.
    pub fn next(&mut self, answered: bool, random: u64) -> Duration {
        if answered {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row == 1 {
            return Duration::ZERO;
        }
        let doublings = (self.in_a_row - 2).min(16);
        let whole = BASE.saturating_mul(1 << doublings).min(LONGEST);
        let share = (random >> 11) as f64 / (1u64 << 53) as f64;
        whole / 2 + (whole / 2).mul_f64(share)
    }

    /// Times in a row.
    #[must_use]
    pub fn in_a_row(self) -> u32 {
        self.in_a_row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn at_once_then_twice_as_long_each_time_up_to_the_longest() {
        let mut ejections = Ejections::default();
        let pauses: Vec<u128> = (0..12).map(|_| ejections.next(false, u64::MAX).as_millis()).collect();
        assert_eq!(pauses[..5], [0, 100, 200, 400, 800]);
        assert_eq!(pauses[11], 10_000);
        assert_eq!(ejections.next(true, 0), Duration::ZERO, "it had answered");
        assert_eq!(ejections.next(false, 0), Duration::from_millis(50));
    }

    proptest! {
        #[test]
        fn bounded_whatever_happens(steps: Vec<(bool, u64)>) {
            let mut ejections = Ejections::default();
            for (answered, random) in steps {
                let pause = ejections.next(answered, random);
                prop_assert!(pause <= LONGEST);
                prop_assert!(!answered || pause == Duration::ZERO);
                prop_assert_eq!(pause == Duration::ZERO, ejections.in_a_row() == 1);
            }
        }
    }
}

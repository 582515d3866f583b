//! When a service may start a replica, after starts that failed and replicas that died.

use std::time::{Duration, Instant};

/// Failed starts in a row after which nobody is made to wait any more.
const PATIENCE: u32 = 3;
/// Waits before the second try, and before the third.
const SHORT: [Duration; PATIENCE as usize - 1] = [Duration::from_millis(100), Duration::from_millis(400)];
/// Wait after the third failed start; doubles with each further one…
const LONG: Duration = Duration::from_secs(1);
/// …up to this.
const LONGEST: Duration = Duration::from_mins(1);
/// A replica that dies sooner than this after it was ready was of no use.
const USEFUL: Duration = Duration::from_secs(1);

/// Failures of one service's starts, over all its replicas. A start is always possible again, at a known time.
///
/// | | next start |
/// |---|---|
/// | a start fails, once or twice in a row | after 100 ms, 400 ms; requests go on waiting |
/// | a third one fails, or one that cannot ever succeed | after 1 s, 2 s, … 60 s; until then requests are refused |
/// | a replica dies that was ready | at once |
/// | again and again within a second of being ready | after 100 ms, 400 ms, 400 ms, …; requests go on waiting |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// Starts that failed in a row.
    failures: u32,
    /// None before this, because of failures.
    retry_at: Option<Instant>,
    /// Replicas in a row that died as soon as they were ready.
    useless: u32,
    /// None before this, because of those.
    restart_at: Option<Instant>,
}

// === impl Starts ===

impl Starts {
    /// A start failed: the replica ended or was given up on before it was ready. `fatal`: what it runs cannot run at
    /// all (not found, not executable), so trying twice more would be for nothing.
    ///
    /// While no start is allowed, only starts from before the last failure can fail. They are not counted: five
    /// replicas that fail together are one bad try, not five in a row.
    pub fn failed(&mut self, now: Instant, fatal: bool) {
        if fatal && !self.given_up() {
            self.failures = PATIENCE;
        } else if self.retry_at.is_some_and(|at| now < at) {
            return;
        } else {
            self.failures = self.failures.saturating_add(1);
        }
        self.retry_at = Some(now + after_failures(self.failures));
    }

    /// A replica became ready.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.retry_at = None;
    }

    /// A replica died `lived` after it became ready, without having been told to stop.
    pub fn died_after_ready(&mut self, now: Instant, lived: Duration) {
        if lived >= USEFUL {
            self.useless = 0;
            self.restart_at = None;
            return;
        }
        let wait = match self.useless {
            0 => Duration::ZERO,
            n => SHORT[(n as usize - 1).min(SHORT.len() - 1)],
        };
        self.useless = self.useless.saturating_add(1);
        self.restart_at = Some(now + wait);
    }

    /// Nothing is left that serves: the next start may be tried at once, whatever back-off other starts have earned.
    /// If it fails too, the back-off goes on where it was.
    pub fn last_one_left(&mut self) {
        self.retry_at = None;
    }

    /// Whether a start may be tried, or else when.
    pub fn may_start(&self, now: Instant) -> Result<(), Instant> {
        match self.retry_at.max(self.restart_at) {
            Some(at) if now < at => Err(at),
            _ => Ok(()),
        }
    }

    /// Whether the service counts as failing: whoever waits is to be refused, if nothing else is ready.
    #[must_use]
    pub fn given_up(&self) -> bool {
        self.failures >= PATIENCE
    }

    /// Until when a new request is to be refused, if nothing is ready. `None`: it may wait, for a start can be tried.
    #[must_use]
    pub fn refuses(&self, now: Instant) -> Option<Instant> {
        if self.given_up() { self.may_start(now).err() } else { None }
    }

    /// Starts that failed in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

fn after_failures(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n if n < PATIENCE => SHORT[n as usize - 1],
        n => {
            2u32.checked_pow(n - PATIENCE).map_or(LONGEST, |factor| LONG.saturating_mul(factor).min(LONGEST))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Lets every start fail as soon as it is allowed, and returns the waits.
    fn waits(starts: &mut Starts, mut now: Instant, n: usize, fatal: bool) -> Vec<u64> {
        (0..n)
            .map(|_| {
                starts.failed(now, fatal);
                let at = starts.may_start(now).expect_err("a failed start is followed by a wait");
                let wait = at - now;
                now = at;
                wait.as_millis() as u64
            })
            .collect()
    }

    #[test]
    fn when_the_last_one_leaves_the_next_start_is_at_once_and_the_back_off_goes_on() {
        let (t0, mut starts) = (clock::now(), Starts::default());
        waits(&mut starts, t0, 6, false);
        assert!(starts.may_start(t0).is_err());
        starts.last_one_left();
        assert_eq!(starts.may_start(t0), Ok(()));
        starts.failed(t0, false);
        assert_eq!(starts.may_start(t0), Err(t0 + Duration::from_secs(16)), "the seventh in a row");
    }

    #[test]
    fn three_tries_then_a_growing_wait() {
        let (t0, mut starts) = (clock::now(), Starts::default());
        assert_eq!(starts.may_start(t0), Ok(()));
        assert_eq!(waits(&mut starts, t0, 2, false), [100, 400]);
        assert_eq!((starts.given_up(), starts.refuses(t0)), (false, None));
        let t0 = t0 + ms(500);
        assert_eq!(
            waits(&mut starts, t0, 9, false),
            [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]
        );
        assert!(starts.given_up());
        starts.succeeded();
        assert_eq!((starts.given_up(), starts.may_start(t0)), (false, Ok(())));
        assert_eq!(waits(&mut starts, t0, 2, false), [100, 400]);
    }

    #[test]
    fn what_can_never_run_is_given_up_at_once() {
        let (t0, mut starts) = (clock::now(), Starts::default());
        assert_eq!(waits(&mut starts, t0, 3, true), [1000, 2000, 4000]);
        assert_eq!(starts.refuses(t0 + ms(6999)), Some(t0 + ms(7000)));
        assert_eq!((starts.refuses(t0 + ms(7000)), starts.given_up()), (None, true));
    }

    #[test]
    fn replicas_that_fail_together_are_one_try() {
        let (t0, mut starts) = (clock::now(), Starts::default());
        (0..5).for_each(|i| starts.failed(t0 + ms(i), false));
        assert_eq!((starts.failures(), starts.given_up()), (1, false));
        starts.failed(t0 + ms(50), true);
        assert_eq!((starts.given_up(), starts.may_start(t0 + ms(50))), (true, Err(t0 + ms(1050))));
    }

    #[test]
    fn a_death_is_followed_by_a_start_at_once_unless_it_repeats() {
        let (t0, mut starts) = (clock::now(), Starts::default());
        starts.died_after_ready(t0, ms(60_000));
        assert_eq!(starts.may_start(t0), Ok(()));
        for wait in [0, 100, 400, 400, 400] {
            starts.succeeded();
            starts.died_after_ready(t0, ms(10));
            assert_eq!(starts.may_start(t0), if wait == 0 { Ok(()) } else { Err(t0 + ms(wait)) });
            assert!(!starts.given_up());
        }
        starts.died_after_ready(t0, ms(1000));
        assert_eq!(starts.may_start(t0), Ok(()));
    }

    #[test]
    fn a_death_does_not_cut_short_the_wait_after_failures() {
        let (t0, mut starts) = (clock::now(), Starts::default());
        starts.failed(t0, true);
        starts.died_after_ready(t0, ms(60_000));
        assert_eq!(starts.may_start(t0), Err(t0 + ms(1000)));
    }

    proptest! {
        #[test]
        fn a_start_is_always_possible_at_a_known_time(
            events in proptest::collection::vec((0u8..4, 0u64..5000), 0..200), tail in 0u64..100_000,
        ) {
            let (mut now, mut starts) = (clock::now(), Starts::default());
            let mut in_a_row = 0;
            for (event, pause) in events {
                now += ms(pause);
                match event {
                    0 | 1 => {
                        starts.failed(now, event == 1);
                        in_a_row += 1;
                    }
                    2 => {
                        starts.succeeded();
                        in_a_row = 0;
                    }
                    _ => starts.died_after_ready(now, ms(pause)),
                }
                if let Err(at) = starts.may_start(now) {
                    prop_assert!(at > now && at <= now + LONGEST);
                    prop_assert_eq!(starts.may_start(at), Ok(()));
                }
                prop_assert!(in_a_row > 0 || !starts.given_up());
            }
            prop_assert!(starts.may_start(now + LONGEST + ms(tail)).is_ok());
        }
    }
}

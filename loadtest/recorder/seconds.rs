//! A service's seconds. Those that are still open have a histogram, the others only their quantiles: memory does not
//! grow by a histogram for each second of a long run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::record;

use crate::outcome::Code;
use crate::run::{Quantiles, Second};

/// Two digits are enough for a chart.
const DIGITS: u8 = 2;
/// Seconds that stay open, even if nothing of theirs is out: a late generator may still send.
const KEPT_OPEN: u64 = 5;

/// Seconds from the run's start.
#[derive(Debug, Default)]
pub(super) struct Seconds {
    open: BTreeMap<u64, Open>,
    closed: BTreeMap<u64, Second>,
    newest: u64,
}

#[derive(Debug, Default)]
struct Open {
    second: Second,
    codes: Vec<(Code, u64)>,
    latency: Option<Histogram<u64>>,
}

/// What is counted.
pub(super) enum Count {
    Sent,
    /// Answered after so long, with success or not.
    Done(Duration, bool, Code),
    Failed(Code),
}

// === impl Seconds ===

impl Seconds {
    /// Counts a request in the second of its intended start.
    pub(super) fn count(&mut self, at: u64, count: &Count) {
        if let Some(late) = self.closed.get_mut(&at) {
            return late_count(late, count);
        }
        self.open.entry(at).or_insert_with(|| Open::new(at)).count(count);
        if at > self.newest {
            self.newest = at;
            self.close(at.saturating_sub(KEPT_OPEN));
        }
    }

    /// Every second in which something was to happen.
    pub(super) fn take(&mut self) -> Vec<Second> {
        self.newest = u64::MAX;
        self.close(u64::MAX);
        // What is out at the very end was cut off and counted: nothing is left open.
        let left = std::mem::take(&mut self.open);
        self.closed.extend(left.into_iter().map(|(at, open)| (at, open.close())));
        std::mem::take(&mut self.closed).into_values().collect()
    }

    /// Closes what is older than this and has nothing out.
    fn close(&mut self, before: u64) {
        let over = |open: &Open| open.second.sent == open.second.done + open.second.failed;
        let ready: Vec<u64> =
            self.open.range(..before).filter(|(_, open)| over(open)).map(|(at, _)| *at).collect();
        for at in ready {
            if let Some(open) = self.open.remove(&at) {
                self.closed.insert(at, open.close());
            }
        }
    }
}

/// Of a second whose histogram is gone: its numbers stay right, its quantiles are of those before.
fn late_count(second: &mut Second, count: &Count) {
    let code = match count {
        Count::Sent => {
            second.sent += 1;
            return;
        }
        Count::Done(_, ok, code) => {
            second.done += 1;
            second.ok += u64::from(*ok);
            code
        }
        Count::Failed(code) => {
            second.failed += 1;
            code
        }
    };
    *second.codes.entry(code.to_string()).or_default() += 1;
}

// === impl Open ===

impl Open {
    fn new(at_s: u64) -> Self {
        Self { second: Second { at_s, ..Second::default() }, ..Self::default() }
    }

    fn count(&mut self, count: &Count) {
        let code = match count {
            Count::Sent => {
                self.second.sent += 1;
                return;
            }
            Count::Done(latency, ok, code) => {
                self.second.done += 1;
                self.second.ok += u64::from(*ok);
                let histogram = self.latency.get_or_insert_with(|| {
                    Histogram::new(DIGITS).expect("a constant number of digits that is allowed")
                });
                record(histogram, latency.as_micros() as u64);
                *code
            }
            Count::Failed(code) => {
                self.second.failed += 1;
                *code
            }
        };
        match self.codes.iter_mut().find(|(known, _)| *known == code) {
            Some((_, n)) => *n += 1,
            None => self.codes.push((code, 1)),
        }
    }

    fn close(self) -> Second {
        let latency_ms = self.latency.as_ref().map(Quantiles::summary).unwrap_or_default();
        let codes = self.codes.into_iter().map(|(code, n)| (code.to_string(), n)).collect();
        Second { latency_ms, codes, ..self.second }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_close_when_nothing_of_theirs_is_out() {
        let mut seconds = Seconds::default();
        seconds.count(0, &Count::Sent);
        seconds.count(1, &Count::Sent);
        seconds.count(1, &Count::Done(Duration::from_millis(7), true, Code::Http(200)));
        seconds.count(20, &Count::Sent);
        assert_eq!(seconds.open.keys().copied().collect::<Vec<_>>(), [0, 20]);
        // Late, and to a closed one.
        seconds.count(0, &Count::Done(Duration::from_secs(25), false, Code::Http(503)));
        seconds.count(1, &Count::Sent);
        seconds.count(1, &Count::Failed(Code::Failed(crate::outcome::Failure::Timeout)));
        seconds.count(20, &Count::Failed(Code::Failed(crate::outcome::Failure::CutOff)));
        let all = seconds.take();
        let counts: Vec<_> = all.iter().map(|s| (s.at_s, s.sent, s.done, s.ok, s.failed)).collect();
        assert_eq!(counts, [(0, 1, 1, 0, 0), (1, 2, 1, 1, 1), (20, 1, 0, 0, 1)]);
        assert_eq!(all[1].codes, [("200".to_owned(), 1), ("timeout".to_owned(), 1)].into());
        assert!((all[1].latency_ms.p50 - 7.0).abs() < 0.1);
        assert_eq!(all[0].codes["503"], 1);
    }
}

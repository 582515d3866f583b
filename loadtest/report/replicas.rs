//! Sums over what was seen of replicas. A look holds until the next one.

use crate::run::Observed;

/// What a service's looks come to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Replicas {
    /// Replicas that were ready, times seconds: what the service cost.
    pub(crate) ready_s: f64,
    /// The same of those that were starting: paid for, and of no use yet.
    pub(crate) starting_s: f64,
    /// The fewest that were ready.
    pub(crate) ready_least: u64,
    /// The most.
    pub(crate) ready_most: u64,
    /// The most that were wanted.
    pub(crate) desired_most: Option<u64>,
    /// The most that waited.
    pub(crate) queued_most: Option<u64>,
    /// The most at replicas.
    pub(crate) in_flight_most: Option<u64>,
    /// From the first look to the last.
    pub(crate) seen_s: f64,
}

// === impl Replicas ===

impl Replicas {
    /// `None` when replicas were not seen at least twice.
    pub(crate) fn of(looks: &[Observed]) -> Option<Self> {
        let counted: Vec<&Observed> = looks.iter().filter(|look| look.ready.is_some()).collect();
        let ([first, .., last], true) = (&counted[..], counted.len() > 1) else { return None };
        let ready = |look: &Observed| look.ready.unwrap_or(0);
        let held = |of: fn(&Observed) -> Option<u64>| -> f64 {
            counted
                .windows(2)
                .map(|pair| of(pair[0]).unwrap_or(0) as f64 * (pair[1].at_s - pair[0].at_s))
                .sum()
        };
        let most = |of: fn(&Observed) -> Option<u64>| looks.iter().filter_map(of).max();
        Some(Self {
            ready_s: held(|look| look.ready),
            starting_s: held(|look| look.starting),
            ready_least: counted.iter().map(|look| ready(look)).min().unwrap_or(0),
            ready_most: counted.iter().map(|look| ready(look)).max().unwrap_or(0),
            desired_most: most(|look| look.desired),
            queued_most: most(|look| look.queued),
            in_flight_most: most(|look| look.in_flight),
            seen_s: last.at_s - first.at_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_holds_until_the_next() {
        let look = |at_s, ready, starting| Observed {
            at_s,
            ready: Some(ready),
            starting: Some(starting),
            ..Observed::default()
        };
        let replicas =
            Replicas::of(&[look(0.0, 0, 0), look(1.0, 0, 2), look(3.0, 2, 0), look(10.0, 1, 0)]).unwrap();
        assert!((replicas.ready_s - 14.0).abs() < 1e-9, "{replicas:?}");
        assert!((replicas.starting_s - 4.0).abs() < 1e-9, "{replicas:?}");
        assert_eq!((replicas.ready_least, replicas.ready_most), (0, 2));
        assert_eq!(Replicas::of(&[look(0.0, 1, 0)]), None);
        assert_eq!(Replicas::of(&[]), None);
    }
}

//! All services' arrivals of one phase, merged into one line.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::arrivals::{Arrivals, seed};
use crate::scenario::Phase;

/// What a seed is for, apart from those of requests.
const ARRIVALS: u64 = 1 << 32;

/// The arrivals of one phase, in order; at the same instant, in the order of the services.
pub(super) struct Line<'a> {
    arrivals: Vec<Arrivals<'a>>,
    /// The next one of each service.
    next: BinaryHeap<Reverse<(Duration, usize)>>,
}

// === impl Line ===

impl<'a> Line<'a> {
    /// `services`: their places in the scenario. `number`: the phase's.
    pub(super) fn new(phase: &'a Phase, number: usize, services: &[usize], scenario_seed: u64) -> Self {
        let each = services.iter().enumerate().map(|(turn, service)| {
            let seed = seed(scenario_seed, ARRIVALS + *service as u64, number as u64);
            phase.load.arrivals(seed, turn, services.len())
        });
        let mut arrivals: Vec<Arrivals<'a>> = each.collect();
        let first = arrivals.iter_mut().enumerate();
        let next = first.filter_map(|(turn, a)| a.next().map(|at| Reverse((at, turn)))).collect();
        Self { arrivals, next }
    }
}

impl Iterator for Line<'_> {
    /// The offset from the phase's beginning, and which of its services.
    type Item = (Duration, usize);

    fn next(&mut self) -> Option<(Duration, usize)> {
        let Reverse((at, turn)) = self.next.pop()?;
        if let Some(after) = self.arrivals[turn].next() {
            self.next.push(Reverse((after, turn)));
        }
        Some((at, turn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::{Load, Rate, Spacing};
    use crate::scenario::Ends;

    fn line(load: Load, services: &[usize]) -> Vec<(u128, usize)> {
        let phase = Phase { name: "p".into(), warm_up: false, load, ends: Ends::Answered };
        Line::new(&phase, 0, services, 1).map(|(at, turn)| (at.as_millis(), turn)).collect()
    }

    #[test]
    fn services_take_turns_and_bursts_come_together() {
        let rate = Load::Rate(Rate::constant(1.0, Duration::from_secs(2)), Spacing::Even);
        assert_eq!(line(rate, &[4, 7]), [(0, 0), (500, 1), (1000, 0), (1500, 1)]);
        assert_eq!(line(Load::Burst(2), &[4, 7]), [(0, 0), (0, 0), (0, 1), (0, 1)]);
    }

    #[test]
    fn random_services_differ_and_are_in_order() {
        let rate = Load::Rate(Rate::constant(100.0, Duration::from_secs(2)), Spacing::Random);
        let both = line(rate.clone(), &[0, 1]);
        assert!(both.is_sorted_by_key(|(at, _)| *at));
        let of = |turn| both.iter().filter(|(_, t)| *t == turn).map(|(at, _)| *at).collect::<Vec<_>>();
        assert_ne!(of(0), of(1));
        // Another service beside it does not change a service's own arrivals.
        assert_eq!(of(0), line(rate, &[0]).iter().map(|(at, _)| *at).collect::<Vec<_>>());
    }
}

//! What was seen, without what says nothing, and never more than a bound.

use crate::run::Observed;

/// Enough for every chart; a run that changes more often is thinned out.
const MOST: usize = 4_000;

/// Looks in order of time. A stretch in which nothing changed is its first and its last look.
#[derive(Debug, Default)]
pub(super) struct Series {
    looks: Vec<Observed>,
}

// === impl Series ===

impl Series {
    /// Adds the next look.
    pub(super) fn push(&mut self, look: Observed) {
        if let [.., before, last] = &mut self.looks[..]
            && same(before, last)
            && same(last, &look)
        {
            last.at_s = look.at_s;
            return;
        }
        if self.looks.len() == MOST {
            let mut keep = false;
            self.looks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.looks.push(look);
    }

    /// All of them.
    pub(super) fn into_looks(self) -> Vec<Observed> {
        self.looks
    }
}

fn same(one: &Observed, other: &Observed) -> bool {
    Observed { at_s: other.at_s, ..one.clone() } == *other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: u32, ready: u64) -> Observed {
        Observed { at_s: f64::from(at), ready: Some(ready), ..Observed::default() }
    }

    #[test]
    fn a_stretch_is_its_ends() {
        let mut series = Series::default();
        for (at, ready) in [0, 0, 0, 0, 1, 2, 2, 2, 0].into_iter().enumerate() {
            series.push(look(at as u32, ready));
        }
        let kept: Vec<_> = series.into_looks().iter().map(|l| (l.at_s as u32, l.ready.unwrap())).collect();
        assert_eq!(kept, [(0, 0), (3, 0), (4, 1), (5, 2), (7, 2), (8, 0)]);
    }

    #[test]
    fn is_bounded() {
        let mut series = Series::default();
        for at in 0..100_000 {
            series.push(look(at, u64::from(at % 2)));
        }
        let looks = series.into_looks();
        assert!(looks.len() <= MOST, "{}", looks.len());
        assert_eq!(looks[0].at_s as u32, 0);
        assert_eq!(looks.last().unwrap().at_s as u32, 99_999);
    }
}

//! A rate over time, made of straight pieces, and the inverse of its integral.

use std::time::Duration;

/// Requests per second over time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rate {
    pieces: Vec<Piece>,
}

/// From `at` on for `lasts` seconds, straight from one rate to another.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Piece {
    at: f64,
    lasts: f64,
    from: f64,
    to: f64,
    /// Requests before it.
    before: f64,
}

/// Where the last question was answered: the questions come in order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor(usize);

// === impl Rate ===

impl Rate {
    /// The same all the time.
    pub(crate) fn constant(rate: f64, lasts: Duration) -> Self {
        Self::ramp(rate, rate, lasts)
    }

    /// Straight from one rate to another.
    pub(crate) fn ramp(from: f64, to: f64, lasts: Duration) -> Self {
        Self::of([(lasts.as_secs_f64(), from, to)])
    }

    /// One rate after the other, each for so long.
    pub(crate) fn steps(rates: &[f64], each: Duration) -> Self {
        Self::of(rates.iter().map(|rate| (each.as_secs_f64(), *rate, *rate)))
    }

    /// On and off in turns, beginning with on; the last turn may be cut short.
    pub(crate) fn on_off(rate: f64, on: Duration, off: Duration, lasts: Duration) -> Self {
        let mut left = lasts.as_secs_f64();
        let turns = [(on.as_secs_f64(), rate), (off.as_secs_f64(), 0.0)].into_iter().cycle();
        Self::of(turns.map_while(|(time, rate)| {
            let time = time.min(left);
            left -= time;
            (time > 0.0).then_some((time, rate, rate))
        }))
    }

    fn of(parts: impl IntoIterator<Item = (f64, f64, f64)>) -> Self {
        let (mut at, mut before) = (0.0, 0.0);
        let mut pieces = Vec::new();
        for (lasts, from, to) in parts {
            pieces.push(Piece { at, lasts, from, to, before });
            at += lasts;
            before += lasts * f64::midpoint(from, to);
        }
        Self { pieces }
    }

    /// All of it.
    #[cfg(test)]
    pub(crate) fn duration(&self) -> Duration {
        self.pieces.last().map_or(Duration::ZERO, |p| Duration::from_secs_f64(p.at + p.lasts))
    }

    /// Requests in all.
    pub(crate) fn requests(&self) -> f64 {
        self.pieces.last().map_or(0.0, |p| p.before + p.requests())
    }

    /// When so many requests have been due, in seconds from the beginning. None: never.
    pub(crate) fn when(&self, requests: f64, cursor: &mut Cursor) -> Option<f64> {
        // With `<`: a request that is due at the very end belongs to what follows.
        while self.pieces.get(cursor.0).is_some_and(|p| requests >= p.before + p.requests()) {
            cursor.0 += 1;
        }
        let piece = self.pieces.get(cursor.0)?;
        Some(piece.at + piece.time(requests - piece.before))
    }

    /// Requests that were due before this second.
    #[cfg(test)]
    pub(crate) fn before(&self, at: f64) -> f64 {
        let piece = self.pieces.iter().rev().find(|p| p.at <= at);
        piece.map_or(0.0, |p| {
            let t = (at - p.at).min(p.lasts);
            let slope = (p.to - p.from) / p.lasts;
            p.before + t * (p.from + slope * t / 2.0)
        })
    }
}

// === impl Piece ===

impl Piece {
    fn requests(&self) -> f64 {
        self.lasts * f64::midpoint(self.from, self.to)
    }

    /// The root of `from·t + slope·t²/2 = requests`, in the form that loses no digits when the slope is small.
    fn time(&self, requests: f64) -> f64 {
        let slope = (self.to - self.from) / self.lasts;
        let root = (self.from * self.from + 2.0 * slope * requests).max(0.0).sqrt();
        if requests <= 0.0 { 0.0 } else { (2.0 * requests / (self.from + root)).min(self.lasts) }
    }
}

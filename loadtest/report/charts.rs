//! Which charts a run has.

use super::chart::{Axis, Chart, Colour, Layer, TIPS_MOST};
use super::codes::Kind;
use super::numbers::{count, ms, round, seconds};
use super::series::{Latency, Stretches, steps};
use crate::run::{ColdStart, Observed, Quantiles, Run, ServiceRun};

/// Marks of cold starts.
const MARKS_MOST: usize = 200;
/// Points of a distribution, each drawn to the pixel.
const CURVE_POINTS: usize = 120;
/// Colours of each kind of code; further codes of the kind share the last.
const GOOD: [Colour; 2] = [Colour::Ramp1, Colour::Aqua];
const REFUSED: [Colour; 1] = [Colour::Yellow];
const ERROR: [Colour; 2] = [Colour::Red, Colour::Pink];
const NONE: [Colour; 2] = [Colour::Violet, Colour::Grey];

/// One quantity of a stretch.
type OfLatency = fn(&Latency) -> f64;
/// One quantity of a look.
type OfLook = fn(&Observed) -> Option<u64>;
/// One part of a start.
type OfStart = fn(&ColdStart) -> Option<f64>;

/// The charts of one service, each of about `points` points.
pub(crate) fn of_service(run: &Run, service: &ServiceRun, points: usize) -> Vec<Chart> {
    let of = Of { run, service, points, stretches: Stretches::of(service, points) };
    let all = [of.latency(), of.codes(), of.replicas(), of.queue(), of.distribution(), of.starts()];
    all.into_iter().flatten().collect()
}

/// How late requests left.
pub(crate) fn of_generator(run: &Run) -> Option<Chart> {
    let late = &run.generator.late_ms;
    let curve = curve(late)?;
    Some(Chart {
        title: "Lateness of the generator".into(),
        note:
            "From the instant at which a request was to leave until it was on its way; part of every latency."
                .into(),
        x: Axis::nines(late.count),
        y: Axis::ms(curve.iter().map(|(_, y)| *y)),
        tips: curve_tips(&curve, "late"),
        layers: vec![Layer::Line { colour: Colour::Ramp3, points: curve, width: 4 }],
        ..Chart::default()
    })
}

struct Of<'a> {
    run: &'a Run,
    service: &'a ServiceRun,
    points: usize,
    stretches: Stretches,
}

// === impl Of ===

impl Of<'_> {
    fn base(&self, title: &str) -> Chart {
        Chart {
            title: title.into(),
            x: Axis::time(self.run.duration_s),
            bands: warm_ups(self.run, &self.service.name),
            ..Chart::default()
        }
    }

    fn stretch_note(&self) -> String {
        match self.stretches.width_s {
            0 | 1 => String::new(),
            width => {
                format!("Each point is {width} s: the means of its seconds' quantiles, and the largest.")
            }
        }
    }

    fn latency(&self) -> Option<Chart> {
        let points: Vec<(f64, Latency)> =
            self.stretches.all.iter().filter_map(|s| Some((s.at_s, s.latency?))).collect();
        points.first()?;
        let lines: [(_, _, OfLatency, _); 4] = [
            (Colour::Grey, "max", |l| l.max, 2),
            (Colour::Ramp1, "p50", |l| l.p50, 4),
            (Colour::Ramp2, "p90", |l| l.p90, 4),
            (Colour::Ramp3, "p99", |l| l.p99, 4),
        ];
        let width = self.stretches.width_s as f64;
        let mut chart = self.base("Latency over time");
        chart.y = Axis::ms(points.iter().flat_map(|(_, l)| [l.p50, l.max]));
        chart.note = self.stretch_note();
        for (colour, name, of, thick) in lines {
            chart.legend.push((colour, name.into()));
            // A second without an answer is a gap.
            for run in points.chunk_by(|a, b| b.0 - a.0 <= width) {
                let line = held(run.iter().map(|(at, l)| (*at, of(l))), width);
                chart.layers.push(Layer::Line { colour, points: line, width: thick });
            }
        }
        let marks: Vec<f64> = self.service.starts.iter().map(|start| start.at_s).take(MARKS_MOST).collect();
        if !marks.is_empty() {
            chart.legend.push((Colour::Orange, "waited for a start".into()));
            chart.layers.push(Layer::Marks { colour: Colour::Orange, at: marks });
        }
        chart.tips = tips(points.iter().map(|(at, l)| {
            (
                *at,
                width,
                format!("p50 {}, p90 {}, p99 {}, max {}", ms(l.p50), ms(l.p90), ms(l.p99), ms(l.max)),
            )
        }));
        Some(chart)
    }

    fn codes(&self) -> Option<Chart> {
        let stretches = &self.stretches;
        let mut names: Vec<&str> =
            stretches.all.iter().flat_map(|s| s.codes.keys().map(String::as_str)).collect();
        // The worst lie on the ground, where a few of them are seen.
        names.sort_unstable_by_key(|name| (std::cmp::Reverse(Kind::of(name)), *name));
        names.dedup();
        names.first()?;
        // Codes that share a colour share a layer.
        let mut layers: Vec<(Colour, Vec<&str>)> = Vec::new();
        for name in names {
            let colours: &[Colour] = match Kind::of(name) {
                Kind::Good => &GOOD,
                Kind::Refused => &REFUSED,
                Kind::Error => &ERROR,
                Kind::None => &NONE,
            };
            let free = colours.iter().find(|colour| layers.iter().all(|(taken, _)| taken != *colour));
            match (free, layers.last_mut()) {
                (Some(colour), _) => layers.push((*colour, vec![name])),
                (None, Some((_, names))) => names.push(name),
                (None, None) => {}
            }
        }
        let width = stretches.width_s as f64;
        let mut chart = self.base("Requests by what came of them, per second");
        let mut below = vec![0.0; stretches.all.len()];
        for (colour, names) in &layers {
            let above: Vec<f64> = stretches
                .all
                .iter()
                .zip(&below)
                .map(|(stretch, below)| {
                    let n: u64 = names.iter().filter_map(|name| stretch.codes.get(*name)).sum();
                    below + n as f64 / width
                })
                .collect();
            let columns: Vec<_> = stretches.all.iter().zip(below.iter().zip(&above)).collect();
            for run in columns.chunk_by(|(a, _), (b, _)| b.at_s - a.at_s <= width) {
                let edge = |top: bool| {
                    held(run.iter().map(|(s, (low, high))| (s.at_s, if top { **high } else { **low })), width)
                };
                let (mut points, mut back) = (edge(true), edge(false));
                back.reverse();
                points.extend(back);
                chart.layers.push(Layer::Shape { colour: *colour, points });
            }
            chart.legend.push((*colour, names.join(", ")));
            below = above;
        }
        chart.y = Axis::linear(below.iter().copied().fold(0.0, f64::max), round);
        chart.tips = tips(stretches.all.iter().map(|stretch| {
            let parts: Vec<_> =
                stretch.codes.iter().map(|(code, n)| format!("{code}: {}", count(*n))).collect();
            (stretch.at_s, width, parts.join(", "))
        }));
        Some(chart)
    }

    fn replicas(&self) -> Option<Chart> {
        let mut chart = self.looks(
            "Replicas over time",
            &[
                (Colour::Blue, "ready", |look| look.ready),
                (Colour::Orange, "starting", |look| look.starting),
                (Colour::Grey, "wanted", |look| look.desired),
            ],
        )?;
        // What was ready is what was paid for: an area.
        for line in steps(&self.service.observed, |look| look.ready, self.points) {
            let (Some(first), Some(last)) = (line.first().copied(), line.last().copied()) else { continue };
            let mut points = line;
            points.extend([(last.0, 0.0), (first.0, 0.0)]);
            chart.layers.insert(0, Layer::Shape { colour: Colour::Ramp1, points });
        }
        Some(chart)
    }

    fn queue(&self) -> Option<Chart> {
        self.looks(
            "Waiting and in flight, as the service tells",
            &[
                (Colour::Orange, "waiting", |look| look.queued),
                (Colour::Blue, "in flight", |look| look.in_flight),
            ],
        )
    }

    fn looks(&self, title: &str, of: &[(Colour, &str, OfLook)]) -> Option<Chart> {
        let observed = &self.service.observed;
        let mut chart = self.base(title);
        for (colour, name, of) in of {
            let lines = steps(observed, *of, self.points);
            if !lines.is_empty() {
                chart.legend.push((*colour, (*name).to_owned()));
            }
            chart.layers.extend(lines.into_iter().map(|points| Layer::Line {
                colour: *colour,
                points,
                width: 4,
            }));
        }
        chart.layers.first()?;
        let most =
            observed.iter().flat_map(|look| of.iter().filter_map(|(.., of)| of(look))).max().unwrap_or(0);
        chart.y = Axis::whole(most);
        let shown = observed.len().div_ceil(self.points.clamp(1, TIPS_MOST)).max(1);
        let looks: Vec<&Observed> = observed.iter().step_by(shown).collect();
        chart.tips = looks
            .windows(2)
            .map(|pair| {
                let parts: Vec<_> = of
                    .iter()
                    .filter_map(|(_, name, of)| Some(format!("{name} {}", count(of(pair[0])?))))
                    .collect();
                (pair[0].at_s, pair[1].at_s, format!("{}: {}", seconds(pair[0].at_s), parts.join(", ")))
            })
            .collect();
        Some(chart)
    }

    fn distribution(&self) -> Option<Chart> {
        let total = &self.service.total;
        let lines = [
            (Colour::Ramp3, "from the intended start", curve(&total.latency_ms)),
            (Colour::Ramp1, "since it left", curve(&total.service_ms)),
            (Colour::Orange, "first token", total.first_token_ms.as_ref().and_then(curve)),
            (Colour::Violet, "round trip", total.round_trip_ms.as_ref().and_then(curve)),
        ];
        let mut chart = Chart {
            title: "Latency distribution".into(),
            note: "That share of the requests took at most so long; warm-ups are left out.".into(),
            x: Axis::nines(total.latency_ms.count),
            ..Chart::default()
        };
        let lines: Vec<_> =
            lines.into_iter().filter_map(|(colour, name, points)| Some((colour, name, points?))).collect();
        chart.tips = curve_tips(&lines.first()?.2, "at most");
        chart.y = Axis::ms(lines.iter().flat_map(|(_, _, points)| points.iter().map(|(_, y)| *y)));
        // The one that matters comes last: on top.
        for (colour, name, points) in lines.into_iter().rev() {
            chart.legend.insert(0, (colour, name.into()));
            chart.layers.push(Layer::Line { colour, points, width: 4 });
        }
        Some(chart)
    }

    fn starts(&self) -> Option<Chart> {
        let starts = &self.service.starts;
        starts.first()?;
        let parts: [(_, _, OfStart); 3] = [
            (Colour::Grey, "whole answer", |start| Some(start.latency_ms)),
            (Colour::Orange, "queue", |start| start.queue_ms),
            (Colour::Violet, "start", |start| start.start_ms),
        ];
        let mut chart = self.base("Requests that waited for a start");
        chart.y = Axis::linear(starts.iter().map(|start| start.latency_ms).fold(0.0, f64::max), ms);
        for (colour, name, of) in parts {
            let points: Vec<_> =
                starts.iter().filter_map(|start| Some((start.at_s, of(start)?))).take(self.points).collect();
            if !points.is_empty() {
                chart.legend.push((colour, name.into()));
                chart.layers.push(Layer::Dots { colour, points });
            }
        }
        Some(chart)
    }
}

/// Warm-ups in which the service took part.
pub(crate) fn warm_ups(run: &Run, service: &str) -> Vec<(f64, f64)> {
    let own = |name: &Option<String>| name.as_deref().is_none_or(|name| name == service);
    let phases = run.phases.iter().filter(|phase| phase.warm_up && own(&phase.service));
    phases.map(|phase| (phase.from_s, phase.to_s)).collect()
}

/// The shares of requests that took at most so long; `None` when nothing was counted.
pub(crate) fn curve(quantiles: &Quantiles) -> Option<Vec<(f64, f64)>> {
    let histogram = quantiles.histogram().filter(|histogram| !histogram.is_empty())?;
    let end = (histogram.len().max(10) as f64).log10().clamp(1.0, 6.0);
    let mut points: Vec<(f64, f64)> = Vec::new();
    for i in 0..=CURVE_POINTS {
        let x = end * i as f64 / CURVE_POINTS as f64;
        let share = 1.0 - 10_f64.powf(-x);
        points.push((x, histogram.value_at_quantile(share) as f64 / crate::run::PER_UNIT));
    }
    Some(points)
}

pub(crate) fn curve_tips(curve: &[(f64, f64)], word: &str) -> Vec<(f64, f64, String)> {
    curve
        .windows(2)
        .map(|pair| {
            let share = (1.0 - 10_f64.powf(-pair[0].0)) * 100.0;
            let digits = (pair[0].0.floor() as usize).clamp(1, 5) - 1;
            (pair[0].0, pair[1].0, format!("{share:.digits$} %: {word} {}", ms(pair[0].1)))
        })
        .collect()
}

/// Points that each hold for `width`, as a line with steps.
fn held(points: impl Iterator<Item = (f64, f64)>, width: f64) -> Vec<(f64, f64)> {
    points.flat_map(|(at, y)| [(at, y), (at + width, y)]).collect()
}

/// What is said at each point, put together where there are too many.
fn tips(points: impl ExactSizeIterator<Item = (f64, f64, String)>) -> Vec<(f64, f64, String)> {
    let every = points.len().div_ceil(TIPS_MOST).max(1);
    points
        .step_by(every)
        .map(|(at, width, text)| (at, at + width * every as f64, format!("{}: {text}", seconds(at))))
        .collect()
}

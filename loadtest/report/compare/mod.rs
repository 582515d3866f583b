//! Two runs side by side, and what of it is more than noise.

mod html;
mod noise;
mod text;

use std::path::Path;

pub(crate) use html::render as html;
pub(crate) use noise::Ranged;
pub(crate) use text::render as text;

use self::noise::{Stretches, cold_median};
use super::numbers::{count, ms, number, percent, seconds};
use super::replicas::Replicas;
use crate::run::{Finished, Quantiles, Run, ServiceRun};

/// Less than this is no difference to anybody, however sure it is.
const DIFFERENCE_LEAST: f64 = 0.05;
/// The rule, in words.
pub(crate) const RULE: &str = "Better or worse is said where the figures differ by more than 5 % and their ranges do not \
    overlap. The range is where a figure would lie in 95 of 100 repeats of its run, as far as the run tells: it is cut into \
    up to 30 stretches, and what differs from stretch to stretch is noise. Fewer than 10 seconds with requests tell \
    nothing. What differs between two days on a machine is in no range: take turns, and repeat.";

/// Two runs side by side.
#[derive(Debug, PartialEq)]
pub(crate) struct Comparison {
    /// The first and the second run's file, scenario and start.
    pub(crate) runs: [String; 2],
    /// What to know before the figures are believed.
    pub(crate) remarks: Vec<String>,
    /// Services that both have, in the first one's order.
    pub(crate) services: Vec<Compared>,
}

/// One service in both runs.
#[derive(Debug, PartialEq)]
pub(crate) struct Compared {
    /// Its name.
    pub(crate) name: String,
    /// Its figures.
    pub(crate) figures: Vec<Figure>,
}

/// One figure in both runs.
#[derive(Debug, PartialEq)]
pub(crate) struct Figure {
    /// Such as `p99`.
    pub(crate) what: &'static str,
    /// How its values are shown.
    pub(crate) unit: Unit,
    /// In the first and the second run; none = it has none there.
    pub(crate) values: [Option<Ranged>; 2],
    /// What to say of the second run.
    pub(crate) verdict: Verdict,
}

/// How values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Milliseconds.
    Ms,
    /// A fraction, shown in per cent.
    Share,
    /// Whole things.
    Count,
    /// Anything else.
    Number,
}

/// What to say of the second run, compared with the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Better, and not by chance.
    Better,
    /// Worse, and not by chance.
    Worse,
    /// The runs do not tell them apart.
    Same,
    /// There is too little to tell.
    Unknown,
    /// A fact of which one run has one: no judgement.
    Fact,
}

// === impl Comparison ===

impl Comparison {
    /// `paths`: what the runs are called.
    pub(crate) fn of(paths: [&Path; 2], [a, b]: [&Run; 2]) -> Self {
        let title = |path: &Path, run: &Run| format!("{}: {}, {}", path.display(), run.scenario, run.started);
        let pairs: Vec<_> = a
            .services
            .iter()
            .filter_map(|one| Some((one, b.services.iter().find(|s| s.name == one.name)?)))
            .collect();
        Self {
            runs: [title(paths[0], a), title(paths[1], b)],
            remarks: remarks([a, b], &pairs),
            services: pairs
                .iter()
                .map(|(one, other)| Compared {
                    name: one.name.clone(),
                    figures: figures([a, b], [one, other]),
                })
                .collect(),
        }
    }

    /// Every figure with a verdict.
    pub(crate) fn with(&self, verdict: Verdict) -> Vec<(&str, &Figure)> {
        let all = self
            .services
            .iter()
            .flat_map(|service| service.figures.iter().map(|f| (service.name.as_str(), f)));
        all.filter(|(_, figure)| figure.verdict == verdict).collect()
    }

    /// The whole in words, a sentence each, with what it is about.
    pub(crate) fn sentences(&self) -> Vec<(Verdict, String)> {
        let mut sentences = Vec::new();
        for (verdict, word) in [(Verdict::Worse, "Worse"), (Verdict::Better, "Better")] {
            for (service, figure) in self.with(verdict) {
                let [Some(a), Some(b)] = figure.values else { continue };
                let (a, b) = (figure.unit.show(a.value), figure.unit.show(b.value));
                let change = figure.change().unwrap_or_default();
                sentences
                    .push((verdict, format!("{word}: {service}, {}: {a} → {b} ({change})", figure.what)));
            }
        }
        let (same, unknown) = (self.with(Verdict::Same).len(), self.with(Verdict::Unknown).len());
        if same > 0 {
            sentences.push((Verdict::Same, format!("No difference beyond noise in {}.", of_figures(same))));
        }
        if unknown > 0 {
            sentences
                .push((Verdict::Unknown, format!("Too little measured to tell in {}.", of_figures(unknown))));
        }
        sentences
    }
}

fn of_figures(n: usize) -> String {
    if n == 1 { "one figure".into() } else { format!("{n} figures") }
}

/// What makes two runs hard to compare.
fn remarks(runs: [&Run; 2], pairs: &[(&ServiceRun, &ServiceRun)]) -> Vec<String> {
    let mut remarks = Vec::new();
    let [a, b] = runs;
    if a.scenario != b.scenario {
        remarks.push(format!("The scenarios have different names: {} and {}.", a.scenario, b.scenario));
    } else if a.scenario_text != b.scenario_text {
        remarks.push("The scenario's file changed between the runs.".into());
    }
    for (name, run) in ["A", "B"].into_iter().zip(runs) {
        if run.finished != Finished::Complete {
            remarks.push(format!("{name} did not run to its end ({}).", seconds(run.duration_s)));
        }
        for warning in &run.generator.warnings {
            remarks.push(format!("{name}: {warning}"));
        }
    }
    for (one, other) in pairs {
        let (a, b) = (one.total.per_s, other.total.per_s);
        if (a - b).abs() > DIFFERENCE_LEAST * a.max(b) {
            let (a, b) = (number(a), number(b));
            remarks.push(format!(
                "{}: different load, {a} and {b} requests/s: other figures may differ for it.",
                one.name
            ));
        }
    }
    for (name, run, other) in [("A", a, b), ("B", b, a)] {
        let lone: Vec<_> = run
            .services
            .iter()
            .filter(|service| other.services.iter().all(|o| o.name != service.name))
            .map(|service| service.name.as_str())
            .collect();
        if !lone.is_empty() {
            remarks.push(format!("Only in {name}: {}.", lone.join(", ")));
        }
    }
    remarks
}

/// How it is shown, whether more is better, the two, and which quantiles count.
type Distribution<'a> = (Unit, bool, [Option<&'a Quantiles>; 2], &'static [(f64, &'static str)]);

fn figures(runs: [&Run; 2], services: [&ServiceRun; 2]) -> Vec<Figure> {
    let stretches = [0, 1].map(|i| Stretches::of(runs[i], services[i]));
    let totals = services.map(|service| &service.total);
    let mut figures = vec![
        Figure::fact("requests/s", Unit::Number, totals.map(|total| Some(total.per_s))),
        Figure::judged(
            "failed",
            Unit::Share,
            [0, 1].map(|i| (totals[i].sent > 0).then(|| stretches[i].failed())),
        ),
    ];
    let distributions: [Distribution<'_>; 6] = [
        (
            Unit::Ms,
            false,
            totals.map(|t| Some(&t.latency_ms)),
            &[(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")],
        ),
        (
            Unit::Ms,
            false,
            totals.map(|t| Some(&t.service_ms)),
            &[(0.5, "since it left, p50"), (0.99, "since it left, p99")],
        ),
        (
            Unit::Ms,
            false,
            totals.map(|t| t.first_token_ms.as_ref()),
            &[(0.5, "first token, p50"), (0.99, "first token, p99")],
        ),
        (
            Unit::Ms,
            false,
            totals.map(|t| t.token_gap_ms.as_ref()),
            &[(0.5, "between tokens, p50"), (0.99, "between tokens, p99")],
        ),
        (Unit::Number, true, totals.map(|t| t.tokens_per_s.as_ref()), &[(0.5, "tokens/s, p50")]),
        (
            Unit::Ms,
            false,
            totals.map(|t| t.round_trip_ms.as_ref()),
            &[(0.5, "round trip, p50"), (0.99, "round trip, p99")],
        ),
    ];
    for (unit, more_is_better, of, quantiles) in distributions {
        for (q, what) in quantiles {
            let values = [0, 1].map(|i| {
                let of = of[i].filter(|of| of.count > 0)?;
                Some(stretches[i].quantile(&totals[i].latency_ms, of, *q))
            });
            if values.iter().any(Option::is_some) {
                let mut figure = Figure::judged(what, unit, values);
                if more_is_better {
                    figure.verdict = figure.verdict.turned();
                }
                figures.push(figure);
            }
        }
    }
    let longest = totals.map(|total| (total.latency_ms.count > 0).then_some(total.latency_ms.max));
    figures.push(Figure::fact("longest", Unit::Ms, longest));
    if services.iter().any(|service| service.starts_count > 0) {
        let counts = services.map(|service| Some(service.starts_count as f64));
        figures.push(Figure::fact("waited for a start", Unit::Count, counts));
        let waits =
            services.map(|service| (!service.starts.is_empty()).then(|| cold_median(&service.starts)));
        figures.push(Figure::judged("cold answer, median", Unit::Ms, waits));
    }
    let replicas = services.map(|service| Replicas::of(&service.observed));
    if replicas.iter().any(Option::is_some) {
        let of = |part: fn(&Replicas) -> f64| replicas.each_ref().map(|r| r.as_ref().map(part));
        figures.push(Figure::fact("replica-seconds", Unit::Number, of(|r| r.ready_s)));
        figures.push(Figure::fact("starting-seconds", Unit::Number, of(|r| r.starting_s)));
        figures.push(Figure::fact("replicas at most", Unit::Count, of(|r| r.ready_most as f64)));
        figures.push(Figure::fact("waiting at most", Unit::Count, of(|r| r.queued_most.unwrap_or(0) as f64)));
    }
    figures
}

// === impl Figure ===

impl Figure {
    /// Less is better.
    fn judged(what: &'static str, unit: Unit, values: [Option<Ranged>; 2]) -> Self {
        Self { what, unit, values, verdict: Verdict::of(values) }
    }

    fn fact(what: &'static str, unit: Unit, values: [Option<f64>; 2]) -> Self {
        let values = values.map(|value| value.map(|value| Ranged { value, range: None }));
        Self { what, unit, values, verdict: Verdict::Fact }
    }

    /// How much more or less the second is: `+12.3 %`.
    pub(crate) fn change(&self) -> Option<String> {
        let [Some(a), Some(b)] = self.values else { return None };
        if a.value.to_bits() == b.value.to_bits() {
            return Some("=".into());
        }
        if self.unit == Unit::Share {
            return Some(format!("{:+.2} points", (b.value - a.value) * 100.0));
        }
        if a.value <= 0.0 {
            return Some(format!("+{}", self.unit.show(b.value)));
        }
        let ratio = b.value / a.value;
        Some(if ratio >= 2.0 {
            format!("× {}", number(ratio))
        } else {
            format!("{} %", signed((ratio - 1.0) * 100.0))
        })
    }
}

fn signed(x: f64) -> String {
    if x >= 0.0 { format!("+{}", number(x)) } else { number(x) }
}

// === impl Unit ===

impl Unit {
    /// A value with its unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Ms => ms(value),
            Self::Share => percent(value),
            Self::Count => count(value.max(0.0).round() as u64),
            Self::Number => number(value),
        }
    }

    /// A range, for which there is less room.
    pub(crate) fn show_range(self, (low, high): (f64, f64)) -> String {
        let high = if high.is_finite() { self.show(high) } else { "?".into() };
        let low = self.show(low);
        // The unit once, if it is the same.
        match (low.split_once(' '), high.split_once(' ')) {
            (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} – {high}"),
            _ => format!("{low} – {high}"),
        }
    }
}

// === impl Verdict ===

impl Verdict {
    /// Less is better.
    fn of(values: [Option<Ranged>; 2]) -> Self {
        let [Some(a), Some(b)] = values else { return Self::Unknown };
        let (Some((a_low, a_high)), Some((b_low, b_high))) = (a.range, b.range) else { return Self::Unknown };
        let apart = (a.value - b.value).abs() > DIFFERENCE_LEAST * a.value.max(b.value);
        match () {
            () if apart && b_low > a_high => Self::Worse,
            () if apart && b_high < a_low => Self::Better,
            () => Self::Same,
        }
    }

    fn turned(self) -> Self {
        match self {
            Self::Better => Self::Worse,
            Self::Worse => Self::Better,
            other => other,
        }
    }

    /// In a word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Same => "within noise",
            Self::Unknown => "cannot tell",
            Self::Fact => "",
        }
    }
}

#[cfg(test)]
mod tests;

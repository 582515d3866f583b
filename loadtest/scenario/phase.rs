//! Phases: what comes when.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pilotlight::config::decode::Fields;
use pilotlight::config::field::Field;
use pilotlight::config::quantity::{DURATION_MAX, show_duration};

use crate::arrivals::{Load, Rate, Spacing, Trace, TraceError, Unit};
use crate::builtin;

/// Phases of one timeline, repeats written out.
pub(crate) const PHASES_MAX: usize = 1000;
/// Requests per second.
pub(crate) const RATE_MAX: f64 = 1e6;
/// Shorter turns of on and off are a constant rate to anybody.
const TURN_MIN: Duration = Duration::from_millis(10);
const MOMENT: Duration = Duration::from_millis(1);
const REPEAT_MAX: u32 = 1000;
const BURST_MAX: u32 = 1_000_000;
pub(super) const KINDS: [&str; 9] =
    ["constant", "poisson", "steps", "ramp", "burst", "onOff", "trace", "pause", "waitForZero"];

/// One phase of a timeline.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Phase {
    /// Its name, or a description of its load.
    pub(crate) name: String,
    /// Its requests are left out of totals.
    pub(crate) warm_up: bool,
    /// What comes.
    pub(crate) load: Load,
    /// When it ends.
    pub(crate) ends: Ends,
}

/// When a phase ends, and the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// After so long, whatever is still unanswered.
    After(Duration),
    /// When its requests are answered.
    Answered,
    /// When its services have no replica any more; after so long at the latest.
    AtZero(Duration),
}

/// How traces are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Every trace's speed times this.
    pub(crate) speed: f64,
}

/// Reads a list of phases.
pub(crate) fn read(list: &Field<'_>, scale: Scale, folder: &Path) -> Vec<Phase> {
    let mut phases = Vec::new();
    let items = list.list();
    if items.is_empty() {
        list.problem("no phase", format!("at least one of {}", KINDS.join(", ")));
    }
    for item in items {
        phases.extend(one(&item, scale, folder, false));
        if phases.len() > PHASES_MAX {
            let given = format!("{} phases, repeats and steps written out", phases.len());
            list.problem(given, format!("at most {PHASES_MAX}"));
            break;
        }
    }
    phases
}

fn one(item: &Field<'_>, scale: Scale, folder: &Path, inside: bool) -> Vec<Phase> {
    let fields = item.fields();
    if fields.has("repeat") {
        return repeat(&fields, item, scale, folder, inside);
    }
    let name = fields.take("name").and_then(|f| f.nonempty().map(str::to_owned));
    let warm_up = fields.take("warmUp").and_then(|f| f.boolean()).unwrap_or(false);
    let lasts = fields.take("for").map(|f| f.duration(MOMENT..=DURATION_MAX).ok_or(()));
    let spacings = [("even", Spacing::Even), ("random", Spacing::Random)];
    let spacing = fields.take("spacing").map(|f| (f.choice(&spacings).unwrap_or(Spacing::Even), f));
    let given: Vec<(&str, Field<'_>)> =
        KINDS.into_iter().filter_map(|kind| fields.take(kind).map(|f| (kind, f))).collect();
    let mut phases = match given.as_slice() {
        [(kind, value)] => {
            let at = Parts { item, value, lasts, spacing: spacing.as_ref().map(|(s, _)| *s), scale, folder };
            at.phases(kind)
        }
        [] => {
            item.problem("a phase without a load", format!("one of {}", KINDS.join(", ")));
            Vec::new()
        }
        several => {
            let kinds: Vec<&str> = several.iter().map(|(kind, _)| *kind).collect();
            item.problem(format!("{} in one phase", kinds.join(" and ")), "one load in each phase");
            Vec::new()
        }
    };
    fields.finish();
    let several = phases.len() > 1;
    for phase in &mut phases {
        phase.warm_up = warm_up;
        if let Some(name) = &name {
            phase.name = if several { format!("{name}, {}", phase.name) } else { name.clone() };
        }
    }
    phases
}

fn repeat(fields: &Fields<'_>, item: &Field<'_>, scale: Scale, folder: &Path, inside: bool) -> Vec<Phase> {
    if inside {
        item.problem("a repeat inside a repeat", "phases");
        return Vec::new();
    }
    let times = fields.take("repeat").and_then(|f| f.whole(1..=REPEAT_MAX)).unwrap_or(1);
    let load = fields.require("load", "the phases to repeat");
    let items = load.as_ref().map(Field::list).unwrap_or_default();
    let mut once = Vec::new();
    for phase in &items {
        once.extend(one(phase, scale, folder, true));
    }
    let known = ["repeat", "load"];
    for (key, value) in item.quantity_map() {
        if !known.contains(&key) {
            value.problem(
                "a field of a repeat",
                "repeat and load; other fields belong into the load's phases",
            );
        }
    }
    // Reading stops above PHASES_MAX: this must not make a million of them first.
    let times = (times as usize).min(PHASES_MAX / once.len().max(1) + 1);
    let named = |n: usize, phase: &Phase| Phase { name: format!("{} #{n}", phase.name), ..phase.clone() };
    (1..=times).flat_map(|n| once.iter().map(move |phase| named(n, phase))).collect()
}

/// A phase that is being read.
struct Parts<'a, 'f> {
    item: &'a Field<'f>,
    value: &'a Field<'f>,
    /// Err: given and wrong.
    lasts: Option<Result<Duration, ()>>,
    spacing: Option<Spacing>,
    scale: Scale,
    folder: &'a Path,
}

// === impl Phase ===

impl Phase {
    /// How long it takes, as far as the file says.
    pub(crate) fn lasts(&self) -> Duration {
        if let Ends::After(lasts) = self.ends { lasts } else { Duration::ZERO }
    }
}

// === impl Parts ===

impl Parts<'_, '_> {
    fn phases(&self, kind: &str) -> Vec<Phase> {
        let found = match kind {
            "constant" => self.constant(self.spacing.unwrap_or(Spacing::Even)),
            "poisson" => self.poisson(),
            "steps" => return self.steps(),
            "ramp" => self.ramp(),
            "burst" => self.burst(),
            "onOff" => self.on_off(),
            "trace" => self.trace(),
            "pause" => self.pause(),
            _ => self.wait_for_zero(),
        };
        found.into_iter().collect()
    }

    fn constant(&self, spacing: Spacing) -> Option<Phase> {
        let (found, lasts) = (rate(self.value), self.needs_for());
        let (rate, lasts) = (found?, lasts?);
        let word = if spacing == Spacing::Even { "" } else { "random " };
        Some(timed(format!("{word}{rate}/s"), Load::Rate(Rate::constant(rate, lasts), spacing), lasts))
    }

    fn poisson(&self) -> Option<Phase> {
        if self.spacing == Some(Spacing::Even) {
            self.item.problem("spacing: even with poisson", "constant, or no spacing");
        }
        self.constant(Spacing::Random)
    }

    /// Each step is a phase of its own, so that each has its own percentiles.
    fn steps(&self) -> Vec<Phase> {
        self.no_for("each step's time is `each`");
        let fields = self.value.fields();
        let rates = fields.require("rates", "a list of requests per second, such as [10, 50, 100]");
        let rates: Vec<f64> =
            rates.map(|f| f.list().iter().filter_map(|r| rate(r)).collect()).unwrap_or_default();
        let each = fields.require("each", "how long each step lasts, such as 30s");
        let each = each.and_then(|f| f.duration(MOMENT..=DURATION_MAX));
        fields.finish();
        let spacing = self.spacing.unwrap_or(Spacing::Even);
        let step = |rate: &f64, each| {
            timed(format!("{rate}/s"), Load::Rate(Rate::steps(&[*rate], each), spacing), each)
        };
        each.map(|each| rates.iter().map(|rate| step(rate, each)).collect()).unwrap_or_default()
    }

    fn ramp(&self) -> Option<Phase> {
        let lasts = self.needs_for();
        let fields = self.value.fields();
        let from = fields.take("from").map_or(Some(0.0), |f| rate(&f));
        let to = fields.require("to", "requests per second at the end").and_then(|f| rate(&f));
        fields.finish();
        let (lasts, from, to) = (lasts?, from?, to?);
        let load = Load::Rate(Rate::ramp(from, to, lasts), self.spacing.unwrap_or(Spacing::Even));
        Some(timed(format!("{from}/s to {to}/s"), load, lasts))
    }

    fn burst(&self) -> Option<Phase> {
        self.no_spacing();
        let n = self.value.whole(1..=BURST_MAX)?;
        let ends = self.lasts.transpose().ok()?.map_or(Ends::Answered, Ends::After);
        Some(Phase { name: format!("burst of {n}"), warm_up: false, load: Load::Burst(u64::from(n)), ends })
    }

    fn on_off(&self) -> Option<Phase> {
        let lasts = self.needs_for();
        let fields = self.value.fields();
        let rate = fields.require("rate", "requests per second while it is on").and_then(|f| rate(&f));
        let turn = |name: &'static str| {
            fields.require(name, "a duration such as 10s").and_then(|f| f.duration(TURN_MIN..=DURATION_MAX))
        };
        let (on, off) = (turn("on"), turn("off"));
        fields.finish();
        let (lasts, rate, on, off) = (lasts?, rate?, on?, off?);
        let name = format!("{rate}/s for {} of {}", show_duration(on), show_duration(on + off));
        let load = Load::Rate(Rate::on_off(rate, on, off, lasts), self.spacing.unwrap_or(Spacing::Even));
        Some(timed(name, load, lasts))
    }

    fn trace(&self) -> Option<Phase> {
        self.no_spacing();
        let fields = self.value.fields();
        let file = fields.require("file", "a CSV file, or one with a time a line").and_then(|f| f.nonempty());
        let column = fields.take("column").and_then(|f| f.nonempty().map(str::to_owned));
        let units = [("s", Unit::Seconds), ("ms", Unit::Millis), ("us", Unit::Micros), ("ns", Unit::Nanos)];
        let unit = fields.take("unit").map_or(Some(Unit::Seconds), |f| f.choice(&units));
        let speed = fields.take("speed").map_or(Some(1.0), |f| f.number(1e-3..=1e6));
        let from =
            fields.take("from").map_or(Some(Duration::ZERO), |f| f.duration(Duration::ZERO..=DURATION_MAX));
        fields.finish();
        let (file, unit, speed, from) = (file?, unit?, speed? * self.scale.speed, from?);
        let part = self.lasts.transpose().ok()?;
        let lasts = part.map(|real| real.mul_f64(speed));
        let trace = Trace { column, unit, speed, from, lasts };
        let (name, read) = if let Some(name) = file.strip_prefix("builtin:") {
            let text = builtin::trace(name).ok_or_else(unknown);
            (name.to_owned(), text.and_then(|text| trace.parse(text)))
        } else {
            let path = self.folder.join(file);
            (path.display().to_string(), trace.read(&path))
        };
        match read {
            Ok(offsets) => {
                let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy();
                let lasts = part.unwrap_or(*offsets.last()? + MOMENT);
                let load = Load::Trace(Arc::from(offsets));
                Some(timed(format!("{name}, {speed} times as fast"), load, lasts))
            }
            Err(error) => {
                self.value.problem(format!("{name}: {error}"), "a trace that can be replayed");
                None
            }
        }
    }

    fn pause(&self) -> Option<Phase> {
        self.no_spacing();
        self.no_for("the time is pause's own value");
        let lasts = self.value.duration(MOMENT..=DURATION_MAX)?;
        Some(timed(format!("pause of {}", show_duration(lasts)), Load::Nothing, lasts))
    }

    fn wait_for_zero(&self) -> Option<Phase> {
        self.no_spacing();
        self.no_for("the longest wait is waitForZero's own value");
        let most = self.value.duration(MOMENT..=DURATION_MAX)?;
        let ends = Ends::AtZero(most);
        Some(Phase { name: "wait for zero".into(), warm_up: false, load: Load::Nothing, ends })
    }

    fn needs_for(&self) -> Option<Duration> {
        if self.lasts.is_none() {
            self.item.problem("no `for`", "how long the phase lasts, such as `for: 30s`");
        }
        self.lasts?.ok()
    }

    fn no_for(&self, why: &str) {
        if self.lasts.is_some() {
            self.item.problem("`for`", format!("no `for` here: {why}"));
        }
    }

    fn no_spacing(&self) {
        if self.spacing.is_some() {
            self.item.problem("`spacing`", "no `spacing` here: it is for rates");
        }
    }
}

fn rate(field: &Field<'_>) -> Option<f64> {
    field.number(0.0..=RATE_MAX)
}

fn unknown() -> TraceError {
    std::io::Error::other(format!("built-in is only {}", builtin::TRACE)).into()
}

fn timed(name: String, load: Load, lasts: Duration) -> Phase {
    Phase { name, warm_up: false, load, ends: Ends::After(lasts) }
}

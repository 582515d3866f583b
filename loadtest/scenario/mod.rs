//! Scenario files → typed, validated scenarios. Every mistake of a file is found in one run, with its place.

mod body;
mod message;
mod overrides;
mod phase;
mod service;
mod success;
mod target;
mod template;
mod threshold;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use pilotlight::config::field::Field;
use pilotlight::config::problem::{Pos, Problem, Problems, Sink};
use pilotlight::config::quantity::{DURATION_MAX, show_duration};
use pilotlight::config::yaml;

pub(crate) use body::Body;
pub(crate) use overrides::{Override, Overrides};
pub(crate) use phase::{Ends, Phase};
pub(crate) use service::{Protocol, Service, Websocket};
pub(crate) use target::{Scheme, Target};
pub(crate) use template::{Owner, Template};
pub(crate) use threshold::{Metric, Stat, Threshold};

/// Requests of one run.
const REQUESTS: std::ops::RangeInclusive<u32> = 1..=100_000_000;
/// Requests at a time.
const OPEN: std::ops::RangeInclusive<u32> = 1..=100_000;
/// Sums are kept for each service and phase, and for each service and second: these bound their memory.
const SERVICE_PHASES_MAX: usize = 20_000;
const SERVICE_SECONDS_MAX: u64 = 1_000_000;

/// What is to be done, all of it checked.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: String,
    /// Where randomness comes from.
    pub(crate) seed: u64,
    /// What ends it early.
    pub(crate) limits: Limits,
    /// Every service, copies written out.
    pub(crate) services: Vec<Service>,
    /// What is sent when: one timeline for all services without a load of their own, then theirs.
    pub(crate) timelines: Vec<Timeline>,
    /// What must hold of all services together.
    pub(crate) thresholds: Vec<Threshold>,
}

/// What ends a run early, or keeps it small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Requests sent.
    pub(crate) requests: u64,
    /// Time.
    pub(crate) duration: Duration,
    /// Requests at a time; more are not sent, and counted.
    pub(crate) open: usize,
}

/// Phases, one after the other, and the services that they are for.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// The service that has a load of its own.
    pub(crate) own: Option<String>,
    /// Places in [`Scenario::services`].
    pub(crate) services: Vec<usize>,
    /// Its phases.
    pub(crate) phases: Vec<Phase>,
}

/// A scenario that can run, and what its author may want to know.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The scenario.
    pub(crate) scenario: Scenario,
    /// What is accepted but odd.
    pub(crate) warnings: Vec<Problem>,
}

/// Reads a file.
pub(crate) fn load(file: &Path, overrides: &Overrides) -> Result<(Loaded, String), Problems> {
    let text = std::fs::read(file).map_err(|error| {
        let hint = "a scenario file, or the name of a built-in one (`loadtest scenarios`)";
        Problems(vec![Problem::of_file(file, error.to_string(), hint)])
    })?;
    let loaded = parse(&text, file, overrides)?;
    Ok((loaded, String::from_utf8_lossy(&text).into_owned()))
}

/// Reads a text that came from `file`.
pub(crate) fn parse(text: &[u8], file: &Path, overrides: &Overrides) -> Result<Loaded, Problems> {
    let sink = Sink::new(file);
    let mut documents = yaml::parse(text, &sink);
    let scenario = match documents.as_mut_slice() {
        [document] => {
            overrides.apply(document, &sink);
            let field = Field::new(document, String::new(), &sink);
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            read(&field, overrides, sink.folder(), &stem)
        }
        [] => {
            if !sink.has_problems() {
                sink.problem(Pos::default(), "", "nothing", "one scenario");
            }
            None
        }
        [_, second, ..] => {
            sink.problem(second.pos, "", "a second document", "one scenario in a file");
            None
        }
    };
    let (mut problems, warnings) = sink.into_parts();
    problems.sort();
    problems.dedup();
    match scenario {
        Some(scenario) if problems.is_empty() => Ok(Loaded { scenario, warnings }),
        _ => Err(Problems(problems)),
    }
}

/// `stem`: what a scenario without a name is called.
fn read(root: &Field<'_>, overrides: &Overrides, folder: &Path, stem: &str) -> Option<Scenario> {
    let fields = root.fields();
    let name = fields.take("name").map_or_else(|| Some(stem.to_owned()), |f| f.nonempty().map(str::to_owned));
    let seed = fields.take("seed").map_or(Some(0), |f| f.whole(0..=u32::MAX));
    let limits = fields.take("limits").map_or(Some(Limits::default()), |f| limits(&f));
    let thresholds = fields.take("thresholds").map(|f| threshold::read(&f, true)).unwrap_or_default();
    let scale = phase::Scale { speed: overrides.time_scale };
    let shared = fields.take("load").map(|f| phase::read(&f, scale, folder));
    let reader = service::Reader { folder, url: overrides.url.as_ref() };
    let list = fields.require("services", "a list of services, each with a url");
    fields.finish();

    let mut services: Vec<Service> = Vec::new();
    let mut timelines =
        vec![Timeline { own: None, services: Vec::new(), phases: shared.clone().unwrap_or_default() }];
    let items = list.as_ref().map(Field::list).unwrap_or_default();
    if items.is_empty()
        && let Some(list) = &list
    {
        list.problem("no service", "at least one");
    }
    for item in &items {
        let own = item.fields().take("load").map(|f| phase::read(&f, scale, folder));
        if own.is_none() && shared.is_none() {
            item.problem("no load", "`load` here, or at the top for all services");
        }
        for service in reader.services(item) {
            let place = services.len();
            if services.iter().any(|s| s.name == service.name) {
                item.problem(format!("another service {:?}", service.name), "names that differ");
            }
            let waits = |phases: &[Phase]| phases.iter().any(|p| matches!(p.ends, Ends::AtZero(_)));
            if service.observe.is_none() && waits(own.as_ref().or(shared.as_ref()).map_or(&[], Vec::as_slice))
            {
                item.problem("waitForZero, but no `observe`", "`observe`, which says when it is at zero");
            }
            match &own {
                None => timelines[0].services.push(place),
                Some(phases) => timelines.push(Timeline {
                    own: Some(service.name.clone()),
                    services: vec![place],
                    phases: phases.clone(),
                }),
            }
            services.push(service);
        }
    }
    if services.len() > service::SERVICES_MAX as usize {
        root.problem(format!("{} services", services.len()), format!("at most {}", service::SERVICES_MAX));
    }
    timelines.retain(|t| !t.services.is_empty());
    let scenario =
        Scenario { name: name?, seed: u64::from(seed?), limits: limits?, services, timelines, thresholds };
    scenario.check(root);
    Some(scenario)
}

fn limits(field: &Field<'_>) -> Option<Limits> {
    let fields = field.fields();
    let otherwise = Limits::default();
    let requests =
        fields.take("requests").map_or(Some(otherwise.requests), |f| f.whole(REQUESTS).map(u64::from));
    let longest = Duration::from_millis(1)..=DURATION_MAX;
    let duration = fields.take("duration").map_or(Some(otherwise.duration), |f| f.duration(longest));
    let open = fields.take("open").map_or(Some(otherwise.open), |f| f.whole(OPEN).map(|n| n as usize));
    fields.finish();
    Some(Limits { requests: requests?, duration: duration?, open: open? })
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self { requests: 1_000_000, duration: Duration::from_hours(1), open: 10_000 }
    }
}

// === impl Scenario ===

impl Scenario {
    /// Every phase of every timeline, in the order of [`crate::run::Run::phases`], with its timeline's place.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (usize, &Phase)> {
        let numbered = self.timelines.iter().enumerate();
        numbered.flat_map(|(place, timeline)| timeline.phases.iter().map(move |phase| (place, phase)))
    }

    /// How long it takes, as far as the file says; waits are not in it.
    pub(crate) fn lasts(&self) -> Duration {
        self.planned().min(self.limits.duration)
    }

    fn planned(&self) -> Duration {
        let timed = |t: &Timeline| t.phases.iter().map(Phase::lasts).sum::<Duration>();
        self.timelines.iter().map(timed).max().unwrap_or_default()
    }

    /// How many requests it wants to send, about.
    pub(crate) fn expected(&self) -> f64 {
        let each =
            |t: &Timeline| t.phases.iter().map(|p| p.load.expected()).sum::<f64>() * t.services.len() as f64;
        self.timelines.iter().map(each).sum()
    }

    /// For people: `1 service, 2 phases, about 1600 requests in 35s`.
    pub(crate) fn summary(&self) -> String {
        let count = |n: usize, what| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let (services, phases) =
            (count(self.services.len(), "service"), count(self.phases().count(), "phase"));
        let open_ended = self.phases().any(|(_, phase)| !matches!(phase.ends, Ends::After(_)));
        let more = if open_ended { " and its waits" } else { "" };
        let lasts = show_duration(self.lasts());
        format!("{services}, {phases}, about {:.0} requests in {lasts}{more}", self.expected())
    }

    /// What only shows in the whole.
    fn check(&self, root: &Field<'_>) {
        let sums = self.services.len() * self.phases().count();
        if sums > SERVICE_PHASES_MAX {
            let given = format!("{} services with {} phases", self.services.len(), self.phases().count());
            root.problem(given, format!("services × phases of at most {SERVICE_PHASES_MAX}"));
        }
        let longest = self.limits.duration.as_secs();
        if self.services.len() as u64 * longest > SERVICE_SECONDS_MAX {
            let given = format!("{} services for up to {longest} s", self.services.len());
            let allowed = format!("services × limits.duration of at most {SERVICE_SECONDS_MAX} s");
            root.problem(given, allowed);
        }
        if self.planned() > self.limits.duration {
            let (planned, most) = (show_duration(self.planned()), show_duration(self.limits.duration));
            root.warn(format!("the phases take {planned}, limits.duration ends the run after {most}"));
        }
        if self.expected() > self.limits.requests as f64 + 0.5 {
            let (expected, most) = (self.expected(), self.limits.requests);
            root.warn(format!(
                "about {expected:.0} requests are wanted, limits.requests ends the run after {most}"
            ));
        }
    }
}

//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::quick::Quick;
use crate::scenario::{Override, Overrides, Target};

/// Load for services that scale to zero: requests leave when the scenario says, whatever the answers do.
#[derive(Debug, Parser)]
#[command(name = "loadtest", version, after_help = EXIT_CODES)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit code: 0 all thresholds hold · 1 one does not · 2 no request was answered, or the run could not be carried out ·
64 a bad flag or file · 130 interrupted (Ctrl-C; what was measured is reported all the same)";

const EXAMPLES: &str = "\
Examples:
  loadtest run --url http://127.0.0.1:8080/ --rate 100 --duration 10s
  loadtest run loadtest/scenarios/burst-at-zero.yaml --html report.html
  loadtest run wake-storm --set load[1].burst=5 --json after.json";

const COMPARE: &str = "\
Better or worse is said where figures differ by more than 5 % and by more than what differs from one stretch of a run to
the next (loadtest/README.md, \"Comparing two runs\"). Exit code: 0 whatever differs · 64 a file that is no run.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Carry a scenario out, and report
    #[command(after_help = EXAMPLES)]
    Run(Box<RunArgs>),
    /// Check scenario files, every mistake in one run
    Validate(ValidateArgs),
    /// The table of a run that was kept with --json, or its page
    Report(ReportArgs),
    /// Two runs side by side, and what of it is more than noise
    #[command(after_help = COMPARE)]
    Compare(CompareArgs),
    /// The scenarios that come with this program
    Scenarios(ScenariosArgs),
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A scenario file, or the name of a built-in one; none with --url, --rate and --duration
    pub(crate) scenario: Option<String>,
    /// Goes instead of every service's scheme, host and port; Host stays as the scenario says. Without a scenario, where to
    #[arg(long, value_name = "URL", env = "PILOTLIGHT_URL")]
    pub(crate) url: Option<String>,
    /// The whole run, for machines and for `compare`; - is standard output
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_JSON")]
    pub(crate) json: Option<PathBuf>,
    /// A report with charts, in one file
    #[arg(long, value_name = "FILE", env = "PILOTLIGHT_HTML")]
    pub(crate) html: Option<PathBuf>,
    /// No progress and no table; thresholds that do not hold are still told
    #[arg(long, short, env = "PILOTLIGHT_QUIET")]
    pub(crate) quiet: bool,
    /// Traces run so many times as fast
    #[arg(long, value_name = "N", default_value_t = 1.0, env = "PILOTLIGHT_TIME_SCALE")]
    pub(crate) time_scale: f64,
    // Not a doc comment: to rustdoc, brackets are a link.
    #[arg(
        long,
        value_name = "FIELD=VALUE",
        help = "Changes a field of the scenario, such as services[0].timeout=5s"
    )]
    pub(crate) set: Vec<Override>,
    /// Threads that send; 0 = half of the cores
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=64), env = "PILOTLIGHT_THREADS")]
    pub(crate) threads: u16,
    #[command(flatten)]
    pub(crate) quick: QuickArgs,
}

/// A scenario without a file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Without a scenario")]
pub(crate) struct QuickArgs {
    /// Requests per second
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// How long, such as 10s
    #[arg(long, value_name = "D")]
    pub(crate) duration: Option<String>,
    /// http1, h2c, sse or websocket [default: http1]
    #[arg(long, value_name = "P")]
    pub(crate) protocol: Option<String>,
    /// GET, or POST with a body
    #[arg(long, value_name = "M")]
    pub(crate) method: Option<String>,
    /// May be repeated; Host is one, too
    #[arg(long, short = 'H', value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// A text, or @FILE
    #[arg(long, value_name = "BODY")]
    pub(crate) body: Option<String>,
    /// Of a request, from its intended start [default: 2m]
    #[arg(long, value_name = "D")]
    pub(crate) timeout: Option<String>,
    /// Random arrivals (a Poisson process) instead of even ones
    #[arg(long)]
    pub(crate) poisson: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Scenario files, or names of built-in ones
    #[arg(required = true)]
    pub(crate) scenarios: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// A run's JSON
    pub(crate) run: PathBuf,
    /// Writes the page here instead of the table
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// A run's JSON: before
    pub(crate) before: PathBuf,
    /// A run's JSON: after
    pub(crate) after: PathBuf,
    /// A report with both, in one file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ScenariosArgs {
    /// Prints this one's file
    pub(crate) name: Option<String>,
}

// === impl RunArgs ===

impl RunArgs {
    /// What the flags change in a scenario. The error says which one is wrong.
    pub(crate) fn overrides(&self) -> Result<Overrides, String> {
        if !(1e-3..=1e6).contains(&self.time_scale) {
            return Err(format!(
                "--time-scale: {}; allowed: a number from 0.001 to 1000000",
                self.time_scale
            ));
        }
        let url = match &self.url {
            Some(url) if self.scenario.is_some() => {
                let split = Target::split(url, &|text| text.to_owned());
                let (target, _) = split.ok_or_else(|| {
                    format!("--url: {url:?}; allowed: http://HOST[:PORT] or https://HOST[:PORT]")
                })?;
                Some(target)
            }
            _ => None,
        };
        Ok(Overrides { url, time_scale: self.time_scale, set: self.set.clone() })
    }

    /// The scenario that the flags are, when no file is given. The errors are all that is missing or too much.
    pub(crate) fn quick(&self) -> Result<Option<Quick>, Vec<String>> {
        let quick = &self.quick;
        let texts = [
            ("--duration", &quick.duration),
            ("--protocol", &quick.protocol),
            ("--method", &quick.method),
            ("--body", &quick.body),
            ("--timeout", &quick.timeout),
        ];
        if let Some(scenario) = &self.scenario {
            let given = texts.iter().filter(|(_, value)| value.is_some()).map(|(flag, _)| *flag);
            let given = given
                .chain(quick.rate.map(|_| "--rate"))
                .chain((!quick.header.is_empty()).then_some("--header"))
                .chain(quick.poisson.then_some("--poisson"));
            let mistakes: Vec<String> = given
                .map(|flag| format!("{flag}: given with the scenario {scenario}; allowed: --set FIELD=VALUE"))
                .collect();
            return if mistakes.is_empty() { Ok(None) } else { Err(mistakes) };
        }
        let (Some(url), Some(rate), Some(duration)) = (&self.url, quick.rate, &quick.duration) else {
            let missing = [
                ("--url", self.url.is_none()),
                ("--rate", quick.rate.is_none()),
                ("--duration", quick.duration.is_none()),
            ];
            let missing = missing.iter().filter(|(_, missing)| *missing);
            let allowed = "a scenario, or --url URL --rate N --duration D";
            return Err(missing.map(|(flag, _)| format!("{flag}: missing; allowed: {allowed}")).collect());
        };
        Ok(Some(Quick {
            url: url.clone(),
            rate,
            duration: duration.clone(),
            protocol: quick.protocol.clone(),
            method: quick.method.clone(),
            headers: quick.header.clone(),
            body: quick.body.clone(),
            timeout: quick.timeout.clone(),
            poisson: quick.poisson,
        }))
    }

    /// Threads that send.
    pub(crate) fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.threads > 0 { usize::from(self.threads) } else { (cores / 2).clamp(1, 8) }
    }
}

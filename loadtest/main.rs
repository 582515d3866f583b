//! `loadtest`: how a service that scales to zero behaves under load. It only needs a URL.
//!
//! `scenario` reads what is to be done, [`arrivals`] says when requests leave, [`engine`] sends them through [`client`],
//! [`recorder`] counts, [`observe`] looks at replicas, [`execute`](mod@execute) makes a [`run::Run`] of it all, and [`report`] shows it.

mod arrivals;
mod builtin;
mod client;
mod command;
mod engine;
mod execute;
mod observe;
mod outcome;
mod progress;
mod quick;
mod recorder;
mod report;
mod run;
mod scenario;
mod thresholds;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use pilotlight::app::EXIT_CONFIG;
use pilotlight::config::Problems;

use crate::command::{Command, CommandLine, CompareArgs, ReportArgs, RunArgs, ScenariosArgs, ValidateArgs};
use crate::execute::{Options, execute};
use crate::report::compare::Comparison;
use crate::report::{Paint, json, table};
use crate::run::{Finished, Run};
use crate::scenario::{Loaded, Overrides};

/// A threshold does not hold.
const EXIT_THRESHOLD: u8 = 1;
/// No request was answered, or the run could not be carried out or reported.
const EXIT_FAILED: u8 = 2;
/// As shells have it for SIGINT.
const EXIT_INTERRUPTED: u8 = 130;

/// Why the program ends: what is said, and the exit code.
struct Exit {
    lines: Vec<String>,
    code: u8,
}

fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            // Help and version are errors to clap.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_CONFIG } else { 0 });
        }
    };
    let ended = match &line.command {
        Command::Run(args) => run(args),
        Command::Validate(args) => validate(args),
        Command::Report(args) => show(args),
        Command::Compare(args) => compare(args),
        Command::Scenarios(args) => scenarios(args),
    };
    let exit = ended.unwrap_or_else(|exit| exit);
    exit.lines.iter().for_each(|line| eprintln!("{line}"));
    ExitCode::from(exit.code)
}

fn run(args: &RunArgs) -> Result<Exit, Exit> {
    let overrides = args.overrides();
    let quick = args.quick();
    let (overrides, quick) = match (overrides, quick) {
        (Ok(overrides), Ok(quick)) => (overrides, quick),
        (overrides, quick) => {
            return Err(Exit::config(overrides.err().into_iter().chain(quick.err().into_iter().flatten())));
        }
    };
    let (loaded, text) = match (&args.scenario, quick) {
        (_, Some(quick)) => quick.load(&overrides).map_err(|problems| Exit::problems(&problems))?,
        (Some(name), None) => load(name, &overrides).map_err(|problems| Exit::problems(&problems))?,
        (None, None) => unreachable!("bug: without a scenario there are flags, or mistakes"),
    };
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    let options = Options { threads: args.threads(), quiet: args.quiet };
    let run = execute(loaded.scenario, text, options).map_err(Exit::failed)?;
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if !args.quiet && !to_stdout {
        print!("{}", table::render(&run, Paint::stdout()));
    }
    if to_stdout {
        println!("{}", serde_json::to_string(&run).map_err(Exit::failed)?);
    } else if let Some(path) = &args.json {
        json::write(path, &run).map_err(Exit::failed)?;
    }
    if let Some(path) = &args.html {
        json::write_whole(path, report::html::render(&run).as_bytes()).map_err(Exit::failed)?;
    }
    Ok(verdict(&run, args.quiet || to_stdout))
}

/// The exit code of a run, and what is said if the table is not shown.
fn verdict(run: &Run, no_table: bool) -> Exit {
    let totals = || run.services.iter().flat_map(|service| &service.phases);
    if run.generator.sent > 0 && totals().all(|totals| totals.done == 0) {
        let mut lines = vec!["no request was answered:".to_owned()];
        for service in &run.services {
            let why = service.reasons.iter().map(|(kind, why)| format!("{kind}: {why}"));
            let why: Vec<String> = why.chain(service.codes.keys().cloned()).take(1).collect();
            lines.push(format!("  {} at {}: {}", service.name, service.url, why.join("")));
        }
        return Exit { lines, code: EXIT_FAILED };
    }
    let failed: Vec<String> = run.thresholds.iter().filter(|v| !v.passed).map(table::verdict_text).collect();
    let code = match run.finished {
        Finished::Interrupted => EXIT_INTERRUPTED,
        _ if !failed.is_empty() => EXIT_THRESHOLD,
        _ => 0,
    };
    let lines =
        if no_table { failed.iter().map(|text| format!("threshold: {text}")).collect() } else { Vec::new() };
    Exit { lines, code }
}

fn validate(args: &ValidateArgs) -> Result<Exit, Exit> {
    let mut lines = Vec::new();
    for name in &args.scenarios {
        match load(name, &Overrides::default()) {
            Ok((loaded, _)) => {
                for warning in &loaded.warnings {
                    eprintln!("warning: {warning}");
                }
                println!("sound: {name}: {}", loaded.scenario.summary());
            }
            Err(problems) => lines.extend(problems.0.iter().map(ToString::to_string)),
        }
    }
    if lines.is_empty() { Ok(Exit { lines, code: 0 }) } else { Err(Exit::config(lines)) }
}

fn compare(args: &CompareArgs) -> Result<Exit, Exit> {
    let read = |path: &Path| json::read(path).map_err(|error| Exit::config([error.to_string()]));
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let comparison = Comparison::of([&args.before, &args.after], [&before, &after]);
    print!("{}", report::compare::text(&comparison, Paint::stdout()));
    if let Some(path) = &args.html {
        let page = report::compare::html(&comparison, [&before, &after]);
        json::write_whole(path, page.as_bytes()).map_err(Exit::failed)?;
    }
    Ok(Exit { lines: Vec::new(), code: 0 })
}

fn show(args: &ReportArgs) -> Result<Exit, Exit> {
    let run = json::read(&args.run).map_err(|error| Exit::config([error.to_string()]))?;
    if let Some(path) = &args.html {
        json::write_whole(path, report::html::render(&run).as_bytes()).map_err(Exit::failed)?;
    } else {
        print!("{}", table::render(&run, Paint::stdout()));
    }
    Ok(Exit { lines: Vec::new(), code: 0 })
}

fn scenarios(args: &ScenariosArgs) -> Result<Exit, Exit> {
    match &args.name {
        None => print!("{}", builtin::list()),
        Some(name) => match builtin::find(name) {
            Some(builtin) => print!("{}", builtin.text),
            None => return Err(Exit::config([unknown(name)])),
        },
    }
    Ok(Exit { lines: Vec::new(), code: 0 })
}

/// A file, or else a built-in scenario, and its text.
fn load(name: &str, overrides: &Overrides) -> Result<(Loaded, String), Problems> {
    let path = Path::new(name);
    if let Some(builtin) = builtin::find(name).filter(|_| !path.exists()) {
        // Files that it names are relative to where it runs.
        let loaded = scenario::parse(builtin.text.as_bytes(), Path::new(name), overrides)?;
        return Ok((loaded, builtin.text.to_owned()));
    }
    scenario::load(path, overrides)
}

fn unknown(name: &str) -> String {
    let names: Vec<&str> = builtin::ALL.iter().map(|builtin| builtin.name).collect();
    format!("no built-in scenario {name:?}; allowed: {}", names.join(", "))
}

// === impl Exit ===

impl Exit {
    fn config(lines: impl IntoIterator<Item = String>) -> Self {
        Self { lines: lines.into_iter().collect(), code: EXIT_CONFIG }
    }

    fn problems(problems: &Problems) -> Self {
        Self::config(problems.0.iter().map(ToString::to_string))
    }

    #[allow(clippy::needless_pass_by_value, reason = "for map_err")]
    fn failed(error: impl std::error::Error) -> Self {
        Self { lines: vec![format!("loadtest: {error}")], code: EXIT_FAILED }
    }
}

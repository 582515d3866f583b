//! A row's block of text, and its place in benches/README.md.

use std::path::Path;
use std::process::Command;

use crate::common::machine;
use crate::options::Options;
use crate::rows::{Row, Shape};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/README.md");
const BEGIN: &str = "<!-- benches/compare/run --write: from here -->\n";
const END: &str = "<!-- benches/compare/run --write: to here -->\n";
const HEADING: &str = "### ";

/// With all that somebody needs to know to measure it again.
pub(crate) fn block(row: Row, options: &Options, load_before: &str, table: &str) -> String {
    let rounds = match row.shape() {
        Shape::Resting => "once".to_owned(),
        _ => format!("medians of {} interleaved rounds of {} s", options.rounds, options.seconds),
    };
    let (date, commit) = (said("date", &["-u", "+%-d %B %Y %H:%M UTC"]), commit());
    let (haproxy, nginx) = (version("haproxy", "version "), version("nginx", "nginx/"));
    format!(
        "{HEADING}{}: {}\n\n`{}`: {rounds}; {date}, {}; load {load_before} before, {} after; pilotlight {commit}, HAProxy {haproxy}, nginx {nginx}.\n\n{table}",
        row.name(),
        row.what(),
        options.command(row),
        machine::name(),
        machine::load(),
    )
}

/// Replaces the row's earlier block between the marks; rows keep the order of [`Row::all`].
pub(crate) fn write(row: Row, block: &str) {
    let text = std::fs::read_to_string(FILE).unwrap();
    let (head, rest) = text.split_once(BEGIN).unwrap_or_else(|| panic!("{FILE} lacks {BEGIN}"));
    let (blocks, tail) = rest.split_once(END).unwrap_or_else(|| panic!("{FILE} lacks {END}"));
    let blocks: Vec<&str> = blocks.split(HEADING).skip(1).map(str::trim_end).collect();
    let of = |row: Row| {
        let name = format!("{}: ", row.name());
        blocks.iter().find(|block| block.starts_with(&name)).map(|block| format!("{HEADING}{block}\n"))
    };
    let all: Vec<String> = Row::all()
        .iter()
        .filter_map(|one| if *one == row { Some(block.to_owned()) } else { of(*one) })
        .collect();
    let text = format!("{head}{BEGIN}\n{}\n{END}{tail}", all.join("\n"));
    let temporary = Path::new(FILE).with_extension("md.new");
    std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, FILE)).unwrap();
}

/// And how it was built: `target/PROFILE/deps/compare-…`.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let mut all = vec!["-C", env!("CARGO_MANIFEST_DIR")];
        all.extend(arguments);
        said("git", &all)
    };
    let commit = git(&["describe", "--always"]);
    // Only of what makes the program: this bench itself writes to the README.
    let changed = !git(&["status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock"]).is_empty();
    let changed = if changed { " with changes" } else { "" };
    let this = std::env::current_exe().unwrap();
    let profile = this.ancestors().nth(2).and_then(Path::file_name).unwrap_or_default();
    format!("{commit}{changed} ({})", profile.display())
}

fn version(program: &str, before: &str) -> String {
    let said = said(program, &["-v"]);
    let version = said.split_once(before).and_then(|(_, rest)| rest.split_whitespace().next());
    version.unwrap_or("?").to_owned()
}

/// The first line that a program says; nginx says it to standard error.
fn said(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return String::new() };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}

//! What the benches share: the programs that they measure, numbers, and a word on the machine.
#![allow(dead_code, reason = "each bench uses its part")]

pub(crate) mod cpu;
pub(crate) mod machine;
pub(crate) mod path;
pub(crate) mod samples;
pub(crate) mod wrk;

use std::path::Path;
use std::process::Command;

use pilotlight::clock;

/// Builds testapp with the profile of this bench: `cargo bench` builds programs, but not examples.
pub(crate) fn build_testapp() {
    let this = std::env::current_exe().expect("this program has a path");
    let profile = this.ancestors().nth(2).and_then(Path::file_name).expect("target/PROFILE/deps/BENCH");
    let profile = profile.to_str().expect("profiles have plain names");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--example", "testapp", "--profile"]);
    build.arg(if profile == "debug" { "dev" } else { profile });
    build.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    assert!(build.status().is_ok_and(|status| status.success()), "testapp does not build");
}

/// A whole bench that has testapp as its app.
pub(crate) fn with_testapp(bench: impl Future<Output = ()>) {
    build_testapp();
    machine::print();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(bench);
}

/// Times that everything is repeated: `BENCH_ROUNDS`, or what the bench finds right.
pub(crate) fn rounds(usual: usize) -> usize {
    std::env::var("BENCH_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// Nanoseconds of `CLOCK_REALTIME`, the clock of testapp's records.
pub(crate) fn wall_ns() -> u64 {
    let since = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).expect("it is not the year 2554")
}

/// From `from` to `to`, in milliseconds; below zero when the clocks of two processes say so.
#[allow(clippy::cast_possible_wrap, reason = "differences of nanoseconds of this century")]
pub(crate) fn ms_between(from: u64, to: u64) -> f64 {
    (to as i64 - from as i64) as f64 / 1e6
}

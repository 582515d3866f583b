//! The `pilotlight` program. All of it is in the library: see [`pilotlight::app`].

use std::process::ExitCode;

fn main() -> ExitCode {
    pilotlight::app::run(std::env::args_os())
}

//! `pilotlight validate`: says of every problem in every file where it is and what is allowed.

use std::process::ExitCode;

use super::EXIT_CONFIG;
use crate::config::flags::ValidateConfig;
use crate::config::load;

/// Prints the problems, or what is sound.
pub fn run(config: &ValidateConfig) -> ExitCode {
    match load::load(&config.files) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            let (services, files) = (loaded.services.len(), loaded.files.len());
            println!("sound: {services} services in {files} files");
            ExitCode::SUCCESS
        }
        Err(problems) => {
            for problem in &problems.0 {
                eprintln!("{problem}");
            }
            eprintln!("{} problems", problems.0.len());
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

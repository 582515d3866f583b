//! Runs the program and reads what it leaves.

use std::process::Command;

use serde_json::Value;

use crate::support::{LONG, Lab, Program};

/// A run that is over.
pub(crate) struct Ran {
    pub(crate) code: i32,
    /// Standard output and standard error.
    pub(crate) log: String,
    /// The file of `--json`.
    pub(crate) run: Value,
}

/// `loadtest ARGS` to its end, in the lab's directory.
pub(crate) async fn loadtest(lab: &Lab, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(args).current_dir(lab.dir());
    let mut program = Program::spawn(command, lab.dir());
    let code = program.wait(LONG).await;
    (code, program.settled_log().await)
}

/// Writes a scenario and runs it, with JSON and HTML beside it: `NAME.yaml`, `NAME.json`, `NAME.html`.
pub(crate) async fn run(lab: &Lab, name: &str, scenario: &str) -> Ran {
    let file = |ending: &str| format!("{name}.{ending}");
    std::fs::write(lab.path(&file("yaml")), scenario).unwrap();
    let args = ["run", &file("yaml"), "--json", &file("json"), "--html", &file("html")];
    let (code, log) = loadtest(lab, &args).await;
    let json = std::fs::read(lab.path(&file("json"))).unwrap_or_else(|e| panic!("{e}: {log}"));
    Ran { code, log, run: serde_json::from_slice(&json).unwrap() }
}

// === impl Ran ===

impl Ran {
    /// What was seen of one quantity of the first service, in order, repeats left out.
    pub(crate) fn seen(&self, quantity: &str) -> Vec<u64> {
        let looks = self.run["services"][0]["observed"].as_array().unwrap();
        let mut values: Vec<u64> = looks.iter().filter_map(|look| look[quantity].as_u64()).collect();
        values.dedup();
        values
    }

    /// Why nothing was seen.
    pub(crate) fn observe_errors(&self) -> &Vec<Value> {
        self.run["services"][0]["observe_errors"].as_array().unwrap()
    }
}

//! One run of the program, and what it left.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::support::Lab;

/// A run that is over.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// What `--json` wrote, if it was asked to.
    pub(crate) run: Value,
}

/// A run that goes on.
pub(crate) struct Running {
    child: Child,
    json: std::path::PathBuf,
}

/// Runs `loadtest` with these arguments to its end.
pub(crate) async fn loadtest(lab: &Lab, args: &[&str]) -> Ran {
    start(lab, args).end().await
}

/// Runs `loadtest run … --json` to its end, and checks what holds of every run.
pub(crate) async fn run(lab: &Lab, args: &[&str]) -> Ran {
    start_run(lab, args).end().await.checked()
}

/// Starts `loadtest run … --json`.
pub(crate) fn start_run(lab: &Lab, args: &[&str]) -> Running {
    let json = lab.text_path("run.json");
    start(lab, &[&["run"], args, &["--json", &json]].concat())
}

/// Runs `loadtest run … --json` with this variable to its end.
pub(crate) async fn run_with(lab: &Lab, args: &[&str], variable: (&str, &str)) -> Ran {
    let json = lab.text_path("run.json");
    let mut command = command(lab, &[&["run"], args, &["--json", &json]].concat());
    command.env(variable.0, variable.1);
    Running { child: command.spawn().unwrap(), json: json.into() }.end().await.checked()
}

fn start(lab: &Lab, args: &[&str]) -> Running {
    let json = lab.path("run.json");
    let _ = std::fs::remove_file(&json);
    Running { child: command(lab, args).spawn().unwrap(), json }
}

fn command(lab: &Lab, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(args).current_dir(lab.dir()).env("TEST_MARK", lab.dir()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

// === impl Running ===

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    pub(crate) async fn end(self) -> Ran {
        let output = self.child.wait_with_output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran {
            code: output.status.code().expect("it was not killed"),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            run: json(&self.json),
        }
    }
}

fn json(path: &Path) -> Value {
    std::fs::read(path).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap())
}

// === impl Ran ===

impl Ran {
    /// What holds of every run: no request is lost, none counts twice.
    #[track_caller]
    pub(crate) fn checked(self) -> Self {
        let run = &self.run;
        assert!(run.is_object(), "no JSON; exit code {}:\n{}\n{}", self.code, self.stdout, self.stderr);
        let phases = run["phases"].as_array().unwrap();
        let mut all = 0;
        for service in run["services"].as_array().unwrap() {
            let name = &service["name"];
            let each = service["phases"].as_array().unwrap();
            assert_eq!(each.len(), phases.len(), "{name}");
            for (totals, phase) in each.iter().zip(phases) {
                let n = |key: &str| totals[key].as_u64().unwrap();
                assert_eq!(n("sent"), n("done") + n("failed"), "{name} {phase}: {totals}");
                assert!(n("ok") <= n("done"));
                assert_eq!(totals["latency_ms"]["count"], totals["done"], "{name} {phase}");
                assert!(phase["to_s"].as_f64() >= phase["from_s"].as_f64(), "{phase}");
            }
            let sum = |of: &[&Value], key: &str| of.iter().map(|t| t[key].as_u64().unwrap()).sum::<u64>();
            let counted: Vec<&Value> =
                each.iter().zip(phases).filter(|(_, p)| p["warm_up"] == false).map(|(t, _)| t).collect();
            for key in ["sent", "done", "ok", "failed"] {
                assert_eq!(service["total"][key], sum(&counted, key), "{name}: total {key}");
            }
            let codes: u64 =
                service["codes"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
            assert_eq!(codes, sum(&counted, "sent"), "{name}: {}", service["codes"]);
            let every: Vec<&Value> = each.iter().collect();
            let seconds: Vec<&Value> = service["seconds"].as_array().unwrap().iter().collect();
            for key in ["sent", "done", "failed"] {
                assert_eq!(sum(&seconds, key), sum(&every, key), "{name}: seconds' {key}");
            }
            all += sum(&every, "sent");
        }
        assert_eq!(run["generator"]["sent"], all);
        assert_eq!(run["generator"]["late_ms"]["count"], all, "each that was sent was late or not");
        self
    }

    /// The only service, or the first.
    pub(crate) fn service(&self) -> &Value {
        &self.run["services"][0]
    }

    /// Its total.
    pub(crate) fn total(&self) -> &Value {
        &self.service()["total"]
    }

    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

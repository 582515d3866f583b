//! Decisions and averages that Knative made, replayed through the production code: no difference is allowed.
//!
//! `PILOTLIGHT_GOLDEN` names another directory of such files; `tests/golden/README.md` says what is in them.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use pilotlight::clock;
use pilotlight::config::spec::Aggregation;
use pilotlight::policy::{Decider, Knobs, Observation, Window};
use serde_json::Value;

/// What was compared, and each difference.
#[derive(Default)]
struct Tally {
    decisions: usize,
    averages: usize,
    differences: Vec<String>,
}

/// A line of a file, for messages.
struct Line<'a> {
    file: &'a str,
    number: usize,
    value: Value,
}

#[test]
fn nothing_differs_from_knative() {
    let dir = env::var_os("PILOTLIGHT_GOLDEN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"), PathBuf::from);
    let tally = replay_all(&dir);
    println!("{}: {} decisions and {} averages compared", dir.display(), tally.decisions, tally.averages);
    assert!(tally.decisions + tally.averages > 0, "nothing to compare in {}", dir.display());
    let shown = tally.differences.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(tally.differences.is_empty(), "{} differences, the first:\n{shown}", tally.differences.len());
}

#[test]
fn a_difference_is_found_and_named() {
    let line =
        |value: &str| Line { file: "f", number: 7, value: serde_json::from_str(value).expect("sound") };
    let mut tally = Tally::default();
    replay(
        &line(
            r#"{"window_s":6,"granularity_s":1,"steps":[{"t":1,"record":2.5,"linear":2.51,"weighted_exponential":1.96,"empty":true}]}"#,
        ),
        &mut tally,
    );
    assert_eq!(tally.differences[0], "f:7 step 0 (t = 1): linear: expected 2.51, got 2.5");
    assert_eq!(tally.differences.len(), 4, "{:?}", tally.differences);
}

#[test]
#[should_panic(expected = "f:1: neither decisions nor windows")]
fn an_unknown_kind_is_refused() {
    let line = Line { file: "f", number: 1, value: serde_json::json!({"steps": [{"t": 0}]}) };
    replay(&line, &mut Tally::default());
}

fn replay_all(dir: &Path) -> Tally {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut files: Vec<_> = entries.map(|e| e.expect("a readable directory").path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "jsonl"));
    files.sort();
    let mut tally = Tally::default();
    for path in files {
        let file = &path.display().to_string();
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
        for (i, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            let number = i + 1;
            let value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{file}:{number}: {e}"));
            replay(&Line { file, number, value }, &mut tally);
        }
    }
    tally
}

fn replay(line: &Line, tally: &mut Tally) {
    let steps = line.value["steps"].as_array().filter(|steps| !steps.is_empty());
    match steps {
        Some(steps) if line.value["spec"].is_object() && steps[0].get("desired").is_some() => {
            replay_decisions(line, steps, tally);
        }
        Some(steps) if line.value["window_s"].is_number() && steps[0].get("linear").is_some() => {
            replay_windows(line, steps, tally);
        }
        _ => panic!("{}:{}: neither decisions nor windows, or no steps", line.file, line.number),
    }
}

fn replay_decisions(line: &Line, steps: &[Value], tally: &mut Tally) {
    let spec = &line.value["spec"];
    let knobs = Knobs {
        target: line.number(spec, "target"),
        total: line.number(spec, "total"),
        stable_window: line.seconds(spec, "stable_window_s"),
        panic_threshold: line.number(spec, "panic_threshold"),
        max_up_rate: line.number(spec, "max_up_rate"),
        max_down_rate: line.number(spec, "max_down_rate"),
        activation: line.count(spec, "activation_scale"),
        scale_down_delay: line.seconds(spec, "scale_down_delay_s"),
        burst_capacity: line.number(spec, "target_burst_capacity"),
        reachable: line.flag(spec, "reachable"),
    };
    let epoch = clock::now();
    let made = epoch + line.seconds(&steps[0], "t");
    let mut decider = Decider::new(epoch, knobs, made, line.count(spec, "initially_ready"));
    for (i, step) in steps.iter().enumerate() {
        let seen = Observation {
            stable: Some(line.number(step, "stable")),
            panic: Some(line.number(step, "panic")),
            ready: line.count(step, "ready"),
        };
        let got = decider.decide(epoch + line.seconds(step, "t"), &seen).expect("there are averages");
        let mut same = |field: &str, expected: f64, got: f64| {
            if (expected - got).abs() > 0.0 {
                tally.differences.push(line.difference(i, step, field, &expected, &got));
            }
        };
        same("desired", line.number(step, "desired"), f64::from(got.desired));
        same("excess_burst", line.number(step, "excess_burst"), got.excess_burst as f64);
        same("in_panic", f64::from(line.flag(step, "in_panic")), f64::from(got.in_panic));
        tally.decisions += 1;
    }
}

fn replay_windows(line: &Line, steps: &[Value], tally: &mut Tally) {
    let span = line.seconds(&line.value, "window_s");
    let granularity = line.count(&line.value, "granularity_s");
    let epoch = clock::now();
    let window = |aggregation| Window::with_granularity(epoch, span, u64::from(granularity), aggregation);
    let mut linear = window(Aggregation::Linear);
    let mut weighted = window(Aggregation::WeightedExponential);
    for (i, step) in steps.iter().enumerate() {
        let now: Instant = epoch + line.seconds(step, "t");
        if !step["record"].is_null() {
            let value = line.number(step, "record");
            linear.record(now, value);
            weighted.record(now, value);
        }
        for (field, window) in [("linear", &linear), ("weighted_exponential", &weighted)] {
            let (expected, got) = (line.number(step, field), window.average(now).unwrap_or(0.0));
            // There is no difference at all, but serde_json may read the last bit of a long number wrong.
            if (expected - got).abs() > 1e-9_f64.max(expected.abs() * 1e-12) {
                tally.differences.push(line.difference(i, step, field, &expected, &got));
            }
            let (expected, got) = (line.flag(step, "empty"), window.is_empty(now));
            if expected != got {
                tally.differences.push(line.difference(
                    i,
                    step,
                    &format!("empty ({field})"),
                    &expected,
                    &got,
                ));
            }
            tally.averages += 1;
        }
    }
}

// === impl Line ===

impl Line<'_> {
    fn number(&self, of: &Value, field: &str) -> f64 {
        of[field].as_f64().unwrap_or_else(|| self.unreadable(of, field))
    }

    fn seconds(&self, of: &Value, field: &str) -> Duration {
        Duration::try_from_secs_f64(self.number(of, field)).unwrap_or_else(|_| self.unreadable(of, field))
    }

    fn count(&self, of: &Value, field: &str) -> u32 {
        of[field].as_u64().and_then(|n| n.try_into().ok()).unwrap_or_else(|| self.unreadable(of, field))
    }

    fn flag(&self, of: &Value, field: &str) -> bool {
        of[field].as_bool().unwrap_or_else(|| self.unreadable(of, field))
    }

    fn unreadable(&self, of: &Value, field: &str) -> ! {
        panic!("{}:{}: {field} is {} in {of}", self.file, self.number, of[field])
    }

    fn difference(
        &self,
        step: usize,
        at: &Value,
        what: &str,
        expected: &dyn Debug,
        got: &dyn Debug,
    ) -> String {
        let Self { file, number, .. } = self;
        format!("{file}:{number} step {step} (t = {}): {what}: expected {expected:?}, got {got:?}", at["t"])
    }
}

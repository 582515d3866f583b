//! What is wrong is said: where, what was given, what is allowed; all of it in one run.

use crate::ran::loadtest;
use crate::support::Lab;

const WRONG: &str = "\
name: wrong
sed: 1
limits: {open: 0, requests: many}
services:
  - name: a
    url: nowhere
    protocol: http3
    body: {text: x, json: {}}
    timeout: soon
    thresholds: {p98: 1s, errors: 101%}
  - name: b
    url: http://127.0.0.1/{{idx}}
    headers: {Host: x}
    grpc: {method: a.B/C}
  - name: b
    url: http://127.0.0.1/
    load: [{waitForZero: 1m}]
load:
  - {constant: 5}
  - {ramp: {from: 1}, for: 1s}
  - {burst: 1, poisson: 2, for: 1s}
  - {trace: {file: none.csv}}
  - {onOff: {rate: 1, on: 1s, off: 1s}, for: -1s}
";

#[tokio::test]
async fn every_mistake_of_a_file_with_its_place() {
    let lab = Lab::new();
    std::fs::write(lab.path("w.yaml"), WRONG).unwrap();
    for command in ["validate", "run"] {
        let ran = loadtest(&lab, &[command, "w.yaml"]).await.exits(64);
        for line in [
            "w.yaml:2:1: sed: unknown field; allowed: did you mean seed?",
            "w.yaml:3:16: limits.open: the number 0; allowed: a whole number from 1 to 100000",
            "w.yaml:3:29: limits.requests: the text \"many\"",
            "w.yaml:6:10: services[0].url: the text \"nowhere\"; allowed: http://HOST[:PORT][/PATH]",
            "w.yaml:7:15: services[0].protocol: the text \"http3\"; allowed: http1, h2c, h2, grpc, sse, websocket",
            "w.yaml:8:11: services[0].body: a map; allowed: one of text, file, template",
            "w.yaml:9:14: services[0].timeout: the text \"soon\"; allowed: a duration",
            "w.yaml:10:18: services[0].thresholds.p98: unknown field; allowed: did you mean p9",
            "w.yaml:10:35: services[0].thresholds.errors: the text \"101%\"; allowed: a percentage from 0% to 100%",
            "w.yaml:12:10: services[1].url: {{idx}}; allowed: {{index}}",
            "w.yaml:13:21: services[1].headers.Host: the header Host; allowed: `host` for Host",
            "w.yaml:14:11: services[1].grpc: `grpc` without protocol grpc",
            "w.yaml:15:5: services[2]: waitForZero, but no `observe`",
            "w.yaml:19:5: load[0]: no `for`",
            "w.yaml:20:12: load[1].ramp.to: missing",
            "w.yaml:21:5: load[2]: poisson and burst in one phase; allowed: one load in each phase",
            "w.yaml:22:13: load[3].trace: ./none.csv: No such file",
            "w.yaml:23:46: load[4].for: the text \"-1s\"; allowed: a duration",
        ] {
            assert!(ran.stderr.contains(line), "{line}\n{}", ran.stderr);
        }
        assert_eq!(ran.stdout, "");
    }
}

#[tokio::test]
async fn flags_and_files_that_are_not_there() {
    let lab = Lab::new();
    for (args, said) in [
        (&["run", "none.yaml"][..], "none.yaml: No such file"),
        (&["run"], "--url: missing; allowed: a scenario, or --url URL --rate N --duration D"),
        (
            &["run", "--url", "x", "--rate", "0", "--duration", "now"],
            "command line: --duration: the text \"now\"",
        ),
        (&["run", "--url", "x", "--rate", "0", "--duration", "now"], "command line: --url: the text \"x\""),
        (&["run", "constant", "--rate", "5"], "--rate: given with the scenario constant"),
        (&["run", "constant", "--url", "nowhere"], "--url: \"nowhere\"; allowed: http://"),
        (&["run", "constant", "--time-scale", "0"], "--time-scale: 0; allowed"),
        (&["run", "constant", "--set", "load[9].for=1s"], "--set load[9].for: [9] of a list of 2"),
        (
            &["run", "constant", "--set", "load[0].fro=1s"],
            "load[0].fro: unknown field; allowed: did you mean for?",
        ),
        (&["run", "constant", "--set", "nothing"], "not FIELD=VALUE"),
        (&["scenarios", "none"], "no built-in scenario \"none\"; allowed: constant"),
        (&["bench"], "unrecognized subcommand"),
    ] {
        let ran = loadtest(&lab, args).await.exits(64);
        assert!(ran.stderr.contains(said), "{said}\n{}", ran.stderr);
    }
}

#[tokio::test]
async fn a_target_that_is_not_there() {
    let lab = Lab::new();
    let args = ["run", "--url", "http://127.0.0.1:1/", "--rate", "10", "--duration", "500ms", "--quiet"];
    let ran = loadtest(&lab, &args).await.exits(2);
    let said = "no request was answered:\n  url at http://127.0.0.1:1/: connect: Connection refused";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}

#[tokio::test]
async fn help_says_what_matters() {
    let lab = Lab::new();
    let help = loadtest(&lab, &["--help"]).await.exits(0).stdout;
    for word in ["run", "validate", "compare", "scenarios", "Exit code", "130"] {
        assert!(help.contains(word), "{word}\n{help}");
    }
    let help = loadtest(&lab, &["run", "--help"]).await.exits(0).stdout;
    for word in ["--json", "--html", "--time-scale", "--set", "--rate", "Examples"] {
        assert!(help.contains(word), "{word}\n{help}");
    }
    loadtest(&lab, &["--version"]).await.exits(0);
}

//! Processes that leave their replica's group, and what else may outlive a replica.

use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::support::{
    Call, LONG, Lab, Program, SOON, Serve, Yaml, alive, holds, host, testapp_path, wait_until,
};

/// A service whose shell runs `first` and then becomes testapp; `$0` in it is a program that sleeps and carries the
/// lab's directory in its name, since its environment may be cleared.
fn shell(lab: &Lab, name: &str, first: &str) -> Yaml {
    let stray = lab.text_path("stray");
    let _ = std::os::unix::fs::symlink("/bin/sleep", &stray);
    let app = testapp_path().to_str().unwrap();
    let record = lab.text_path(&format!("{name}.jsonl"));
    let script = format!("{first}\nexec {app} --port $PORT --record {record}");
    lab.app(name).command(&["sh", "-c", &script, &stray])
}

async fn strays(lab: &Lab, count: usize) -> Vec<u32> {
    wait_until(SOON, format!("{count} strays"), async || {
        let stray = lab.text_path("stray");
        let all = lab.processes();
        let pids: Vec<u32> = all.iter().filter(|p| p.command.starts_with(&stray)).map(|p| p.pid).collect();
        if pids.len() == count { Ok(pids) } else { Err(format!("{all:?}")) }
    })
    .await
}

async fn gone(what: &str, pids: &[u32]) {
    wait_until(SOON, what, async || {
        let left: Vec<_> = pids.iter().filter(|pid| alive(**pid)).collect();
        holds(left.is_empty(), format!("{left:?}"))
    })
    .await;
}

const LEAVES: &str = "setsid env -i $0 777 &";
/// Nothing is left to know it by: no environment, no group, no parent, no pipe.
const VANISHES: &str = "(setsid env -i $0 777 >/dev/null 2>&1 &)";

async fn with_a_stray(lab: &Lab, first: &str) -> (Serve, u32) {
    let serve = lab.services(&[&shell(lab, "iris", first)]).serve().start().await;
    assert_eq!(serve.get("iris", "/").await.status, 200);
    let pid = strays(lab, 1).await[0];
    (serve, pid)
}

#[tokio::test]
async fn who_leaves_the_group_ends_with_the_program() {
    for first in [LEAVES, VANISHES, "setsid $0 777 &"] {
        let lab = Lab::new();
        let (mut serve, _) = with_a_stray(&lab, first).await;
        assert_eq!(serve.terminate().await, 0);
        lab.until_empty().await;
    }
}

#[tokio::test]
async fn who_leaves_the_group_ends_with_its_replica() {
    for first in [LEAVES, VANISHES] {
        let lab = Lab::new();
        let (serve, pid) = with_a_stray(&lab, first).await;
        serve.wait_zero(&lab, "iris").await;
        assert!(!alive(pid), "at zero nothing is left");
        wait_until(SOON, "it is reaped", async || match crate::support::zombies(serve.pid()) {
            0 => Ok(()),
            n => Err(n),
        })
        .await;
    }
}

#[tokio::test]
async fn who_leaves_the_group_ends_with_a_leader_that_crashes() {
    for first in [LEAVES, VANISHES] {
        let lab = Lab::new();
        let (serve, pid) = with_a_stray(&lab, first).await;
        serve.get("iris", "/crash").await.error(502, "iris");
        gone("the crashed one's stray", &[pid]).await;
    }
}

#[tokio::test]
async fn who_leaves_the_group_is_asked_first() {
    let lab = Lab::new();
    let bye = lab.text_path("bye");
    let polite = format!(
        "setsid env -i sh -c 'trap \"echo bye > {bye}; exit 0\" TERM; echo > {bye}.up; \
         while :; do sleep 0.05; done' {bye} &"
    );
    let mut serve = lab.services(&[&shell(&lab, "iris", &polite)]).serve().start().await;
    assert_eq!(serve.get("iris", "/").await.status, 200);
    let up = lab.path("bye.up");
    wait_until(SOON, "it runs", async || holds(up.exists(), "no")).await;
    assert_eq!(serve.terminate().await, 0);
    assert_eq!(std::fs::read_to_string(&bye).unwrap(), "bye\n");
    lab.until_empty().await;
}

#[tokio::test]
async fn after_sigkill_the_next_one_finds_who_left_the_group() {
    // The last one holds nothing but the replica's log open: that is enough.
    for first in [LEAVES, "(setsid env -i $0 777 &)"] {
        let lab = Lab::new();
        let (mut serve, pid) = with_a_stray(&lab, first).await;
        serve.signal(Signal::KILL);
        serve.wait(SOON).await;
        assert!(alive(pid));
        let _serve = lab.serve().start().await;
        gone("the killed one's stray", &[pid]).await;
    }
}

#[tokio::test]
async fn other_replicas_strays_are_let_be() {
    let lab = Lab::new();
    let stays = shell(&lab, "stays", VANISHES).set("scaling.min", 1);
    let goes = shell(&lab, "goes", "");
    let serve = lab.services(&[&stays, &goes]).serve().start().await;
    let pid = strays(&lab, 1).await[0];
    assert_eq!(serve.get("goes", "/").await.status, 200);
    serve.wait_service("goes", "at zero", |s| s["state"] == "zero" && s["replicas"] == json!([])).await;
    assert!(alive(pid), "its replica still runs");
    drop(serve);
}

#[tokio::test]
async fn a_server_that_becomes_a_daemon_under_a_living_leader_is_its_own() {
    let lab = Lab::new();
    let record = lab.text_path("iris.jsonl");
    let app = testapp_path().to_str().unwrap();
    for (name, redirect) in [("marked", ">/dev/null 2>&1"), ("cleared", "")] {
        let clear = if redirect.is_empty() { "env -i" } else { "" };
        let script =
            format!("(setsid {clear} {app} --port $PORT --record {record} {redirect} &)\nexec sleep 3600");
        let service = lab.app(name).command(&["sh", "-c", &script]);
        let mut serve = lab.services(&[&service]).serve().start().await;
        let reply = serve.get(name, "/").await;
        assert_eq!(reply.status, 200, "{name}: {reply}");
        assert_eq!(serve.terminate().await, 0);
        lab.until_empty().await;
    }
}

#[tokio::test]
async fn a_builder_leaves_nothing() {
    let lab = Lab::new();
    let uv = lab.path("bin/uv");
    std::fs::create_dir(lab.path("bin")).unwrap();
    let stray = lab.text_path("stray");
    std::os::unix::fs::symlink("/bin/sleep", &stray).unwrap();
    let text = format!("#!/bin/sh\n(setsid {stray} 777 >/dev/null 2>&1 &)\nsetsid {stray} 778 &\nwait\n");
    std::fs::write(&uv, text).unwrap();
    std::fs::set_permissions(&uv, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let iris = lab.app("iris").set("process.python", json!({ "requirements": ["x"] }));
    lab.services(&[&iris]);
    let path = format!("{}:{}", lab.text_path("bin"), std::env::var("PATH").unwrap());
    let mut program = lab.pilotlight_with(&arguments(&lab, "state"), &[("PATH", &path)]);
    strays(&lab, 2).await;
    assert_eq!(program.terminate().await, 0);
    lab.until_empty().await;
}

fn arguments(lab: &Lab, state: &str) -> Vec<&'static str> {
    let [services, state] = ["services", state].map(|name| &*lab.text_path(name).leak());
    let own = ["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--service-ports", "off"];
    [&own[..], &["-f", services, "--state-dir", state]].concat()
}

#[tokio::test]
async fn a_copied_state_directory_is_another_one() {
    let lab = Lab::new();
    let first = lab.services(&[&lab.app("iris").set("scaling.min", 1)]).serve().start().await;
    assert_eq!(first.get("iris", "/").await.status, 200);
    let before: Vec<u32> = lab.replicas().iter().map(|p| p.pid).collect();
    let copy = Command::new("cp").arg("-r").args([lab.path("state"), lab.path("state2")]).status();
    assert!(copy.unwrap().success());
    let mut second = lab.pilotlight(&arguments(&lab, "state2"));
    let traffic = second.listening("traffic").await;
    assert_eq!(Call::get(&host("iris"), "/").send(traffic).await.unwrap().status, 200);
    assert!(before.iter().all(|pid| alive(*pid)), "the first one's replicas were killed");
    assert_eq!(first.get("iris", "/").await.status, 200);
    assert_eq!(second.terminate().await, 0);
    assert!(before.iter().all(|pid| alive(*pid)), "the first one's replicas were killed at the end");
}

#[tokio::test]
async fn a_replica_that_still_starts_is_asked_to_end() {
    let lab = Lab::new();
    let gate = lab.gate("never");
    let iris = lab.app("iris").set("scaling.min", 1).set("readiness.httpGet.path", "/ready");
    let iris = iris.args(["--ready-gate", &*gate]);
    let mut serve = lab.services(&[&iris]).serve().start().await;
    wait_until(LONG, "it listens", async || holds(!lab.events("iris", "listen").is_empty(), "no")).await;
    assert_eq!(serve.terminate().await, 0);
    assert_eq!(lab.events("iris", "term").len(), 1, "it was asked first");
    lab.until_empty().await;
}

#[tokio::test]
async fn a_replica_has_the_limit_of_open_files_that_serve_was_given() {
    let lab = Lab::new();
    let files = lab.text_path("files");
    let iris = shell(&lab, "iris", &format!("ulimit -Sn > {files}; ulimit -Hn >> {files}"));
    lab.services(&[&iris.set("scaling.min", 1)]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 600; ulimit -Hn 4000; exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_pilotlight")).args(arguments(&lab, "state"));
    let mut serve = Program::spawn(command, lab.dir());
    serve.listening("traffic").await;
    wait_until(LONG, "it listens", async || holds(!lab.events("iris", "listen").is_empty(), "no")).await;
    assert_eq!(std::fs::read_to_string(&files).unwrap(), "600\n4000\n");
    let own = std::fs::read_to_string(format!("/proc/{}/limits", serve.pid())).unwrap();
    let own = own.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(own.split_whitespace().nth(3), Some("4000"), "serve's own is raised: {own}");
    assert_eq!(serve.terminate().await, 0);
}

#[tokio::test]
async fn a_failed_starts_log_says_how_it_ended() {
    let lab = Lab::new();
    let iris = lab.app("iris").command(&["sh", "-c", "echo no model; exit 7"]);
    let serve = lab.services(&[&iris]).serve().start().await;
    serve.get("iris", "/").await.error(503, "iris");
    let log = serve.admin("/api/services/default/iris/logs").await.text();
    assert!(log.contains("no model") && log.contains("pilotlight: exit status 7"), "{log}");
}

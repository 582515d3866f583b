//! Commands that do not start, and that start after all.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{LONG, Lab, Serve, testapp_path, wait_until};

/// Writes an executable script, whole or not at all: a kernel that finds it open for writing says "text file busy".
fn script(path: &Path, body: &str) {
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

async fn answers_at_last(serve: &Serve, service: &str) {
    wait_until(LONG, "a later attempt succeeds", async || {
        let reply = serve.get(service, "/").await;
        if reply.status == 200 {
            return Ok(());
        }
        assert_eq!(reply.status, 503, "{reply}");
        Err(reply)
    })
    .await;
}

#[tokio::test]
async fn exit_status_in_the_answer_and_log_in_the_api() {
    let lab = Lab::new();
    let program = lab.path("app.sh");
    script(&program, "echo boot >> starts; echo the model is not there >&2; exit 7");
    let iris = lab.app("iris").command(&["./app.sh", "$(PORT)"]).set("process.workingDir", lab.text_path(""));
    let serve = lab.services(&[&iris]).serve().start().await;
    let starts = || std::fs::read_to_string(lab.path("starts")).unwrap_or_default().lines().count();
    let refused = serve.get("iris", "/").await;
    let message = refused.error(503, "iris");
    assert!(message.contains('7'), "the exit status: {message}");
    assert!(refused.header("retry-after").parse::<u64>().is_ok(), "{refused}");
    assert_eq!(starts(), 3, "three failed starts in a row, then the waiters are told");
    let log = serve.admin("/api/services/default/iris/logs").await;
    assert!(log.status == 200 && log.text().contains("the model is not there"), "{log}");
    assert_eq!(serve.service("iris").await["state"], "failing");
    // Backing off: requests do not make attempts.
    for _ in 0..50 {
        serve.get("iris", "/").await.error(503, "iris");
    }
    assert!(starts() < 15, "{} starts for 51 requests", starts());
    let run = format!("exec {} --port $1", testapp_path().display());
    script(&program, &run);
    answers_at_last(&serve, "iris").await;
    assert_eq!(serve.service("iris").await["state"], "ready");
}

#[tokio::test]
async fn a_command_that_is_not_there_fails_at_once_and_may_appear() {
    let lab = Lab::new();
    let program = lab.path("late");
    let iris = lab.app("iris").command(&[program.to_str().unwrap(), "--port", "$(PORT)"]);
    let serve = lab.services(&[&iris]).serve().start().await;
    let message = serve.get("iris", "/").await.error(503, "iris");
    assert!(message.contains("late"), "which program: {message}");
    std::os::unix::fs::symlink(testapp_path(), &program).unwrap();
    answers_at_last(&serve, "iris").await;
}

#[tokio::test]
async fn a_command_that_is_not_executable_fails_at_once() {
    let lab = Lab::new();
    let program = lab.path("data.txt");
    std::fs::write(&program, "not a program").unwrap();
    let serve = lab.services(&[&lab.app("iris").command(&[program.to_str().unwrap()])]).serve().start().await;
    let message = serve.get("iris", "/").await.error(503, "iris");
    assert!(message.contains("data.txt"), "which program: {message}");
}

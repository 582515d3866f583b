use std::future::Future;

use super::*;

const SOON: Duration = Duration::from_secs(20);

fn sh(script: &str) -> (Launch, LogSink) {
    let log = LogSink::memory();
    let launch = Launch {
        argv: vec!["sh".into(), "-c".into(), script.into()],
        env: vec![],
        env_remove: vec![],
        working_dir: "/".into(),
        log: log.clone(),
    };
    (launch, log)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    soon(wait).await.unwrap_or_else(|| panic!("not in time: {what}"));
}

async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(SOON, future).await.ok()
}

async fn printed(log: &LogSink, text: &str) {
    until(text, || log.last_lines(99).contains(text)).await;
}

fn alive(pid: i32) -> bool {
    procfs::stat(pid).is_some_and(|stat| stat.alive())
}

/// The process ids that the script printed.
fn pids(log: &LogSink) -> Vec<i32> {
    log.last_lines(99).split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[tokio::test]
async fn says_how_it_ended_and_keeps_what_it_printed() {
    let (mut launch, log) = sh("echo $A $B; echo err >&2; pwd; exit 3");
    launch.env = vec![("A".into(), "x".into()), ("A".into(), "1".into()), ("B".into(), "2".into())];
    let mut child = Child::spawn(launch).unwrap();
    assert_eq!(soon(child.exited()).await, Some(Exit::Code(3)));
    assert_eq!(soon(child.exited()).await, Some(Exit::Code(3)), "asked again");
    assert_eq!(child.exit(), Some(Exit::Code(3)));
    assert!(log.settled(SOON).await);
    assert_eq!(log.last_lines(9), "1 2\nerr\n/");

    let mut child = Child::spawn(sh("kill -SEGV $$").0).unwrap();
    assert_eq!(soon(child.exited()).await, Some(Exit::Signal(11)));
    child.kill(); // long gone: hits nobody
}

#[tokio::test]
async fn waiting_may_be_interrupted() {
    let (launch, log) = sh("echo up; read x < /dev/null; sleep 60");
    let mut child = Child::spawn(launch).unwrap();
    printed(&log, "up").await;
    for _ in 0..5 {
        assert!(tokio::time::timeout(Duration::from_millis(1), child.exited()).await.is_err());
    }
    child.kill();
    assert_eq!(soon(child.exited()).await, Some(Exit::Signal(9)));
}

#[tokio::test]
async fn grandchildren_die_when_the_leader_ends_by_itself() {
    let (launch, log) =
        sh("(trap '' TERM; sleep 60 & echo $!; wait) & sleep 60 & echo $!; sleep 0.05; exit 0");
    let mut child = Child::spawn(launch).unwrap();
    until("two grandchildren", || pids(&log).len() == 2).await;
    assert_eq!(soon(child.exited()).await, Some(Exit::Code(0)));
    for pid in pids(&log) {
        until("grandchild gone", || !alive(pid)).await;
    }
}

#[tokio::test]
async fn an_app_that_ignores_sigterm_is_killed_after_the_grace() {
    let (launch, log) = sh("trap '' TERM; echo up; while :; do sleep 0.05; done");
    let mut child = Child::spawn(launch).unwrap();
    printed(&log, "up").await;
    let start = clock::now();
    assert_eq!(soon(child.terminate(Duration::from_millis(100))).await, Some(Exit::Signal(9)));
    assert!(clock::now() - start >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_polite_app_gets_its_time_even_behind_a_shell() {
    let (launch, log) = sh(
        "sh -c 'trap \"sleep 0.2; echo cleaned up; exit 0\" TERM; echo up; while :; do sleep 0.01; done' & wait",
    );
    let mut child = Child::spawn(launch).unwrap();
    printed(&log, "up").await;
    let start = clock::now();
    assert_eq!(soon(child.terminate(SOON)).await, Some(Exit::Signal(15)));
    assert!(clock::now() - start < SOON / 2);
    assert!(log.settled(SOON).await);
    assert!(log.last_lines(9).contains("cleaned up"), "{}", log.last_lines(9));
}

#[tokio::test]
async fn dropping_kills_the_group_and_reaps() {
    let (launch, log) = sh("sleep 60 & echo $! $$; wait");
    let child = Child::spawn(launch).unwrap();
    until("both run", || pids(&log).len() == 2).await;
    let leader = child.pid();
    assert!(pids(&log).contains(&leader), "the group's id is the leader's");
    drop(child);
    until("reaped", || procfs::stat(leader).is_none()).await;
    for pid in pids(&log) {
        until("killed", || !alive(pid)).await;
    }
}

#[tokio::test]
async fn what_leaves_the_group_and_clears_its_environment_goes_with_it() {
    let leaves = "setsid env -i sh -c 'echo $$; exec sleep 60' >/dev/stdout & sleep 60";
    for (script, end) in [(leaves, "terminate"), (leaves, "kill"), (leaves, "drop"), ("", "crash")] {
        let double_forked =
            "(setsid env -i sh -c 'echo $$; exec sleep 60' &); read x < /dev/null; sleep 0.2; exit 3";
        let (launch, log) = sh(if script.is_empty() { double_forked } else { script });
        let mut child = Child::spawn(launch).unwrap();
        until("it has left", || pids(&log).len() == 1).await;
        let stray = pids(&log)[0];
        until("in a session of its own", || procfs::stat(stray).is_some_and(|stat| stat.group == stray))
            .await;
        match end {
            "terminate" => assert_eq!(soon(child.terminate(SOON)).await, Some(Exit::Signal(15))),
            "kill" => {
                child.kill();
                assert_eq!(soon(child.exited()).await, Some(Exit::Signal(9)));
            }
            "drop" => drop(child),
            _ => assert_eq!(soon(child.exited()).await, Some(Exit::Code(3))),
        }
        until(end, || !alive(stray)).await;
    }
}

#[tokio::test]
async fn path_of_its_own_environment_counts() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/echo", dir.path().join("only-here")).unwrap();
    let (mut launch, log) = sh("");
    launch.argv = vec!["only-here".into(), "hello".into()];
    let missing = Child::spawn(launch.clone()).unwrap_err();
    assert!(matches!(missing, SpawnError::NotFound { .. }) && missing.fatal());
    launch.env = vec![("PATH".into(), dir.path().to_str().unwrap().into())];
    let mut child = Child::spawn(launch).unwrap();
    soon(child.exited()).await.unwrap();
    assert!(log.settled(SOON).await);
    assert_eq!(log.last_lines(1), "hello");
}

#[tokio::test]
async fn says_why_it_cannot_run() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in [("no-interpreter", "#!/no/such\n"), ("no-head", "echo hello\n")] {
        let file = dir.path().join(name);
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let (mut launch, _) = sh("");
        launch.argv = vec![file.to_str().unwrap().into()];
        let err = Child::spawn(launch).unwrap_err();
        assert!(matches!(err, SpawnError::NotExecutable { .. }), "{err}");
        assert!(err.fatal() && err.to_string().contains(name));
    }
    let (mut launch, _) = sh("");
    launch.env = vec![("A".into(), "nul\0".into())];
    assert!(matches!(Child::spawn(launch), Err(e @ SpawnError::Other { .. }) if e.fatal()));
    let (mut launch, _) = sh("");
    launch.argv.clear();
    assert!(matches!(Child::spawn(launch), Err(SpawnError::NotFound { .. })));
}

#[tokio::test]
async fn a_child_does_not_share_our_group_or_input() {
    let (launch, log) = sh("ps -o pgid= -p $$ 2>/dev/null || echo $$; cat; echo $$");
    let mut child = Child::spawn(launch).unwrap();
    let pid = child.pid();
    assert_eq!(soon(child.exited()).await, Some(Exit::Code(0)), "standard input is empty");
    assert!(log.settled(SOON).await);
    assert_eq!(pids(&log), [pid, pid]);
}

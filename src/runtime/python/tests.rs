use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::*;

const SOON: Duration = Duration::from_mins(2);

fn spec(requirements: &[&str], version: &str) -> PythonSpec {
    PythonSpec {
        requirements: requirements.iter().map(|r| (*r).to_owned()).collect(),
        version: version.into(),
    }
}

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Environments in `dir`, with a PATH of `dir/bin` and the system's.
fn envs(dir: &Path) -> PythonEnvs {
    let path = format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap());
    PythonEnvs::new(dir.join("envs"), vec![("PATH".to_owned(), path)])
}

/// A `uv` that is quick, needs no network and counts in `dir/built`. `before` runs before it installs.
fn fake_uv(dir: &Path, before: &str) {
    let text = format!(
        "case $1 in\n\
         venv) for last; do :; done; mkdir -p $last/bin; echo > $last/bin/python;;\n\
         pip) echo x >> {0}/built; {before}; echo Resolved 3 packages; exit 0;;\n\
         esac",
        dir.display()
    );
    script(&dir.join("bin/uv"), &text);
}

fn built(dir: &Path) -> usize {
    fs::read_to_string(dir.join("built")).map_or(0, |text| text.lines().count())
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn a_local_wheel_is_installed_and_comes_first_in_path() {
    let dir = tempfile::tempdir().unwrap();
    let wheel = wheel(dir.path());
    let envs = envs(dir.path());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&seen);
    let wanted = spec(&[wheel.to_str().unwrap()], ">=3.5");
    let env = envs.ensure(&wanted, move |progress| tell.lock().push(progress)).await.unwrap();
    let run = std::process::Command::new(env.dir().join("bin/python"))
        .args(["-c", "import flame; print(flame.HEAT)"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stdout), "451\n");
    let path = &env.env("/bin")[0];
    assert_eq!(*path, ("PATH".to_owned(), format!("{}/bin:/bin", env.dir().display())));
    {
        let seen = seen.lock();
        assert!(matches!(seen.first(), Some(Progress::Creating { .. })), "{seen:?}");
        assert!(matches!(seen.last(), Some(Progress::Done { .. })), "{seen:?}");
    }
    let again = super::PythonEnvs::new(dir.path().join("envs"), envs.env.to_vec());
    assert_eq!(again.ensure(&wanted, |p| panic!("{p:?}")).await.unwrap(), env, "it is there already");
}

#[tokio::test]
async fn a_failing_install_says_what_pip_said_and_leaves_nothing_complete() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("no-such-1.0-py3-none-any.whl");
    let envs = envs(dir.path());
    let err = envs.ensure(&spec(&[missing.to_str().unwrap()], ""), |_| {}).await.unwrap_err();
    assert!(
        matches!(&err, PythonError::Build { step: "installing", lines, .. } if lines.contains("no-such")),
        "{err}"
    );
    assert!(!err.fatal());
    for entry in fs::read_dir(dir.path().join("envs")).unwrap().flatten() {
        assert!(!entry.path().join(COMPLETE).exists());
    }
}

#[tokio::test]
async fn the_wrong_python_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("only");
    script(&bin.join("python3"), "echo pilotlight-python 3 13 1 /usr/bin/python3");
    script(&bin.join("python3.12"), "echo 'shim: python3.12: command not found' >&2; exit 127");
    script(&bin.join("python3.9"), "echo pilotlight-python 3 8 2 /opt/python3");
    let envs = PythonEnvs::new(dir.path().join("envs"), vec![("PATH".to_owned(), bin.display().to_string())]);
    let err = envs.ensure(&spec(&[], ">=3.9,<3.13"), |_| {}).await.unwrap_err();
    assert!(err.fatal());
    assert_eq!(
        err.to_string(),
        "needs Python >=3.9,<3.13; found /usr/bin/python3 3.13.1, /opt/python3 3.8.2; \
         install one, for example Python 3.12, and have it in PATH"
    );
    let err = envs.ensure(&spec(&[], "newest"), |_| {}).await.unwrap_err();
    assert!(matches!(err, PythonError::Constraint(_)) && err.fatal(), "{err}");
    let none = PythonEnvs::new(dir.path().join("envs"), vec![("PATH".to_owned(), "/no/such".to_owned())]);
    let err = none.ensure(&spec(&[], ""), |_| {}).await.unwrap_err();
    assert!(err.to_string().contains("found none in PATH"), "{err}");
}

#[tokio::test]
async fn two_tasks_share_a_build_and_two_processes_wait() {
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    fake_uv(dir.path(), &format!("while [ ! -e {} ]; do sleep 0.02; done", go.display()));
    // Two objects with one directory know as little of each other as two processes.
    let (here, there) = (envs(dir.path()), envs(dir.path()));
    let wanted = spec(&["x"], "");
    let finished = Arc::new(AtomicUsize::new(0));
    let tell = || {
        let finished = Arc::clone(&finished);
        move |progress| {
            finished.fetch_add(usize::from(matches!(progress, Progress::Done { .. })), Ordering::Relaxed);
        }
    };
    let waits = Arc::new(AtomicUsize::new(0));
    let says_so = Arc::clone(&waits);
    let other = async {
        until("a build runs", || built(dir.path()) == 1).await;
        there
            .ensure(&wanted, move |p| {
                assert!(matches!(p, Progress::Waiting { .. }), "{p:?}");
                says_so.fetch_add(1, Ordering::Relaxed);
            })
            .await
    };
    let release = async {
        until("the other says that it waits", || waits.load(Ordering::Relaxed) > 0).await;
        fs::write(&go, "").unwrap();
    };
    let all =
        async { tokio::join!(here.ensure(&wanted, tell()), here.ensure(&wanted, tell()), other, release) };
    let (a, b, c, ()) = timeout(SOON, all).await.unwrap();
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    assert!(a == b && b == c);
    assert_eq!((built(dir.path()), finished.load(Ordering::Relaxed)), (1, 2));
}

#[tokio::test]
async fn an_interrupted_build_is_killed_and_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    fake_uv(dir.path(), &format!("sleep 60 & echo $! > {}; wait", pid_file.display()));
    let envs = envs(dir.path());
    let wanted = spec(&["x"], "");
    let interrupted = {
        let read = || fs::read_to_string(&pid_file).ok()?.trim().parse::<i32>().ok();
        tokio::select! {
            done = envs.ensure(&wanted, |_| {}) => panic!("{done:?}"),
            () = until("a build runs", || read().is_some()) => read().unwrap(),
        }
    };
    let cmdline = format!("/proc/{interrupted}/cmdline");
    until("the builder is gone", || fs::read(&cmdline).map_or(true, |text| text.is_empty())).await;
    let half: Vec<PathBuf> = fs::read_dir(dir.path().join("envs"))
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    assert_eq!(half.len(), 1);
    assert!(!half[0].join(COMPLETE).exists());
    fs::write(half[0].join("leftover"), "").unwrap();

    fake_uv(dir.path(), ":");
    let env = timeout(SOON, envs.ensure(&wanted, |_| {})).await.unwrap().unwrap();
    assert_eq!(env.dir(), half[0]);
    assert!(!half[0].join("leftover").exists() && half[0].join(COMPLETE).exists());
    // A finished one that someone removed is made again too.
    fs::remove_dir_all(&half[0]).unwrap();
    envs.ensure(&wanted, |_| {}).await.unwrap();
    assert_eq!(built(dir.path()), 3);
}

/// A wheel of a package `flame` in `dir`.
fn wheel(dir: &Path) -> PathBuf {
    let make = "import sys, zipfile\n\
        z = zipfile.ZipFile(sys.argv[1], 'w')\n\
        z.writestr('flame.py', 'HEAT = 451\\n')\n\
        d = 'flame-1.0.dist-info/'\n\
        z.writestr(d + 'METADATA', 'Metadata-Version: 2.1\\nName: flame\\nVersion: 1.0\\n')\n\
        z.writestr(d + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
        z.writestr(d + 'RECORD', ''.join(n + ',,\\n' for n in ('flame.py', d + 'METADATA', d + 'WHEEL', d + 'RECORD')))\n\
        z.close()";
    let wheel = dir.join("flame-1.0-py3-none-any.whl");
    let made = std::process::Command::new("python3").args(["-c", make]).arg(&wheel).status().unwrap();
    assert!(made.success());
    wheel
}

#[tokio::test]
async fn where_uv_has_no_index_pip_is_tried() {
    for (why, falls_back) in [
        ("echo 'error: Failed to fetch: http://127.0.0.1:9/simple/x/'; exit 2", true),
        ("echo 'x was not found in the package registry'; exit 1", true),
        ("echo 'there is no version of x==99'; exit 1", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fake_uv(dir.path(), why);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tell = Arc::clone(&seen);
        let wanted = spec(&[wheel(dir.path()).to_str().unwrap()], ">=3.5");
        let made = envs(dir.path()).ensure(&wanted, move |progress| tell.lock().push(progress)).await;
        assert_eq!(built(dir.path()), 1, "uv is tried first");
        assert_eq!(made.is_ok(), falls_back, "{why}: {made:?}");
        let noted = seen
            .lock()
            .iter()
            .any(|p| matches!(p, Progress::Installing { line, .. } if line.contains("pip")));
        assert_eq!(noted, falls_back, "{:?}", seen.lock());
        if let Ok(env) = made {
            assert!(env.dir().join("bin/pip").exists(), "made with pip");
        }
    }
}

#[tokio::test]
async fn when_pip_fails_after_uv_both_say_why() {
    let dir = tempfile::tempdir().unwrap();
    fake_uv(dir.path(), "echo no route; exit 2");
    let missing = dir.path().join("no-such-1.0-py3-none-any.whl");
    let error = envs(dir.path()).ensure(&spec(&[missing.to_str().unwrap()], ""), |_| {}).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("no route") && text.contains("no-such"), "{text}");
    assert!(!error.fatal());
}

#[tokio::test]
async fn uv_compiles_so_that_no_start_has_to() {
    let dir = tempfile::tempdir().unwrap();
    fake_uv(dir.path(), &format!("echo \"$@\" > {}/arguments", dir.path().display()));
    envs(dir.path()).ensure(&spec(&["x"], ""), |_| {}).await.unwrap();
    let arguments = fs::read_to_string(dir.path().join("arguments")).unwrap();
    assert!(arguments.split_whitespace().any(|word| word == "--compile-bytecode"), "{arguments}");
}

#[test]
fn keys_differ_where_environments_do() {
    let one = Interpreter { path: "/usr/bin/python3".into(), version: [3, 11, 7] };
    let two = Interpreter { version: [3, 12, 0], ..one.clone() };
    let keys = [
        key(&spec(&[], ""), &one),
        key(&spec(&[], ""), &two),
        key(&spec(&["a"], ""), &one),
        key(&spec(&["a", "b"], ""), &one),
        key(&spec(&["ab"], ""), &one),
        key(&spec(&["b", "a"], ""), &one),
        key(&spec(&["a"], ">=3"), &one),
    ];
    assert_eq!(keys.iter().collect::<std::collections::HashSet<_>>().len(), keys.len());
    assert_eq!(keys[0].len(), 24);
}

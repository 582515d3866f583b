//! Programs that are not ours, found or installed by `tests/setup`.

use std::path::PathBuf;
use std::process::Command;

/// A Python interpreter with these packages.
pub(crate) async fn python(requirements: &[&str]) -> PathBuf {
    setup("python", requirements).await
}

/// A program of the system.
pub(crate) async fn program(name: &str) -> PathBuf {
    setup("program", &[name]).await
}

/// Off the runtime: it may take a minute the first time.
async fn setup(what: &str, arguments: &[&str]) -> PathBuf {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/setup"));
    command.arg(what).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

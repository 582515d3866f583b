//! A run in a file.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::run::{Run, VERSION};

/// A day of seconds of a hundred services is less.
const BYTES_MOST: u64 = 1 << 30;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a run.
    #[error("{}: not a run that loadtest wrote with --json: {source}", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// It is a run of another form.
    #[error("{}: a run of form {found}; this loadtest reads form {VERSION}: run the scenario again", path.display())]
    Version {
        /// Which.
        path: PathBuf,
        /// Its form.
        found: u32,
    },
}

/// The least that every form has.
#[derive(serde::Deserialize)]
struct AnyVersion {
    version: u32,
}

/// Reads a run.
pub(crate) fn read(path: &Path) -> Result<Run, FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    let form = |source| FileError::Form { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = BufReader::new(File::open(path).map_err(io)?);
    file.take(BYTES_MOST).read_to_end(&mut bytes).map_err(io)?;
    let AnyVersion { version } = serde_json::from_slice(&bytes).map_err(form)?;
    if version != VERSION {
        return Err(FileError::Version { path: path.to_owned(), found: version });
    }
    serde_json::from_slice(&bytes).map_err(form)
}

/// Writes a run: whole or not at all.
pub(crate) fn write(path: &Path, run: &Run) -> Result<(), FileError> {
    let text = serde_json::to_vec(run).expect("a run's numbers are finite and its keys are texts");
    write_whole(path, &text)
}

/// Writes a file beside its place and moves it there, so that nobody ever finds half of it. What is no plain file, such
/// as `/dev/stdout`, is written to directly.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let io = |source| FileError::Io { path: path.to_owned(), source };
    // A link stays a link.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if target.exists() && !target.is_file() {
        return std::fs::write(path, content).map_err(io);
    }
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = target.with_file_name(name);
    let written = || -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(&part)?);
        file.write_all(content)?;
        file.into_inner()?.sync_all()?;
        std::fs::rename(&part, &target)
    };
    written().map_err(|source| {
        // Best effort: the first error is the one that counts.
        let _ = std::fs::remove_file(&part);
        io(source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        let run = Run { version: VERSION, scenario: "s".into(), ..Run::default() };
        write(&path, &Run::default()).unwrap();
        write(&path, &run).unwrap();
        assert_eq!(read(&path).unwrap(), run);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run.json");
        for (text, expected) in [
            ("", "not a run"),
            ("{}", "not a run"),
            (r#"{"version": 99}"#, "form 99"),
            (r#"{"version": 1}"#, "not a run"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("run.json"), "{text}: {error}");
        }
        assert!(read(&dir.path().join("none")).unwrap_err().to_string().contains("none: No such file"));
        assert!(write(&dir.path().join("no/such/folder"), &Run::default()).is_err());
    }
}

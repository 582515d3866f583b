//! Which file a command means, and why one cannot run.
//!
//! The lookup is done here and not by `exec`, for three reasons: the error can say what was looked at, `PATH` of the replica's
//! own environment counts (a Python environment's `bin` comes first), and an absolute path keeps std on `posix_spawn`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

/// Why a replica's process did not start. All but [`SpawnError::Other`] are the command's fault.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// No such program.
    #[error("{program}: not found (looked at {looked})")]
    NotFound {
        /// As the command has it.
        program: String,
        /// A path, or the directories of `PATH`.
        looked: String,
    },
    /// The file is there but cannot be executed.
    #[error("{}: not executable ({reason})", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// Such as "permission denied".
        reason: &'static str,
    },
    /// The working directory is not there.
    #[error("working directory {}: {source}", path.display())]
    WorkingDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused: too many processes, no memory, an argument with a NUL byte…
    #[error("{}: {source}", path.display())]
    Other {
        /// The file that was to run.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

// === impl SpawnError ===

impl SpawnError {
    /// Whether another attempt is pointless until someone changes the command or the machine. A shortage is not fatal.
    pub fn fatal(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::NotExecutable { .. } | Self::WorkingDir { .. } => true,
            Self::Other { source, .. } => !matches!(
                Errno::from_io_error(source),
                Some(
                    Errno::AGAIN
                        | Errno::NOMEM
                        | Errno::MFILE
                        | Errno::NFILE
                        | Errno::TXTBSY
                        | Errno::INTR
                        | Errno::IO
                )
            ),
        }
    }

    /// What `spawn` of the existing file `path` said.
    pub(super) fn from_spawn(path: PathBuf, source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            // The file is there (lookup found it), so what is missing is what runs it.
            Some(Errno::NOENT) => Self::NotExecutable {
                path,
                reason: "the interpreter in its #! line is missing, or it was removed",
            },
            Some(Errno::ACCESS) => Self::NotExecutable { path, reason: "permission denied" },
            Some(Errno::NOEXEC) => Self::NotExecutable {
                path,
                reason: "neither a program for this machine nor a script with a #! line",
            },
            _ => Self::Other { path, source },
        }
    }
}

/// The file that `program` means: with a `/` relative to `dir`, else the first executable in `path`.
pub(in crate::runtime) fn find(
    program: &str,
    path: Option<&OsStr>,
    dir: &Path,
) -> Result<PathBuf, SpawnError> {
    match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(SpawnError::WorkingDir {
                path: dir.into(),
                source: io::ErrorKind::NotADirectory.into(),
            });
        }
        Err(source) => {
            return Err(SpawnError::WorkingDir { path: dir.into(), source });
        }
    }
    let not_found = |looked: String| SpawnError::NotFound { program: program.to_owned(), looked };
    if program.is_empty() {
        return Err(not_found("nothing: the name is empty".to_owned()));
    }
    if program.contains('/') {
        let file = dir.join(program);
        return match executable(&file) {
            Ok(()) => Ok(file),
            Err(Some(reason)) => Err(SpawnError::NotExecutable { path: file, reason }),
            Err(None) => Err(not_found(file.display().to_string())),
        };
    }
    let path = path.unwrap_or(OsStr::new("/usr/local/bin:/usr/bin:/bin"));
    let mut refused = None;
    for entry in std::env::split_paths(path).filter(|p| !p.as_os_str().is_empty()) {
        let file = dir.join(entry).join(program);
        match executable(&file) {
            Ok(()) => return Ok(file),
            Err(Some(reason)) => refused = refused.or(Some(SpawnError::NotExecutable { path: file, reason })),
            Err(None) => {}
        }
    }
    Err(refused.unwrap_or_else(|| not_found(format!("PATH={}", path.to_string_lossy()))))
}

/// `Err(None)`: not there. `Err(Some(_))`: there, but not executable.
fn executable(file: &Path) -> Result<(), Option<&'static str>> {
    let meta = std::fs::metadata(file).map_err(|_| None)?;
    if meta.is_dir() {
        return Err(Some("it is a directory"));
    }
    accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).map_err(|_| Some("permission denied"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn finds_by_path_and_by_directory() {
        let dir = tempfile::tempdir().unwrap();
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let file = bin.join("sh");
        std::fs::write(&file, "#!/bin/sh\n").unwrap();
        let path = std::env::join_paths([bin.as_path(), Path::new("/bin")]).unwrap();
        // Not executable yet: the next one in PATH is taken, as a shell would.
        assert_eq!(find("sh", Some(&path), dir.path()).unwrap(), Path::new("/bin/sh"));
        let err = find("bin/sh", None, dir.path()).unwrap_err();
        assert!(matches!(&err, SpawnError::NotExecutable { path, .. } if *path == file), "{err}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(find("sh", Some(&path), dir.path()).unwrap(), file);
        assert_eq!(find("./bin/sh", None, dir.path()).unwrap(), dir.path().join("./bin/sh"));
    }

    #[test]
    fn says_what_it_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let err = find("no-such", Some(OsStr::new("/bin:/usr/bin")), dir.path()).unwrap_err();
        assert_eq!(err.to_string(), "no-such: not found (looked at PATH=/bin:/usr/bin)");
        assert!(err.fatal());
        let err = find("/no/such", None, dir.path()).unwrap_err();
        assert_eq!(err.to_string(), "/no/such: not found (looked at /no/such)");
        let err = find("sh", None, &dir.path().join("gone")).unwrap_err();
        assert!(err.to_string().starts_with("working directory ") && err.fatal(), "{err}");
        assert!(find("", None, dir.path()).unwrap_err().fatal());
    }

    #[test]
    fn a_shortage_is_not_fatal() {
        let other = |e: Errno| SpawnError::from_spawn("/x".into(), e.into());
        assert!(!other(Errno::AGAIN).fatal());
        assert!(!other(Errno::TXTBSY).fatal());
        assert!(other(Errno::TOOBIG).fatal());
        assert!(matches!(other(Errno::NOEXEC), SpawnError::NotExecutable { .. }));
    }
}

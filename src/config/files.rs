//! Which files `-f` means, and what is in them.

use std::collections::HashSet;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use super::yaml::FILE_BYTES_MAX;

/// Files behind all `-f` together.
pub const FILES_MAX: usize = 10_000;

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// A file that `-f` means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path, as the user would write it.
    pub path: PathBuf,
    /// Whether it was found in a folder: then JSON that is no object at all is left alone.
    pub in_folder: bool,
}

/// What tells two versions of a file apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fingerprint {
    /// The file.
    pub path: PathBuf,
    /// Of its content.
    #[serde(serialize_with = "hex")]
    pub sha256: [u8; 32],
}

/// The files behind these paths, each once: a file as it is, of a folder every `*.yaml`, `*.yml` and `*.json` directly
/// in it, sorted, without hidden ones.
pub fn find(paths: &[PathBuf]) -> (Vec<Found>, Vec<Problem>) {
    let (mut found, mut problems, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for path in paths {
        let in_folder = path.is_dir();
        let files = if in_folder { in_dir(path) } else { Ok(vec![path.clone()]) };
        match files {
            Ok(files) => {
                for path in files {
                    // Two ways to one file are one file; a path that leads nowhere is reported when it is read.
                    if seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
                        found.push(Found { path, in_folder });
                    }
                }
            }
            Err(e) => problems.push(Problem::of_file(path, format!("cannot be read: {e}"), "")),
        }
    }
    if found.len() > FILES_MAX {
        let given = format!("{} files in all", found.len());
        problems.push(Problem::of_file(&found[FILES_MAX].path, given, format!("at most {FILES_MAX}")));
        found.truncate(FILES_MAX);
    }
    (found, problems)
}

/// A file's content, at most one byte more than is allowed. Devices and pipes are refused: they may have no end.
pub fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let failed = |e: std::io::Error| {
        let given = match e.kind() {
            std::io::ErrorKind::NotFound => "no such file or folder".to_owned(),
            _ => format!("cannot be read: {e}"),
        };
        Problem::of_file(path, given, "")
    };
    // Looked at before it is opened: opening a pipe waits for its other end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Problem::of_file(path, "not a regular file", "a file or a folder"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The fingerprint of a file's content.
pub fn fingerprint(path: &Path, bytes: &[u8]) -> Fingerprint {
    Fingerprint { path: path.to_path_buf(), sha256: Sha256::digest(bytes).into() }
}

/// Whether a folder's entry of this name is one that `-f FOLDER` means.
pub fn is_meant(name: &Path) -> bool {
    let hidden = name.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
    !hidden && name.extension().is_some_and(|e| ENDINGS.iter().any(|known| e == *known))
}

fn in_dir(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if is_meant(&path) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn hex<S: Serializer>(bytes: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
    let digits = bytes.iter().fold(String::new(), |mut text, b| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{b:02x}");
        text
    });
    s.serialize_str(&digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_in_order_without_hidden_ones_and_each_file_once() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.yml", "c.json", ".hidden.yaml", "notes.txt", "d.yaml~"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        std::fs::create_dir(dir.path().join("sub.yaml")).unwrap();
        let (found, problems) = find(&[dir.path().to_path_buf(), dir.path().join("b.yaml")]);
        let names: Vec<_> = found.iter().filter_map(|f| f.path.file_name()?.to_str()).collect();
        assert_eq!(names, ["a.yml", "b.yaml", "c.json"]);
        assert!(problems.is_empty());
    }

    #[test]
    fn no_end_no_reading() {
        assert!(read(Path::new("/dev/zero")).unwrap_err().to_string().contains("not a regular file"));
        assert!(read(Path::new("/nowhere/x")).unwrap_err().to_string().contains("no such file"));
    }
}

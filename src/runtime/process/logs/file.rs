//! Two files of bounded size: `NAME.log` and, before it, `NAME.log.1`.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Appends; starts over when `limit` bytes are full and keeps one predecessor.
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    limit: u64,
    file: Option<File>,
    size: u64,
    /// Closed until there is more to write.
    resting: bool,
}

/// Where the predecessor of `path` lies.
pub(super) fn previous(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

// === impl Rotating ===

impl Rotating {
    /// An empty file at `path`, at most `limit` bytes long.
    pub(super) fn create(path: PathBuf, limit: u64) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self { path, limit: limit.max(1), file: Some(file), size: 0, resting: false })
    }

    /// Holds no descriptor until the next write.
    pub(super) fn rest(&mut self) {
        self.resting |= self.file.take().is_some();
    }

    /// Writes all of `bytes`, turning over as often as needed.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.size >= self.limit {
                self.file = None;
                self.resting = false;
                self.size = 0;
                // Where this fails the old content is overwritten: the bound is kept in any case.
                let _ = rename(&self.path, previous(&self.path));
            }
            let file = match &mut self.file {
                Some(file) => file,
                rested if std::mem::take(&mut self.resting) => {
                    rested.insert(OpenOptions::new().append(true).create(true).open(&self.path)?)
                }
                // After a failure too: the directory may be back.
                empty => {
                    self.size = 0;
                    empty.insert(open(&self.path)?)
                }
            };
            let (now, later) = bytes.split_at(fitting(bytes, self.limit - self.size, self.size == 0));
            if now.is_empty() {
                self.size = self.limit; // full: the next line starts the next file
                continue;
            }
            file.write_all(now)?;
            self.size += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }
}

/// How much of `bytes` goes into `room`: whole lines if any fit; a part of one only where a whole file is too small for it.
fn fitting(bytes: &[u8], room: u64, empty: bool) -> usize {
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if bytes.len() <= room {
        return bytes.len();
    }
    match bytes[..room].iter().rposition(|byte| *byte == b'\n') {
        Some(at) => at + 1,
        None if empty => room,
        None => 0,
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn turns_over_at_line_ends_and_keeps_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.log");
        let mut file = Rotating::create(path.clone(), 10).unwrap();
        file.write(b"aaaa\nbbbb\ncccc\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"cccc\n");
        assert_eq!(fs::read(previous(&path)).unwrap(), b"aaaa\nbbbb\n");
        file.write(b"dddd\n").unwrap();
        file.write(b"eeee\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"eeee\n");
        assert_eq!(fs::read(previous(&path)).unwrap(), b"cccc\ndddd\n");
    }

    #[test]
    fn goes_on_where_it_rested() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.log");
        let mut file = Rotating::create(path.clone(), 10).unwrap();
        for line in [b"aaaa\n", b"bbbb\n", b"cccc\n"] {
            file.write(line).unwrap();
            file.rest();
        }
        assert_eq!(fs::read(previous(&path)).unwrap(), b"aaaa\nbbbb\n");
        assert_eq!(fs::read(&path).unwrap(), b"cccc\n");
    }

    #[test]
    fn a_line_longer_than_a_file_is_split() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.log");
        Rotating::create(path.clone(), 4).unwrap().write(b"abcdefghij\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"ij\n");
    }

    #[test]
    fn a_lost_directory_is_an_error_until_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("sub");
        fs::create_dir(&sub).unwrap();
        let mut file = Rotating::create(sub.join("r.log"), 4).unwrap();
        file.write(b"abc\n").unwrap();
        fs::remove_dir_all(&sub).unwrap();
        assert!(file.write(b"def\n").is_err());
        fs::create_dir(&sub).unwrap();
        file.write(b"ghi\n").unwrap();
        assert_eq!(fs::read(sub.join("r.log")).unwrap(), b"ghi\n");
    }
}

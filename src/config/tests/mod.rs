//! What files say and what comes of it, from text to services or problems.

mod bad;
mod flags;
mod good;
mod hostile;
mod knative;
mod together;

use std::path::PathBuf;

use super::load::{Loaded, load};
use super::problem::Problem;

/// A folder with these files, loaded.
pub(crate) fn load_files(files: &[(&str, &str)]) -> Result<Loaded, Vec<Problem>> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    load(&[dir.path().to_path_buf()]).map_err(|p| p.0)
}

/// One file, loaded.
pub(crate) fn load_text(text: &str) -> Result<Loaded, Vec<Problem>> {
    load_files(&[("a.yaml", text)])
}

/// `LINE FIELD: GIVEN` of each problem.
pub(crate) fn brief(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|p| format!("{} {}: {}", p.line, p.field, p.given)).collect()
}

/// The file's name without its folder.
pub(crate) fn name(path: &std::path::Path) -> PathBuf {
    path.file_name().map(PathBuf::from).unwrap_or_default()
}

//! `storageUri` → the model's files. On one machine that is a path.

use std::path::PathBuf;

use crate::config::decode::Field;
use crate::config::scaled_service::absolute;

/// Where KServe mounts a model in a container; replaced by the model's path on one machine.
pub const MOUNT: &str = "/mnt/models";

const ALLOWED: &str = "a folder or file: absolute, relative to this YAML file, or file://PATH";

/// The model's folder (or single file). `None` when there is no such; the problem is recorded.
pub fn resolve(uri: &Field<'_>, folder: &std::path::Path) -> Option<PathBuf> {
    let text = uri.nonempty()?;
    let path = match text.split_once("://") {
        None => text,
        Some(("file", path)) => path,
        Some((scheme, _)) => {
            uri.problem(format!("{scheme}:// is not supported yet on one machine"), ALLOWED);
            return None;
        }
    };
    let path = absolute(folder, path);
    if path.exists() {
        return Some(path);
    }
    uri.problem(format!("missing model directory: looked at {}", path.display()), ALLOWED);
    None
}

/// Puts the model's path where a text names [`MOUNT`] or something below it, but not where that is only the
/// beginning or end of another name (`/mnt/models2`, `/data/mnt/models`).
pub fn put_in(text: &str, model: &str) -> String {
    let in_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(MOUNT) {
        let (before, after) = (&rest[..at], &rest[at + MOUNT.len()..]);
        out.push_str(before);
        let begins = out.ends_with("://") || !out.ends_with(|c: char| in_name(c) || c == '/');
        let ends = !after.starts_with(in_name);
        out.push_str(if begins && ends { model } else { MOUNT });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::put_in;

    #[test]
    fn only_whole_paths() {
        for (text, expected) in [
            ("/mnt/models", "/m"),
            ("--model_dir=/mnt/models", "--model_dir=/m"),
            ("/mnt/models/a.joblib", "/m/a.joblib"),
            ("a:/mnt/models:/mnt/models/b", "a:/m:/m/b"),
            ("file:///mnt/models", "file:///m"),
            ("/mnt/models2", "/mnt/models2"),
            ("/data/mnt/models", "/data/mnt/models"),
            ("", ""),
        ] {
            assert_eq!(put_in(text, "/m"), expected, "{text}");
        }
    }
}

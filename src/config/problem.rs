//! What is wrong with the configuration, and where.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Problems kept for one file. A file that has more is not a hand-written one, and memory stays bounded.
pub const PROBLEMS_PER_FILE_MAX: usize = 1000;
/// Characters of a given value that a message repeats.
pub const GIVEN_MAX: usize = 80;

/// A place in a file, from 1. Line 0 = the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Pos {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// One thing that is wrong: where, what was given, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1; 0 = the file as a whole.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Such as `spec.scaling.min`; empty when it is about no field.
    pub field: String,
    /// What was given.
    pub given: String,
    /// What is allowed; may be empty when `given` says it all.
    pub allowed: String,
}

/// Every problem of every file, sorted by file and line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Problems(pub Vec<Problem>);

/// Collects what is wrong in one file, so that reading goes on after a problem.
#[derive(Debug)]
pub struct Sink {
    file: PathBuf,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    overflowed: Cell<bool>,
}

// === impl Problem ===

impl Problem {
    /// A problem with a file as a whole.
    pub fn of_file(file: &Path, given: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            file: file.to_path_buf(),
            line: 0,
            column: 0,
            field: String::new(),
            given: given.into(),
            allowed: allowed.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.field.is_empty() {
            write!(f, ": {}", self.field)?;
        }
        write!(f, ": {}", self.given)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

// === impl Problems ===

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

// === impl Sink ===

impl Sink {
    /// A sink for one file.
    pub fn new(file: &Path) -> Self {
        Self {
            file: file.to_path_buf(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
            overflowed: Cell::new(false),
        }
    }

    /// The file it collects for.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder that relative paths in the file are relative to.
    pub fn folder(&self) -> &Path {
        match self.file.parent() {
            Some(p) if !p.as_os_str().is_empty() => p,
            _ => Path::new("."),
        }
    }

    /// Records a problem.
    pub fn problem(&self, pos: Pos, field: &str, given: impl Into<String>, allowed: impl Into<String>) {
        self.push(&self.problems, pos, field, given.into(), allowed.into());
    }

    /// Records something that is accepted but has no effect.
    pub fn warn(&self, pos: Pos, field: &str, given: impl Into<String>) {
        self.push(&self.warnings, pos, field, given.into(), String::new());
    }

    /// Whether anything is wrong so far.
    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// What was collected: problems, warnings.
    pub fn into_parts(self) -> (Vec<Problem>, Vec<Problem>) {
        (self.problems.into_inner(), self.warnings.into_inner())
    }

    fn push(&self, to: &RefCell<Vec<Problem>>, pos: Pos, field: &str, given: String, allowed: String) {
        let mut list = to.borrow_mut();
        if list.len() < PROBLEMS_PER_FILE_MAX {
            let field = field.to_owned();
            list.push(Problem {
                file: self.file.clone(),
                line: pos.line,
                column: pos.column,
                field,
                given,
                allowed,
            });
        } else if !self.overflowed.replace(true) {
            list.push(Problem::of_file(&self.file, "more problems than are shown", ""));
        }
    }
}

/// A given text as a message repeats it: quoted, control characters escaped, bounded.
pub fn quoted(text: &str) -> String {
    if text.chars().nth(GIVEN_MAX).is_none() {
        return format!("{text:?}");
    }
    let head: String = text.chars().take(GIVEN_MAX).collect();
    format!("{head:?}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_each() {
        let sink = Sink::new(Path::new("a.yaml"));
        sink.problem(Pos { line: 3, column: 5 }, "spec.x", quoted("a\nb"), "c");
        let (p, _) = sink.into_parts();
        assert_eq!(p[0].to_string(), "a.yaml:3:5: spec.x: \"a\\nb\"; allowed: c");
        assert_eq!(Problem::of_file(Path::new("b"), "not found", "").to_string(), "b: not found");
    }

    #[test]
    fn bounded() {
        let sink = Sink::new(Path::new("a.yaml"));
        for _ in 0..PROBLEMS_PER_FILE_MAX * 2 {
            sink.problem(Pos::default(), "", "x", "");
        }
        assert_eq!(sink.into_parts().0.len(), PROBLEMS_PER_FILE_MAX + 1);
        assert!(quoted(&"x".repeat(1000)).chars().count() < GIVEN_MAX + 5);
    }
}

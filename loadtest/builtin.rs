//! The scenarios that come with the program.

use std::fmt::Write as _;

/// A scenario that comes with the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Builtin {
    /// Its file's name without `.yaml`.
    pub(crate) name: &'static str,
    /// The file.
    pub(crate) text: &'static str,
}

macro_rules! builtins {
    ($($name:literal),* $(,)?) => {
        [$(Builtin { name: $name, text: include_str!(concat!("scenarios/", $name, ".yaml")) }),*]
    };
}

/// All of them.
pub(crate) const ALL: [Builtin; 12] = builtins![
    "constant",
    "steps",
    "ramp",
    "burst-at-zero",
    "on-off",
    "poisson",
    "trace",
    "wake-storm",
    "h2c",
    "grpc",
    "sse",
    "websocket",
];

/// The trace that comes with the program.
pub(crate) const TRACE: &str = "arrivals.csv";

/// Its text.
pub(crate) fn trace(name: &str) -> Option<&'static [u8]> {
    (name == TRACE).then_some(include_bytes!("scenarios/arrivals.csv"))
}

/// One of them.
pub(crate) fn find(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|builtin| builtin.name == name)
}

/// A line about each.
pub(crate) fn list() -> String {
    let width = ALL.iter().map(|builtin| builtin.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for builtin in &ALL {
        let _ = writeln!(out, "{:width$}  {}", builtin.name, builtin.about());
    }
    out
}

// === impl Builtin ===

impl Builtin {
    /// Its first line, a comment.
    fn about(&self) -> &'static str {
        self.text.lines().next().unwrap_or_default().trim_start_matches("# ")
    }
}

//! Arguments and `PILOTLIGHT_*` variables → raw values, with every mistake in one run; and the help texts.
//!
//! clap renders the help, but stops at the first mistake, so the arguments are read here. A subcommand is a
//! table of [`Flag`]s: adding one means a table and a function that takes the values.

use std::cell::RefCell;
use std::ffi::OsString;

use super::problem::quoted;
use super::similar::suggestion;

/// What the variables begin with.
pub const ENV_PREFIX: &str = "PILOTLIGHT_";
/// Exit code for a bad flag, variable or file (`EX_USAGE`).
pub const EXIT_USAGE: i32 = 64;

/// A flag of a subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// One letter, if it has one.
    pub short: Option<char>,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// Shown and used when neither flag nor variable says otherwise; empty = none.
    pub default: &'static str,
    /// May be given more than once; its variable is apart by colons.
    pub repeated: bool,
    /// One sentence, with units.
    pub help: &'static str,
}

/// A subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Subcommand {
    /// Its name.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Shown below the flags.
    pub examples: &'static str,
    /// Its flags.
    pub flags: &'static [Flag],
}

/// Why the program ends before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Help or version: to standard output, exit code 0.
    Text(String),
    /// One message per mistake: to standard error, exit code 64.
    Bad(Vec<String>),
}

/// A value and where it came from, such as `--listen` or `PILOTLIGHT_LISTEN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The text.
    pub text: String,
    /// Where it came from.
    pub from: String,
}

/// The raw values of a subcommand; mistakes are collected while they are read.
pub struct Values<'e> {
    flags: &'static [Flag],
    given: Vec<(&'static str, Given)>,
    env: &'e dyn Fn(&str) -> Option<String>,
    mistakes: RefCell<Vec<String>>,
}

/// Finds the subcommand of `args` (the program's name first) and its raw values.
pub fn read<'e>(
    subcommands: &'static [Subcommand],
    args: impl IntoIterator<Item = OsString>,
    env: &'e dyn Fn(&str) -> Option<String>,
) -> Result<(&'static Subcommand, Values<'e>), Exit> {
    // What is not UTF-8 becomes a value that no check accepts, and is shown with replacement characters.
    let args: Vec<String> = args.into_iter().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let names: Vec<&str> = subcommands.iter().map(|s| s.name).collect();
    let Some(first) = args.first() else {
        return Err(Exit::Bad(vec![format!("no subcommand; allowed: {}, --help", names.join(", "))]));
    };
    match first.as_str() {
        "-h" | "--help" => return Err(Exit::Text(help(subcommands, None))),
        "help" => return Err(Exit::Text(help(subcommands, args.get(1).map(String::as_str)))),
        "-V" | "--version" => return Err(Exit::Text(format!("pilotlight {}\n", env!("CARGO_PKG_VERSION")))),
        _ => {}
    }
    let Some(subcommand) = subcommands.iter().find(|s| s.name == first) else {
        let allowed = suggestion(first, &names);
        return Err(Exit::Bad(vec![format!("unknown subcommand {}; allowed: {allowed}", quoted(first))]));
    };
    if args[1..].iter().any(|a| a == "-h" || a == "--help") {
        return Err(Exit::Text(help(subcommands, Some(subcommand.name))));
    }
    let mut values = Values { flags: subcommand.flags, given: Vec::new(), env, mistakes: RefCell::default() };
    values.scan(&args[1..]);
    Ok((subcommand, values))
}

/// The name of a flag's variable.
pub fn variable(flag: &str) -> String {
    format!("{ENV_PREFIX}{}", flag.to_ascii_uppercase().replace('-', "_"))
}

// === impl Exit ===

impl Exit {
    /// The process's exit code.
    pub fn code(&self) -> i32 {
        match self {
            Self::Text(_) => 0,
            Self::Bad(_) => EXIT_USAGE,
        }
    }
}

// === impl Values ===

impl Values<'_> {
    fn scan(&mut self, args: &[String]) {
        let mut args = args.iter().peekable();
        while let Some(arg) = args.next() {
            let (name, inline) = match arg.split_once('=') {
                Some((name, value)) if arg.starts_with("--") => (name, Some(value.to_owned())),
                _ => (arg.as_str(), None),
            };
            let short =
                name.strip_prefix('-').filter(|n| n.chars().count() == 1).and_then(|n| n.chars().next());
            let flag = self
                .flags
                .iter()
                .find(|f| name.strip_prefix("--") == Some(f.name) || (short.is_some() && f.short == short));
            // `--listen --admin x` misses a value, `--concurrency -1` has a bad one.
            let mut next = || args.next_if(|a| !is_flag(a)).cloned();
            let Some(flag) = flag else {
                let names: Vec<String> = self.flags.iter().map(|f| format!("--{}", f.name)).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                if name.starts_with('-') {
                    // Its value, if it has one, is not a mistake of its own.
                    let _ = inline.or_else(&mut next);
                    self.mistake(quoted(name).trim_matches('"'), "unknown flag", &suggestion(name, &names));
                } else {
                    self.mistake(&quoted(arg), "an argument that belongs to no flag", &names.join(", "));
                }
                continue;
            };
            let from = format!("--{}", flag.name);
            let Some(text) = inline.or_else(next) else {
                self.mistake(&from, "no value", flag.value);
                continue;
            };
            if !flag.repeated && self.given.iter().any(|(n, _)| *n == flag.name) {
                self.mistake(&from, "given twice", "once");
                continue;
            }
            self.given.push((flag.name, Given { text, from: from.clone() }));
            // `-f a.yaml b.yaml`: what a shell makes of `-f *.yaml`.
            if flag.repeated {
                let more = std::iter::from_fn(|| args.next_if(|a| !is_flag(a)));
                self.given
                    .extend(more.map(|text| (flag.name, Given { text: text.clone(), from: from.clone() })));
            }
        }
    }

    /// Every value of a flag: from the command line, else from its variable, else the default. An empty variable
    /// counts as not set.
    pub fn all(&self, name: &'static str) -> Vec<Given> {
        let given: Vec<Given> =
            self.given.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.clone()).collect();
        if !given.is_empty() {
            return given;
        }
        let flag = self.flags.iter().find(|f| f.name == name);
        let from = variable(name);
        if let Some(text) = (self.env)(&from).filter(|t| !t.is_empty()) {
            let parts: Vec<&str> = match flag {
                Some(f) if f.repeated => text.split(':').filter(|p| !p.is_empty()).collect(),
                _ => vec![&text],
            };
            return parts.into_iter().map(|p| Given { text: p.to_owned(), from: from.clone() }).collect();
        }
        let default = flag.map(|f| f.default).filter(|d| !d.is_empty());
        default.map(|d| Given { text: d.to_owned(), from: format!("--{name}") }).into_iter().collect()
    }

    /// The value of a flag, parsed. `allowed` says what `parse` accepts. `None` when it is not given or bad.
    pub fn parse<T>(
        &self,
        name: &'static str,
        allowed: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let given = self.all(name).into_iter().next()?;
        let value = parse(&given.text);
        if value.is_none() {
            self.mistake(&given.from, &quoted(&given.text), allowed);
        }
        value
    }

    /// A variable that is not a flag's.
    pub fn env(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|t| !t.is_empty())
    }

    /// Records a mistake: where, what was given, what is allowed.
    pub fn mistake(&self, place: &str, given: &str, allowed: &str) {
        self.mistakes.borrow_mut().push(format!("{place}: {given}; allowed: {allowed}"));
    }

    /// `value` when nothing is wrong, else every mistake.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Exit> {
        let mistakes = self.mistakes.into_inner();
        match value {
            Some(value) if mistakes.is_empty() => Ok(value),
            _ => Err(Exit::Bad(mistakes)),
        }
    }
}

fn is_flag(arg: &str) -> bool {
    arg.strip_prefix('-')
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn help(subcommands: &'static [Subcommand], name: Option<&str>) -> String {
    let subcommand = |s: &'static Subcommand| {
        let args = s.flags.iter().map(|f| {
            let default =
                if f.default.is_empty() { String::new() } else { format!("[default: {}] ", f.default) };
            let arg = clap::Arg::new(f.name).long(f.name).value_name(f.value);
            let arg = arg.help(format!("{}\n{default}[env: {}]", f.help, variable(f.name)));
            let arg = if f.repeated { arg.num_args(1..) } else { arg };
            f.short.map_or(arg.clone(), |short| arg.short(short))
        });
        clap::Command::new(s.name).about(s.about).args(args).after_help(s.examples)
    };
    let mut top = clap::Command::new("pilotlight")
        .about("Runs model servers and other costly services on demand: 0 → 1 → N → 0")
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(
            "A bad flag, variable or file ends the program with exit code 64 and one message per mistake.",
        )
        .subcommands(subcommands.iter().map(subcommand));
    top.build();
    let asked = name.and_then(|n| top.find_subcommand_mut(n).map(|c| c.render_help().to_string()));
    asked.unwrap_or_else(|| top.render_help().to_string())
}

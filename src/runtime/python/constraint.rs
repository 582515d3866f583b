//! Which versions of Python will do: `>=3.9,<3.13`, `==3.11.*`, `~=3.10`, `3.12`.

use std::fmt;
use std::str::FromStr;

/// Major, minor, patch.
pub type Version = [u32; 3];

/// All of its clauses must hold; none means any Python 3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Constraint {
    text: String,
    clauses: Vec<Clause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Clause {
    operator: Operator,
    version: Version,
    /// How many of `version` were written.
    written: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    AtLeast,
    AtMost,
    Above,
    Below,
    Is,
    IsNot,
    Compatible,
}

/// Not a constraint: the specification's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Python version {given:?}: {clause:?} is not understood; use clauses such as >=3.9,<3.13 or ==3.11.*"
)]
pub struct ConstraintError {
    given: String,
    clause: String,
}

// === impl Constraint ===

impl Constraint {
    /// Whether this version will do.
    pub fn accepts(&self, version: Version) -> bool {
        version[0] == 3 && self.clauses.iter().all(|clause| clause.accepts(version))
    }

    /// A minor version worth installing, newest first among those that libraries commonly support.
    pub fn example(&self) -> Option<String> {
        [12, 11, 13, 10, 9, 14, 8]
            .into_iter()
            .find(|minor| (0..40).any(|patch| self.accepts([3, *minor, patch])))
            .map(|minor| format!("3.{minor}"))
    }
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(given: &str) -> Result<Self, ConstraintError> {
        let clauses = given.split(',').map(str::trim).filter(|clause| !clause.is_empty());
        let parse = |clause: &str| {
            Clause::parse(clause)
                .ok_or_else(|| ConstraintError { given: given.to_owned(), clause: clause.to_owned() })
        };
        Ok(Self { text: given.trim().to_owned(), clauses: clauses.map(parse).collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.clauses.is_empty() { "3" } else { &self.text })
    }
}

// === impl Clause ===

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let operators = [
            (">=", Operator::AtLeast),
            ("<=", Operator::AtMost),
            ("==", Operator::Is),
            ("!=", Operator::IsNot),
            ("~=", Operator::Compatible),
            (">", Operator::Above),
            ("<", Operator::Below),
        ];
        let (operator, rest) = operators
            .into_iter()
            .find_map(|(sign, operator)| Some((operator, text.strip_prefix(sign)?)))
            .unwrap_or((Operator::Is, text));
        let rest = rest.trim();
        let equality = matches!(operator, Operator::Is | Operator::IsNot);
        let rest = if equality { rest.strip_suffix(".*").unwrap_or(rest) } else { rest };
        let parts: Vec<u32> = rest.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let written = parts.len();
        if written > 3 || (operator == Operator::Compatible && written < 2) {
            return None;
        }
        let mut version = [0; 3];
        version[..written].copy_from_slice(&parts);
        Some(Self { operator, version, written })
    }

    fn accepts(&self, given: Version) -> bool {
        let same = |parts: usize| given[..parts] == self.version[..parts];
        match self.operator {
            Operator::AtLeast => given >= self.version,
            Operator::AtMost => given <= self.version,
            Operator::Above => given > self.version,
            Operator::Below => given < self.version,
            // `==3.11` is taken as `==3.11.*`: nobody who writes it means 3.11.0 alone.
            Operator::Is => same(self.written),
            Operator::IsNot => !same(self.written),
            Operator::Compatible => given >= self.version && same(self.written - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_pip_would() {
        for (constraint, yes, no) in [
            ("", &[[3, 4, 0], [3, 99, 9]][..], &[[2, 7, 18], [4, 0, 0]][..]),
            (">=3.9,<3.13", &[[3, 9, 0], [3, 12, 12]], &[[3, 8, 20], [3, 13, 0]]),
            (" >= 3.9 , < 3.13 ,", &[[3, 9, 0]], &[[3, 13, 0]]),
            ("==3.11.*", &[[3, 11, 7]], &[[3, 12, 0]]),
            ("==3.11", &[[3, 11, 7]], &[[3, 1, 1]]),
            ("3.11.7", &[[3, 11, 7]], &[[3, 11, 8]]),
            ("~=3.10", &[[3, 10, 0], [3, 14, 0]], &[[3, 9, 9]]),
            ("~=3.10.2", &[[3, 10, 2], [3, 10, 9]], &[[3, 11, 0], [3, 10, 1]]),
            (">3.9,!=3.10.*", &[[3, 9, 1], [3, 11, 0]], &[[3, 9, 0], [3, 10, 3]]),
            ("<=3.12", &[[3, 12, 0]], &[[3, 12, 1]]),
        ] {
            let parsed: Constraint = constraint.parse().unwrap();
            for version in yes {
                assert!(parsed.accepts(*version), "{constraint:?} refuses {version:?}");
            }
            for version in no {
                assert!(!parsed.accepts(*version), "{constraint:?} accepts {version:?}");
            }
        }
    }

    #[test]
    fn refuses_nonsense() {
        for text in ["latest", ">=", "=>3.9", ">=3.9.*", "3.9.1.2", "~=3", ">=3.9 <3.13", "==3.x"] {
            let err = text.parse::<Constraint>().unwrap_err();
            assert!(err.to_string().contains(text), "{err}");
        }
    }

    #[test]
    fn knows_an_example() {
        assert_eq!(">=3.9,<3.12".parse::<Constraint>().unwrap().example().as_deref(), Some("3.11"));
        assert_eq!(">=4".parse::<Constraint>().unwrap().example(), None);
        assert_eq!(Constraint::default().to_string(), "3");
    }
}

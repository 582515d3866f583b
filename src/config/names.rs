//! Names, host names and Python versions: what is allowed in each.

/// Characters of a DNS label.
pub const LABEL_MAX: usize = 63;
/// Characters of a host name.
pub const HOST_MAX: usize = 253;
/// What a name looks like, for messages.
pub const LABEL_FORM: &str =
    "a DNS label: 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit";
/// What a host looks like, for messages.
pub const HOST_FORM: &str =
    "a host name such as iris.example.com: labels of a-z, 0-9 and -, without scheme, port or path";
/// What a Python version looks like, for messages.
pub const PYTHON_VERSION_FORM: &str = "a version such as 3.11 or a range such as >=3.9,<3.13";

/// Names under these belong to pilotlight or the cluster.
const RESERVED: [&str; 3] = ["localhost", "svc", "svc.cluster.local"];

/// Whether a text is a DNS label (RFC 1123).
pub fn is_label(text: &str) -> bool {
    let b = text.as_bytes();
    let edge = |c: Option<&u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    b.len() <= LABEL_MAX
        && edge(b.first())
        && edge(b.last())
        && b.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-')
}

/// A host in lower case; `None` when it is not one.
pub fn host(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    (lower.len() <= HOST_MAX && lower.split('.').all(is_label)).then_some(lower)
}

/// The reserved domain that a (lower-case) host belongs to.
pub fn reserved(host: &str) -> Option<&'static str> {
    RESERVED.into_iter().find(|r| host == *r || host.strip_suffix(r).is_some_and(|head| head.ends_with('.')))
}

/// Whether a text can name an environment variable.
pub fn is_variable(text: &str) -> bool {
    !text.is_empty() && !text.contains(['=', '\0']) && !text.chars().any(char::is_whitespace)
}

/// Whether a text is an HTTP header's name (RFC 9110 §5.6.2).
pub fn is_header(text: &str) -> bool {
    http::header::HeaderName::from_bytes(text.as_bytes()).is_ok()
}

/// A Python version or range without blanks, such as `>=3.9,<3.13`; `None` when it is not one.
pub fn python_version(text: &str) -> Option<String> {
    const CLAUSES_MAX: usize = 8;
    let clauses: Vec<String> = text.split(',').map(|c| c.split_whitespace().collect()).collect();
    (clauses.len() <= CLAUSES_MAX && clauses.iter().all(|c| is_version_clause(c))).then(|| clauses.join(","))
}

fn is_version_clause(clause: &str) -> bool {
    let (operator, number) = match clause.find(|c: char| c.is_ascii_digit()) {
        Some(at) => clause.split_at(at),
        None => return false,
    };
    let number = match operator {
        // PEP 440: a prefix match only makes sense with these.
        "==" | "!=" => number.strip_suffix(".*").unwrap_or(number),
        "" | ">=" | "<=" | ">" | "<" | "~=" => number,
        _ => return false,
    };
    let parts: Vec<&str> = number.split('.').collect();
    // `~=3` would be compatible with anything; PEP 440 has no such.
    let least = if operator == "~=" { 2 } else { 1 };
    (least..=3).contains(&parts.len())
        && parts.iter().all(|p| (1..=4).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "0", "iris-2", &"x".repeat(63)] {
            assert!(is_label(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"x".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
    }

    #[test]
    fn hosts() {
        assert_eq!(host("Iris.Example.COM").as_deref(), Some("iris.example.com"));
        for bad in ["", ".", "a..b", "*.a", "a:80", "http://a", "a/b", "a.b.", "a b", &"a.".repeat(200)] {
            assert_eq!(host(bad), None, "{bad}");
        }
        for taken in ["localhost", "a.localhost", "a.b.svc", "svc", "a.b.svc.cluster.local"] {
            assert!(reserved(taken).is_some(), "{taken}");
        }
        for free in ["notlocalhost", "localhost.com", "cluster.local", "a.mysvc"] {
            assert_eq!(reserved(free), None, "{free}");
        }
    }

    #[test]
    fn python_versions() {
        assert_eq!(python_version(">= 3.9, <3.13").as_deref(), Some(">=3.9,<3.13"));
        for good in ["3", "3.11", "==3.11.*", "~=3.10", "!=3.9.1"] {
            assert!(python_version(good).is_some(), "{good}");
        }
        for bad in ["", ",", "three", "~=3", ">=", "=3.9", "3.9.*", ">=3.9;", "3.9.1.1", ">=3.9,"] {
            assert_eq!(python_version(bad), None, "{bad}");
        }
    }
}

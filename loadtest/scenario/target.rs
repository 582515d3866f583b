//! Scheme, host and port.

use std::fmt;

/// Where connections go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    /// Encrypted or not.
    pub(crate) scheme: Scheme,
    /// A name or an address; without brackets.
    pub(crate) host: String,
    /// The scheme's own when not given.
    pub(crate) port: u16,
}

/// Encrypted or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS.
    Https,
}

// === impl Scheme ===

impl Scheme {
    /// As URLs have it.
    pub(crate) fn name(self) -> &'static str {
        if self == Self::Http { "http" } else { "https" }
    }

    /// The port that goes without saying.
    fn port(self) -> u16 {
        if self == Self::Http { 80 } else { 443 }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

// === impl Target ===

impl Target {
    /// A URL's target and what follows it, `/` at least. `number` fills in what host names may contain.
    pub(crate) fn split(url: &str, number: &dyn Fn(&str) -> String) -> Option<(Self, String)> {
        let (scheme, after) = url.split_once("://")?;
        let scheme = match scheme {
            "http" | "ws" => Scheme::Http,
            "https" | "wss" => Scheme::Https,
            _ => return None,
        };
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let authority: hyper::http::uri::Authority = number(authority).parse().ok()?;
        if authority.as_str().contains('@') || authority.host().is_empty() || rest.contains('#') {
            return None;
        }
        let port = match authority.port() {
            Some(port) => Some(port.as_u16()).filter(|p| *p > 0)?,
            None if authority.as_str() == authority.host() => scheme.port(),
            None => return None,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        Some((Self { scheme, host, port }, rest))
    }

    /// As `Host` has it.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.scheme.port() { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(url: &str) -> Option<(String, String)> {
        let number = |text: &str| text.replace("{{index}}", "7");
        Target::split(url, &number).map(|(target, rest)| (format!("{target} {}", target.port), rest))
    }

    #[test]
    fn urls() {
        for (url, target, rest) in [
            ("http://127.0.0.1:8080/a?b", "http://127.0.0.1:8080 8080", "/a?b"),
            ("https://example.com", "https://example.com 443", "/"),
            ("ws://[::1]:80/x", "http://[::1] 80", "/x"),
            ("http://m-{{index}}.localhost:81?i={{index}}", "http://m-7.localhost:81 81", "/?i={{index}}"),
        ] {
            assert_eq!(split(url), Some((target.to_owned(), rest.to_owned())), "{url}");
        }
        for bad in [
            "127.0.0.1:80",
            "ftp://x/",
            "http://",
            "http://a:0",
            "http://u@h/",
            "http://a b/",
            "http://h/#x",
            "http://h:x/",
        ] {
            assert_eq!(split(bad), None, "{bad}");
        }
    }
}

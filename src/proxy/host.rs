//! Which host a request is for.

use http::header::{HOST, HeaderMap, HeaderValue};
use http::{Request, Uri};

use super::error::ProxyError;

/// The host that a request is for: `:authority` or an absolute target, else `Host`. Refuses those over which two
/// servers may disagree.
pub fn of<B>(request: &Request<B>) -> Result<&str, ProxyError> {
    named(request.uri(), request.headers())?.ok_or(ProxyError::NoHost)
}

/// The same; `None` when it names none.
pub fn named<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<&'a str>, ProxyError> {
    let mut hosts = headers.get_all(HOST).iter();
    let field = hosts.next();
    if hosts.next().is_some() {
        return Err(ProxyError::BadRequest("the request has more than one Host"));
    }
    let field = match field.map(HeaderValue::to_str) {
        Some(Ok(host)) => Some(host),
        Some(Err(_)) => return Err(ProxyError::BadRequest("the Host is not ASCII")),
        None => None,
    };
    let host = match uri.authority() {
        None => field,
        Some(_) if uri.scheme().is_none() => {
            return Err(ProxyError::BadRequest("the target is neither a path nor a URL"));
        }
        Some(authority) => {
            let authority = authority.as_str();
            if field.is_some_and(|field| !field.eq_ignore_ascii_case(authority)) {
                return Err(ProxyError::BadRequest("the Host is not the target's"));
            }
            Some(authority)
        }
    };
    if host.is_some_and(|host| !is_host(host)) {
        return Err(ProxyError::BadRequest("the Host is not a name or address"));
    }
    Ok(host)
}

/// A name, or an address in brackets, with or without a port (RFC 3986 §3.2.2). Other colons and brackets are read
/// differently by different servers.
fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').map(|address| address.split_once(']')) {
        None => host.split_at(host.find(':').unwrap_or(host.len())),
        Some(Some((address, port))) if address.bytes().all(|byte| byte == b':' || is_of_name(byte)) => {
            ("", port)
        }
        Some(_) => return false,
    };
    let port = if port.is_empty() { Some("") } else { port.strip_prefix(':') };
    name.bytes().all(is_of_name) && port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What names and addresses consist of; of what RFC 3986 allows beyond, `%` alone is in use (zones).
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'%' | b'~')
}

/// `host` without its port and trailing dot.
pub fn without_port(host: &str) -> &str {
    let name = match host.rfind(':') {
        // The last colon of a bare IPv6 address is no port separator.
        Some(at) if !host.ends_with(']') => &host[..at],
        _ => host,
    };
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_dots_do_not_matter_for_routing() {
        for (given, expected) in
            [("a.b:80", "a.b"), ("a.b.", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a", "a")]
        {
            assert_eq!(without_port(given), expected);
        }
    }

    #[test]
    fn brackets_stand_around_an_address() {
        for good in ["a", "a.b:80", "[::1]", "[::1]:80", "[fe80::1%eth0]:", "a:", ":80", ""] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "[",
            "]",
            "[a",
            "a]",
            "[a]b",
            "[n]].localhost",
            "[[::1]]",
            "a[b]",
            "[::1].b",
            "[::1]:.localhost",
            "[::1]80",
            "::1",
            "a:80:90",
            "a:b",
            "a b",
            "a@b",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}

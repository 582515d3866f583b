//! Who asked, for the app: `X-Forwarded-For`, `-Proto`, `-Host`, and `Forwarded` (RFC 7239).

use std::fmt::Write;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};

use super::head::join;

/// Lists the addresses that a request came by.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme that the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host that the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Adds the client at `peer_ip`, who asked for `host`, to what proxies before us have said.
pub fn add(headers: &mut HeaderMap, peer_ip: &HeaderValue, host: &HeaderValue) {
    let forwarded_for = if headers.contains_key(X_FORWARDED_FOR) {
        join(headers, &X_FORWARDED_FOR, b", ", peer_ip.as_bytes())
    } else {
        peer_ip.clone()
    };
    headers.insert(X_FORWARDED_FOR, forwarded_for);
    headers.entry(X_FORWARDED_PROTO).or_insert_with(|| HeaderValue::from_static("http"));
    headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());

    // RFC 7239: IPv6 addresses are bracketed, and anything but a token is quoted.
    let ip = peer_ip.to_str().expect("an address is ASCII");
    let mut element = String::with_capacity(48 + host.len());
    let written =
        if ip.contains(':') { write!(element, "for=\"[{ip}]\"") } else { write!(element, "for={ip}") };
    written.expect("a String takes everything");
    if let Ok(host) = host.to_str()
        && !host.contains(['"', '\\'])
    {
        write!(element, ";host=\"{host}\"").expect("a String takes everything");
    }
    element.push_str(";proto=http");
    let mut value = join(headers, &FORWARDED, b", ", element.as_bytes());
    if !closes_quotes(&value.as_bytes()[..value.len() - element.len()]) {
        value = HeaderValue::try_from(element).expect("a host and an address are visible ASCII");
    }
    headers.insert(FORWARDED, value);
}

/// Whether what follows stands outside of quotes. A client that leaves one open would have our element be part of its
/// own (RFC 7239 §4, RFC 9110 §5.6.4).
fn closes_quotes(value: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(fields: &[(&'static str, &'static str)], host: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        add(&mut headers, &HeaderValue::from_static("10.0.0.9"), &HeaderValue::from_static(host));
        headers
    }

    #[test]
    fn fields_are_added_and_appended() {
        let headers = added(&[], "a:80");
        assert_eq!(headers["x-forwarded-for"], "10.0.0.9");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a:80");
        assert_eq!(headers["forwarded"], "for=10.0.0.9;host=\"a:80\";proto=http");

        let before = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=1.1.1.1"),
        ];
        let headers = added(&before, "a");
        assert_eq!(headers["x-forwarded-for"], "1.1.1.1, 2.2.2.2, 10.0.0.9");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["forwarded"], "for=1.1.1.1, for=10.0.0.9;host=\"a\";proto=http");
    }

    #[test]
    fn who_leaves_a_quote_open_does_not_get_to_say_who_came_next() {
        for open in ["for=\"", "for=a;by=\"b\\\"", "for=\"a\\\\\"\""] {
            let headers = added(&[("forwarded", open)], "a");
            assert_eq!(headers["forwarded"], "for=10.0.0.9;host=\"a\";proto=http", "{open}");
        }
    }
}

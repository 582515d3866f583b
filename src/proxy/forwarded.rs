//! Who asked, for the app: `X-Forwarded-For`, `-Proto`, `-Host`, and `Forwarded` (RFC 7239).

use std::fmt::Write;
use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

use super::head::join;
use super::present::{Field, Present};

/// Lists the addresses that a request came by.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme that the client used.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host that the client asked for.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What is said of one client, whose requests are nearly all for one host.
#[derive(Debug)]
pub struct Forwarded {
    /// The address, as it goes into `X-Forwarded-For`.
    ip: HeaderValue,
    /// The host that it last asked for, and the element that says so.
    last: Mutex<Option<(HeaderValue, HeaderValue)>>,
}

/// Adds the client, who asked for `host`, to what proxies before us have said. `present` is what `headers` have.
pub fn add(headers: &mut HeaderMap, present: Present, client: &Forwarded, host: &HeaderValue) {
    let forwarded_for = if present.has(Field::XForwardedFor) {
        join(headers, &X_FORWARDED_FOR, b", ", client.ip.as_bytes())
    } else {
        client.ip.clone()
    };
    headers.insert(X_FORWARDED_FOR, forwarded_for);
    if !present.has(Field::XForwardedProto) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if !present.has(Field::XForwardedHost) {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    let mut element = client.element(host);
    if present.has(Field::Forwarded) {
        let all = join(headers, &FORWARDED, b", ", element.as_bytes());
        if closes_quotes(&all.as_bytes()[..all.len() - element.len()]) {
            element = all;
        }
    }
    headers.insert(FORWARDED, element);
}

// === impl Forwarded ===

impl Forwarded {
    /// Of a client at this address.
    pub fn new(ip: IpAddr) -> Self {
        let ip = HeaderValue::try_from(ip.to_canonical().to_string()).expect("an address is ASCII");
        Self { ip, last: Mutex::new(None) }
    }

    fn element(&self, host: &HeaderValue) -> HeaderValue {
        let mut last = self.last.lock();
        match &*last {
            Some((known, element)) if known == host => element.clone(),
            _ => {
                let element = element(self.ip.to_str().expect("an address is ASCII"), host);
                // Of its own: a part of a request's head would hold all of it.
                let host = HeaderValue::from_bytes(host.as_bytes()).expect("it is one already");
                *last = Some((host, element.clone()));
                element
            }
        }
    }
}

/// RFC 7239: IPv6 addresses are bracketed, and anything but a token is quoted.
fn element(ip: &str, host: &HeaderValue) -> HeaderValue {
    let mut element = if ip.contains(':') { format!("for=\"[{ip}]\"") } else { format!("for={ip}") };
    if let Ok(host) = host.to_str()
        && !host.contains(['"', '\\'])
    {
        write!(element, ";host=\"{host}\"").expect("a String takes everything");
    }
    element.push_str(";proto=http");
    HeaderValue::try_from(element).expect("a host and an address are visible ASCII")
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
        let client = Forwarded::new(IpAddr::from([10, 0, 0, 9]));
        // What it says of one host is not said of the next.
        for host in ["other", host] {
            let mut headers = headers.clone();
            let present = Present::of(&headers);
            add(&mut headers, present, &client, &HeaderValue::from_static(host));
        }
        let present = Present::of(&headers);
        add(&mut headers, present, &client, &HeaderValue::from_static(host));
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

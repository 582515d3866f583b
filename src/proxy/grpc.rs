//! What gRPC adds to HTTP/2, as far as a proxy must know: who speaks it, how long a call may take, and how it is told
//! that it failed (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::fmt::Write;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use super::body::Body;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const APPLICATION_GRPC: &[u8] = b"application/grpc";
/// The specification's bound.
const MAX_DIGITS: usize = 8;
/// What fits into [`MAX_DIGITS`].
const MAX_VALUE: u128 = 99_999_999;

/// The status codes that a proxy gives (<https://grpc.github.io/grpc/core/md_doc_statuscodes.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the specification's names")]
pub enum Code {
    Cancelled = 1,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// A `grpc-timeout` that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTimeout;

/// Whether these headers are a call's: `application/grpc`, alone or with `+CODEC` or parameters. `application/grpc-web`
/// is another protocol, and plain HTTP to us.
pub fn is_call(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.split_at_checked(APPLICATION_GRPC.len()).is_some_and(|(name, rest)| {
        name.eq_ignore_ascii_case(APPLICATION_GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

/// How long the client waits for the end of its call.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    headers.get(GRPC_TIMEOUT).map(|value| parse(value.as_bytes())).transpose()
}

/// Tells the app what is left of the client's patience after a wait here.
pub fn set_timeout(headers: &mut HeaderMap, left: Duration) {
    headers.insert(GRPC_TIMEOUT, format(left));
}

/// A call that ends before it began: the status in the only head ("Trailers-Only").
pub fn failed(code: Code, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(code as u16));
    let message = HeaderValue::try_from(percent_encode(message));
    headers.insert(GRPC_MESSAGE, message.expect("percent-encoded text is printable ASCII"));
    response
}

fn parse(value: &[u8]) -> Result<Duration, BadTimeout> {
    let (unit, digits) = value.split_last().ok_or(BadTimeout)?;
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return Err(BadTimeout);
    }
    let number = digits.iter().fold(0, |number: u64, digit| number * 10 + u64::from(digit - b'0'));
    Ok(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(BadTimeout),
    })
}

/// In the finest unit that fits, rounded up: a call whose time is not over must not be told 0.
fn format(left: Duration) -> HeaderValue {
    const UNITS: [(u128, char); 6] = [
        (1, 'n'),
        (1_000, 'u'),
        (1_000_000, 'm'),
        (1_000_000_000, 'S'),
        (60_000_000_000, 'M'),
        (3_600_000_000_000, 'H'),
    ];
    let nanos = left.as_nanos().max(1);
    let (value, unit) = UNITS
        .iter()
        .map(|(per, unit)| (nanos.div_ceil(*per), unit))
        .find(|(value, _)| *value <= MAX_VALUE)
        .unwrap_or((MAX_VALUE, &'H'));
    HeaderValue::try_from(format!("{value}{unit}")).expect("digits and a letter are ASCII")
}

/// The specification's percent-encoding of a status message.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..=0x7e).contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_is_told_from_its_neighbours() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; charset=x", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
            assert_eq!(is_call(&headers), is, "{kind}");
        }
        assert!(!is_call(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_are_parsed_strictly() {
        assert_eq!(parse(b"1H"), Ok(Duration::from_hours(1)));
        assert_eq!(parse(b"99999999n"), Ok(Duration::from_nanos(99_999_999)));
        assert_eq!(parse(b"0m"), Ok(Duration::ZERO));
        for bad in ["", "S", "100000000n", "1", "1s", "-1S", "+1S", "1.5S", " 1S", "1S ", "1SS", "１S"] {
            assert_eq!(parse(bad.as_bytes()), Err(BadTimeout), "{bad:?}");
        }
    }

    #[test]
    fn messages_are_encoded() {
        assert_eq!(percent_encode("100 % – über\n"), "100 %25 %E2%80%93 %C3%BCber%0A");
    }

    proptest! {
        #[test]
        fn what_is_left_is_said_in_time_and_not_cut(nanos in 1_u64..) {
            let left = Duration::from_nanos(nanos);
            let said = parse(format(left).as_bytes()).unwrap();
            prop_assert!(said >= left);
            prop_assert!(said.as_secs_f64() <= left.as_secs_f64() * 1.000_01 + 1e-9, "{said:?} for {left:?}");
        }

        #[test]
        fn any_timeout_is_survived(value: Vec<u8>) {
            let _ = parse(&value);
        }
    }
}

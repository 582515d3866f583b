//! Requests as bytes: the head, and how the body is framed.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRAILER, TRANSFER_ENCODING};
use http::{Method, Uri};
use std::io::Write;

/// How a body's end is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Coding {
    /// By its length; so many bytes are left.
    Length(u64),
    /// By the last chunk, behind which fields of these names may follow.
    Chunked(Vec<HeaderName>),
}

/// Decides how a body is framed, and has the head say so. `exact` is the body's length if it is known. What the head
/// says already wins: [`head::shape`](crate::proxy::head::shape) says it where hyper's rules and ours differ.
pub fn framing(headers: &mut HeaderMap, exact: Option<u64>) -> Coding {
    if !headers.contains_key(TRANSFER_ENCODING) {
        if let Some(told) = told_length(headers) {
            return Coding::Length(told);
        }
        if let Some(length) = exact {
            headers.insert(CONTENT_LENGTH, length.into());
            return Coding::Length(length);
        }
    }
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    headers.remove(CONTENT_LENGTH);
    let names = headers.get_all(TRAILER).iter().filter_map(|value| value.to_str().ok());
    let names = names.flat_map(|names| names.split(','));
    Coding::Chunked(names.filter_map(|name| HeaderName::try_from(name.trim()).ok()).collect())
}

fn told_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let told = values.next()?.to_str().ok()?;
    let plain = values.next().is_none() && told.bytes().all(|byte| byte.is_ascii_digit());
    if plain { told.parse().ok() } else { None }
}

/// Appends a request's head.
pub fn head(out: &mut Vec<u8>, method: &Method, target: &Uri, headers: &HeaderMap) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(out, headers.iter());
    out.extend_from_slice(b"\r\n");
}

/// Appends the line before a chunk's data.
pub fn chunk(out: &mut Vec<u8>, size: usize) {
    write!(out, "{size:x}\r\n").expect("a Vec takes everything");
}

/// Appends the last chunk, with those of the trailers that the head has named (RFC 9110 §6.6.2).
pub fn last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>, named: &[HeaderName]) {
    out.extend_from_slice(b"0\r\n");
    let trailers = trailers.into_iter().flatten();
    fields(out, trailers.filter(|(name, _)| named.contains(name)));
    out.extend_from_slice(b"\r\n");
}

fn fields<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) {
    for (name, value) in fields {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        out.reserve(name.len() + value.len() + 4);
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields.map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn a_length_is_told_if_it_is_known() {
        let mut headers = map(&[("content-length", "5")]);
        assert_eq!(framing(&mut headers, None), Coding::Length(5));
        let mut headers = map(&[]);
        assert_eq!(framing(&mut headers, Some(7)), Coding::Length(7));
        assert_eq!(headers["content-length"], "7");
    }

    #[test]
    fn what_has_no_plain_length_is_chunked() {
        for fields in [
            &[][..],
            &[("content-length", "5, 5")],
            &[("transfer-encoding", "chunked"), ("content-length", "5")],
        ] {
            let mut headers = map(fields);
            headers.insert(TRAILER, HeaderValue::from_static("x-one, x-two"));
            let named = ["x-one", "x-two"].map(HeaderName::from_static).to_vec();
            assert_eq!(framing(&mut headers, None), Coding::Chunked(named), "{fields:?}");
            assert_eq!(headers["transfer-encoding"], "chunked");
            assert!(!headers.contains_key("content-length"));
        }
    }

    #[test]
    fn a_head_has_an_origin_form_target() {
        let text = |target: &'static str| {
            let mut out = Vec::new();
            head(&mut out, &Method::POST, &Uri::from_static(target), &map(&[("host", "a"), ("x", "y")]));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text("/p?q=1"), "POST /p?q=1 HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n");
        assert!(text("*").starts_with("POST * HTTP/1.1\r\n"));
        assert!(text("http://a").starts_with("POST / HTTP/1.1\r\n"));
    }

    #[test]
    fn trailers_that_were_not_named_stay_behind() {
        let mut out = Vec::new();
        chunk(&mut out, 255);
        let trailers = map(&[("x-sum", "1"), ("host", "evil")]);
        last_chunk(&mut out, Some(&trailers), &[HeaderName::from_static("x-sum")]);
        assert_eq!(out, b"ff\r\n0\r\nx-sum: 1\r\n\r\n");
    }
}

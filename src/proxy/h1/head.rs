//! Heads of responses, out of the bytes that came.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::BytesMut;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::Error;

/// Bounds what one app can make us hold.
pub const MAX_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 256;
/// Nearly every response has fewer fields.
const FEW_FIELDS: usize = 32;

/// A response's head.
#[derive(Debug)]
pub struct Head {
    /// Its version.
    pub version: Version,
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub headers: HeaderMap,
    /// What it calls its status, if it has words of its own for it.
    pub reason: Option<ReasonPhrase>,
}

/// Where a field's name and value lie.
type Place = [u32; 4];

/// Takes a head from the front of `read`. `None`: not all of it is there. Its fields go into `headers`, which are
/// emptied first and whose memory is used again.
pub fn take(read: &mut BytesMut, headers: &mut HeaderMap) -> Result<Option<Head>, Error> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let taken = ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, read, &mut fields);
    let length = match taken {
        Ok(Status::Complete(length)) if length <= MAX_BYTES => length,
        Ok(Status::Partial) if read.len() < MAX_BYTES => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Error::HeadTooLarge),
        Err(error) => return Err(Error::Garbage(words(error))),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Error::Garbage("a status that is none"))?;
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };

    // The bytes cannot be taken while the fields borrow them.
    let base = read.as_ptr() as usize;
    let place = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        [start as u32, (start + part.len()) as u32]
    };
    let reason = parsed.reason.filter(|words| !words.is_empty() && Some(*words) != status.canonical_reason());
    let reason = reason.map(|words| place(words.as_bytes()));
    let (mut few, mut many) = ([Place::default(); FEW_FIELDS], Vec::new());
    let count = parsed.headers.len();
    let places = if count <= FEW_FIELDS {
        &mut few[..count]
    } else {
        many.resize(count, Place::default());
        &mut many[..]
    };
    for (field, at) in parsed.headers.iter().zip(&mut *places) {
        let ([name, name_end], [value, value_end]) = (place(field.name.as_bytes()), place(field.value));
        *at = [name, name_end, value, value_end];
    }

    let bytes = read.split_to(length).freeze();
    headers.clear();
    headers.reserve(count);
    for [name, name_end, value, value_end] in &*places {
        let name = HeaderName::from_bytes(&bytes[range(*name, *name_end)]);
        let value = HeaderValue::from_maybe_shared(bytes.slice(range(*value, *value_end)));
        let (Ok(name), Ok(value)) = (name, value) else { return Err(Error::Garbage("a field that is none")) };
        headers.append(name, value);
    }
    let reason = reason.and_then(|[start, end]| ReasonPhrase::try_from(bytes.slice(range(start, end))).ok());
    Ok(Some(Head { version, status, headers: std::mem::take(headers), reason }))
}

fn range(start: u32, end: u32) -> Range<usize> {
    start as usize..end as usize
}

fn words(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "a field's name that is none",
        httparse::Error::HeaderValue => "a field's value that is none",
        httparse::Error::NewLine => "a line that does not end",
        httparse::Error::Status => "a status that is none",
        httparse::Error::Version => "no version of HTTP",
        _ => "no response",
    }
}

// === impl Head ===

impl Head {
    /// Something comes before the response itself (RFC 9110 §15.2).
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }

    /// Whether the connection may be used again after the body (RFC 9112 §9.3).
    pub fn keeps_alive(&self) -> bool {
        let says = |word: &[u8]| {
            let values = self.headers.get_all(CONNECTION).iter();
            let mut words = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
            words.any(|said| said.trim_ascii().eq_ignore_ascii_case(word))
        };
        if self.version == Version::HTTP_10 { says(b"keep-alive") } else { !says(b"close") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Result<Option<Head>, Error> {
        take(&mut BytesMut::from(text), &mut HeaderMap::new())
    }

    #[test]
    fn a_head_is_taken_when_it_is_whole() {
        let text = "HTTP/1.1 404 Nothing here\r\nA: 1\r\na: 2\r\nB:\r\n\r\n";
        for end in 0..text.len() {
            assert!(taken(&text[..end]).unwrap().is_none(), "{end}");
        }
        let mut read = BytesMut::from(&*format!("{text}body"));
        let mut headers = HeaderMap::new();
        headers.insert("old", HeaderValue::from_static("x"));
        let head = take(&mut read, &mut headers).unwrap().unwrap();
        assert_eq!(&read[..], b"body");
        assert_eq!(head.status, StatusCode::NOT_FOUND);
        assert_eq!(head.reason.as_ref().unwrap().as_bytes(), b"Nothing here");
        let all: Vec<_> = head.headers.get_all("a").iter().collect();
        assert_eq!((all[0].as_bytes(), all[1].as_bytes()), (&b"1"[..], &b"2"[..]));
        assert_eq!((head.headers["b"].as_bytes(), head.headers.len()), (&b""[..], 3));
        assert!(taken("HTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap().reason.is_none());
    }

    #[test]
    fn the_end_of_the_connection_is_told_in_the_words_of_its_version() {
        for (text, keeps) in [
            ("HTTP/1.1 200 OK\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\n\r\n", false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", true),
        ] {
            assert_eq!(taken(text).unwrap().unwrap().keeps_alive(), keeps, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_head_or_too_much_of_one_is_refused() {
        for garbage in ["\0\0\x12\x04", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 099 x\r\n\r\n", "SSH-2.0-x\r\n"] {
            assert!(matches!(taken(garbage), Err(Error::Garbage(_))), "{garbage:?}");
        }
        for count in [FEW_FIELDS + 1, MAX_FIELDS] {
            let head = taken(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count)));
            assert_eq!(head.unwrap().unwrap().headers.len(), count);
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS + 1));
        assert!(matches!(taken(&many), Err(Error::HeadTooLarge)));
        for end in ["", "\r\n\r\n"] {
            let large = format!("HTTP/1.1 200 OK\r\na: {}{end}", "x".repeat(MAX_BYTES));
            assert!(matches!(taken(&large), Err(Error::HeadTooLarge)));
        }
    }
}

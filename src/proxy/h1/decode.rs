//! Bodies of responses, out of the bytes that came.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use http_body::{Frame, SizeHint};
use memchr::memchr;

use super::Error;
use super::head::Head;

/// Of a body's chunk extensions, all together, and of its trailers.
const MAX_ASIDE: usize = 16 * 1024;
const MAX_TRAILERS: usize = 64;
/// Hexadecimal digits of a chunk's size: 2^64.
const MAX_DIGITS: usize = 16;

/// Where in a body the next byte is.
#[derive(Debug)]
pub enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// In a chunked body.
    Chunked {
        /// At which part of it.
        at: At,
        /// Bytes of extensions so far.
        aside: usize,
    },
    /// Until the app closes the connection.
    ToClose,
    /// At its end.
    Done,
}

/// A place in a chunked body (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The line with a chunk's size.
    Size,
    /// A chunk's data, of which so much is left.
    Data(u64),
    /// The line's end behind a chunk's data.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
}

// === impl Decoder ===

impl Decoder {
    /// How the body behind `head` ends, which answers a request with `method` (RFC 9112 §6.3).
    pub fn behind(head: &Head, method: &Method) -> Result<Self, Error> {
        let bodiless = matches!(
            head.status,
            StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        if bodiless || *method == Method::HEAD {
            return Ok(Self::Done);
        }
        let headers = &head.headers;
        if let Some(coding) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
            if head.version == Version::HTTP_10 {
                return Err(Error::Framing);
            }
            let last = coding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default();
            let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
            return Ok(if chunked { Self::Chunked { at: At::Size, aside: 0 } } else { Self::ToClose });
        }
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(length_of);
        match lengths.next() {
            None => Ok(Self::ToClose),
            Some(Some(length)) if lengths.all(|other| other == Some(length)) => {
                Ok(if length == 0 { Self::Done } else { Self::Length(length) })
            }
            Some(_) => Err(Error::Framing),
        }
    }

    /// Whether the body is at its end.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Whether it is the end of the connection that ends the body.
    pub fn is_to_close(&self) -> bool {
        matches!(self, Self::ToClose)
    }

    /// What is left of the body, if that is known.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Done => SizeHint::with_exact(0),
            Self::Chunked { .. } | Self::ToClose => SizeHint::default(),
        }
    }

    /// Takes the next frame from the front of `read`. `None`: more has to come first, or it [is done](Self::is_done).
    pub fn next(&mut self, read: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Error> {
        match self {
            Self::Done => Ok(None),
            Self::ToClose => Ok((!read.is_empty()).then(|| Frame::data(read.split().freeze()))),
            Self::Length(left) => {
                let data = taken(read, left);
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(data.map(Frame::data))
            }
            Self::Chunked { at, aside } => loop {
                match at {
                    At::Data(left) => {
                        let Some(data) = taken(read, left) else { return Ok(None) };
                        if *left == 0 {
                            *at = At::DataEnd;
                            // The last chunk often comes with the data before it: whoever takes this frame then knows
                            // that it is the last.
                            if read.starts_with(b"\r\n0\r\n\r\n") {
                                read.advance(7);
                                *self = Self::Done;
                            }
                        }
                        return Ok(Some(Frame::data(data)));
                    }
                    At::DataEnd => match &read[..] {
                        [b'\r', b'\n', ..] => {
                            read.advance(2);
                            *at = At::Size;
                        }
                        [] | [b'\r'] => return Ok(None),
                        _ => return Err(Error::Garbage("a chunk longer than it says")),
                    },
                    At::Size => match size(read, aside)? {
                        None => return Ok(None),
                        Some(0) => *at = At::Trailers,
                        Some(size) => *at = At::Data(size),
                    },
                    At::Trailers => {
                        let Some(trailers) = trailers(read)? else { return Ok(None) };
                        *self = Self::Done;
                        return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                    }
                }
            },
        }
    }
}

/// As much as is there of what is left.
fn taken(read: &mut BytesMut, left: &mut u64) -> Option<Bytes> {
    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
    *left -= here as u64;
    (here > 0).then(|| read.split_to(here).freeze())
}

fn length_of(value: &HeaderValue) -> Option<u64> {
    let text = value.to_str().ok()?;
    // `+1` is a number to Rust, and none to HTTP.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A chunk's size, once its whole line is there. Extensions are skipped (RFC 9112 §7.1.1).
fn size(read: &mut BytesMut, aside: &mut usize) -> Result<Option<u64>, Error> {
    const NO_SIZE: Error = Error::Garbage("a chunk without a size");
    let digits = read.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let end = memchr(b'\n', read);
    let line = &read[..end.unwrap_or(read.len())];
    let size = std::str::from_utf8(&line[..digits]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let rest = &line[digits..];
    match rest.first() {
        _ if size.is_none() && !(digits == 0 && line.is_empty() && end.is_none()) => return Err(NO_SIZE),
        None | Some(b'\r' | b';' | b' ' | b'\t') => {}
        Some(_) => return Err(NO_SIZE),
    }
    if *aside + rest.len() > MAX_ASIDE {
        return Err(Error::Garbage("chunk extensions without end"));
    }
    let Some(end) = end else { return Ok(None) };
    match rest.split_last() {
        Some((b'\r', extension)) if !extension.contains(&b'\r') => *aside += extension.len(),
        _ => return Err(Error::Garbage("a chunk's size line that does not end")),
    }
    read.advance(end + 1);
    Ok(size)
}

/// The fields behind the last chunk, once they are all there.
fn trailers(read: &mut BytesMut) -> Result<Option<HeaderMap>, Error> {
    if read.starts_with(b"\r\n") {
        read.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    match httparse::parse_headers(read, &mut fields) {
        Ok(httparse::Status::Partial) if read.len() < MAX_ASIDE => Ok(None),
        Ok(httparse::Status::Complete((length, fields))) if length <= MAX_ASIDE => {
            let fields = fields.iter().map(|field| {
                let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
                Some((name, HeaderValue::from_bytes(field.value).ok()?))
            });
            let mut map = HeaderMap::new();
            for field in fields {
                let (name, value) = field.ok_or(Error::Garbage("a trailer that is none"))?;
                map.append(name, value);
            }
            read.advance(length);
            Ok(Some(map))
        }
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Error::Garbage("trailers without end")),
        Err(_) => Err(Error::Garbage("a trailer that is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(text: &str) -> Head {
        super::super::head::take(&mut BytesMut::from(text), &mut HeaderMap::new()).unwrap().unwrap()
    }

    fn behind(fields: &str, method: &Method) -> Result<Decoder, Error> {
        Decoder::behind(&head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")), method)
    }

    /// A body, its trailers, and what came behind it.
    type Read = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// What a chunked body consists of when it comes in pieces of `n` bytes.
    fn chunked(text: &[u8], n: usize) -> Result<Read, String> {
        let mut decoder = Decoder::Chunked { at: At::Size, aside: 0 };
        let (mut read, mut data, mut trailers) = (BytesMut::new(), Vec::new(), None);
        for piece in text.chunks(n) {
            read.extend_from_slice(piece);
            while let Some(frame) = decoder.next(&mut read).map_err(|error| error.to_string())? {
                match frame.into_data() {
                    Ok(bytes) => data.extend_from_slice(&bytes),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
        }
        if decoder.is_done() { Ok((data, trailers, read.to_vec())) } else { Err("more to come".into()) }
    }

    #[test]
    fn the_head_says_how_the_body_ends() {
        let get = |fields: &str| behind(fields, &Method::GET);
        assert!(matches!(get("content-length: 5\r\n"), Ok(Decoder::Length(5))));
        assert!(matches!(get("content-length: 5\r\ncontent-length: 5\r\n"), Ok(Decoder::Length(5))));
        assert!(matches!(get("content-length: 0\r\n"), Ok(Decoder::Done)));
        assert!(matches!(get("transfer-encoding: Chunked\r\n"), Ok(Decoder::Chunked { .. })));
        assert!(matches!(get("transfer-encoding: gzip, chunked\r\n"), Ok(Decoder::Chunked { .. })));
        assert!(matches!(get("transfer-encoding: gzip\r\n"), Ok(Decoder::ToClose)));
        assert!(matches!(get(""), Ok(Decoder::ToClose)));
        assert!(matches!(behind("content-length: 5\r\n", &Method::HEAD), Ok(Decoder::Done)));
        for bad in
            ["content-length: +5\r\n", "content-length: 5\r\ncontent-length: 6\r\n", "content-length: \r\n"]
        {
            assert!(get(bad).is_err(), "{bad:?}");
        }
        for status in [101, 204, 304] {
            let head = head(&format!("HTTP/1.1 {status} x\r\ncontent-length: 5\r\n\r\n"));
            assert!(Decoder::behind(&head, &Method::GET).unwrap().is_done());
        }
        let old = head("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        assert!(Decoder::behind(&old, &Method::GET).is_err());
    }

    #[test]
    fn chunks_are_taken_however_they_come() {
        let text = b"3\r\nabc\r\n00A ; x=\"y\"\r\n0123456789\r\n0\r\nx-sum: 1\r\nX-Sum: 2\r\n\r\nrest";
        for n in 1..=text.len() {
            let (data, trailers, rest) = chunked(text, n).unwrap();
            assert_eq!(data, b"abc0123456789", "{n}");
            assert_eq!(trailers.unwrap().get_all("x-sum").iter().count(), 2);
            assert!(b"rest".ends_with(&rest[..]) || rest == b"rest");
        }
        assert_eq!(chunked(b"0\r\n\r\n", 9).unwrap(), (Vec::new(), None, Vec::new()));
    }

    #[test]
    fn a_last_frame_knows_that_it_is_the_last() {
        let mut decoder = Decoder::Chunked { at: At::Size, aside: 0 };
        let mut read = BytesMut::from(&b"3\r\nabc\r\n0\r\n\r\n"[..]);
        assert!(decoder.next(&mut read).unwrap().is_some());
        assert!(decoder.is_done() && read.is_empty());
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for bad in [
            &b"x\r\n"[..],
            b"\r\n",
            b";\r\n",
            b"-1\r\n",
            b"3\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc0\r\n",
            b"11111111111111111\r\n",
            b"3 x\ry\r\n",
            b"3x\r\n",
            b"0\r\n: x\r\n\r\n",
        ] {
            for n in [1, 2, 99] {
                let error = chunked(bad, n).unwrap_err();
                assert_ne!(error, "more to come", "{:?}", String::from_utf8_lossy(bad));
            }
        }
        let endless = [b"1;".to_vec(), vec![b'x'; MAX_ASIDE + 1]].concat();
        assert!(chunked(&endless, 1000).is_err_and(|error| error.contains("extensions")));
        let little_by_little = b"1;xxxxxxx\r\na\r\n".repeat(MAX_ASIDE / 8 + 1);
        assert!(chunked(&little_by_little, 1000).is_err_and(|error| error.contains("extensions")));
        let trailers = [b"0\r\na: ".to_vec(), vec![b'x'; MAX_ASIDE]].concat();
        assert!(chunked(&trailers, 1000).is_err_and(|error| error.contains("trailers")));
        let many = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(MAX_TRAILERS + 1)].concat();
        assert!(chunked(&many, 1000).is_err_and(|error| error.contains("trailers")));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "(3\r\nabc\r\n|1;x\r\na\r\n|0\r\n|\r\n|a: b\r\n|\n|x|0\r\n\r\n){0,9}", n in 1_usize..9) {
            let (whole, pieces) = (chunked(text.as_bytes(), usize::MAX), chunked(text.as_bytes(), n));
            let data = |decoded: Result<Read, String>| {
                decoded.map(|(data, trailers, _)| (data, trailers)).map_err(|_| ())
            };
            prop_assert_eq!(data(whole), data(pieces));
        }
    }
}

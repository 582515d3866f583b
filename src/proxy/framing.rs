//! Where heads begin and end in what an HTTP/1 client sends, found out while the bytes pass by.
//!
//! hyper parses and decides. This watches for what hyper cannot tell, and it can only refuse more: lines that end
//! without a carriage return and a length that is told twice, over which the parsers of two hops may disagree (request
//! smuggling); a request line without end; and whether a head is half there, for its timeout.

use memchr::memchr;

/// A longer target is answered with 414. Servers allow 8 KiB (nginx, Apache) to 64 KiB (uvicorn).
pub const MAX_TARGET: usize = 16 * 1024;
/// A longer head is answered with 431.
pub const MAX_HEAD: usize = 64 * 1024;
/// A request line's method, blanks and version come on top.
const MAX_REQUEST_LINE: usize = MAX_TARGET + 64;
/// What is kept of a line that comes in pieces: enough for the fields that matter, whose values are short.
const KEPT: usize = 128;

/// Of a chunk, after its data.
const LINE_END: u64 = 2;

/// Follows one connection.
#[derive(Debug)]
pub struct Framing {
    at: At,
    /// The beginning of a line that came in pieces, `line` bytes of it so far; the last of them is `last`.
    kept: Vec<u8>,
    line: usize,
    last: u8,
    /// What the head in progress said about its body.
    length: Option<u64>,
    chunked: bool,
    /// Its bytes so far, without line ends.
    head: usize,
    heads: u32,
    /// See [`Framing::spoilt`].
    spoilt: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before a request line, or in it → `Fields`, `Off`.
    RequestLine,
    /// → `RequestLine`, `Body`, `ChunkSize`.
    Fields,
    /// So many bytes are left → `RequestLine`.
    Body(u64),
    /// → `Chunk`, `Trailers`.
    ChunkSize,
    /// So many bytes and the line's end are left → `ChunkSize`.
    Chunk(u64),
    /// → `RequestLine`.
    Trailers,
    /// Something was refused, or is hyper's to refuse: nothing more is looked at.
    Lost,
    /// HTTP/2.
    Off,
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A line ends without a carriage return.
    BareLineFeed,
    /// The length is told twice, or not plainly.
    Length,
    /// `Transfer-Encoding` is anything but one `chunked`.
    Coding,
    /// The request line goes on and on. Its rest will not be read.
    TargetTooLong,
    /// All fields together are too large.
    HeadTooLarge,
}

// === impl Framing ===

impl Default for Framing {
    fn default() -> Self {
        Self {
            at: At::RequestLine,
            kept: Vec::new(),
            line: 0,
            last: 0,
            length: None,
            chunked: false,
            head: 0,
            heads: 0,
            spoilt: None,
        }
    }
}

impl Framing {
    /// Between two requests, nothing of the next has come.
    pub fn is_at_rest(&self) -> bool {
        self.at == At::RequestLine && self.line == 0
    }

    /// A head is partly there (or what is there is no head).
    pub fn is_in_head(&self) -> bool {
        match self.at {
            At::RequestLine => self.line > 0,
            At::Fields | At::Lost => true,
            At::Body(_) | At::ChunkSize | At::Chunk(_) | At::Trailers | At::Off => false,
        }
    }

    /// It is HTTP/2, which this does not follow.
    pub fn is_off(&self) -> bool {
        self.at == At::Off
    }

    /// Heads that were complete. Also the number, from 0, of the request that a refusal is about: what was complete
    /// before may be answered.
    pub fn heads(&self) -> u32 {
        self.heads
    }

    /// Where in what was read last a line of a trailer ends that must not end there; told once. Its request is not
    /// refused, it is at its end already: hyper must be kept from taking it for complete.
    pub fn spoilt(&mut self) -> Option<usize> {
        self.spoilt.take()
    }

    /// Takes what was read. `Err` once, when something must be refused.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), Refused> {
        let all = bytes.len();
        while !bytes.is_empty() {
            match &mut self.at {
                At::Off | At::Lost => return Ok(()),
                At::Body(left) | At::Chunk(left) => {
                    let skip = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= skip as u64;
                    bytes = &bytes[skip..];
                    self.at = match self.at {
                        At::Body(0) => At::RequestLine,
                        At::Chunk(0) => At::ChunkSize,
                        more => more,
                    };
                }
                At::RequestLine | At::Fields | At::ChunkSize | At::Trailers => {
                    let Some(end) = memchr(b'\n', bytes) else { return self.keep(bytes) };
                    let (piece, rest) = (&bytes[..end], &bytes[end + 1..]);
                    bytes = rest;
                    let ended = if self.line == 0 {
                        match piece.split_last() {
                            Some((b'\r', line)) => self.end(line),
                            _ => Err(Refused::BareLineFeed),
                        }
                    } else {
                        self.end_kept(piece)
                    };
                    if ended.is_err() {
                        self.spoilt = (self.at == At::Trailers).then(|| all - bytes.len() - 1);
                        self.at = At::Lost;
                        return ended;
                    }
                }
            }
        }
        Ok(())
    }

    /// A line is not complete yet.
    fn keep(&mut self, piece: &[u8]) -> Result<(), Refused> {
        let room = KEPT.saturating_sub(self.kept.len()).min(piece.len());
        self.kept.extend_from_slice(&piece[..room]);
        self.line += piece.len();
        self.last = *piece.last().expect("the caller has bytes");
        if self.at == At::RequestLine && self.line > MAX_REQUEST_LINE {
            self.at = At::Lost;
            return Err(Refused::TargetTooLong);
        }
        Ok(())
    }

    fn end_kept(&mut self, piece: &[u8]) -> Result<(), Refused> {
        if !piece.is_empty() {
            self.keep(piece)?;
        }
        if self.last != b'\r' {
            return Err(Refused::BareLineFeed);
        }
        let whole = self.line == self.kept.len();
        if !whole {
            self.head += self.line - self.kept.len();
        }
        self.line = 0;
        let mut kept = std::mem::take(&mut self.kept);
        let line = if whole { &kept[..kept.len() - 1] } else { &kept[..] };
        // A cut value would be misread.
        let misread = !whole && if self.at == At::ChunkSize { is_number(line) } else { is_framing(line) };
        let ended = if misread { Err(Refused::Length) } else { self.end(line) };
        kept.clear();
        self.kept = kept;
        ended
    }

    /// A line is complete, without its end.
    fn end(&mut self, line: &[u8]) -> Result<(), Refused> {
        match self.at {
            // Empty lines before a request are ignored (RFC 9112 §2.2).
            At::RequestLine if line.is_empty() => {}
            At::RequestLine if line == b"PRI * HTTP/2.0" => self.at = At::Off,
            At::RequestLine => {
                (self.length, self.chunked, self.head) = (None, false, line.len());
                self.at = At::Fields;
            }
            At::Fields if line.is_empty() => {
                self.heads = self.heads.saturating_add(1);
                self.at = match self.length {
                    _ if self.chunked => At::ChunkSize,
                    None | Some(0) => At::RequestLine,
                    Some(length) => At::Body(length),
                };
            }
            At::Fields => {
                self.head += line.len();
                if self.head > MAX_HEAD {
                    return Err(Refused::HeadTooLarge);
                }
                return self.field(line);
            }
            At::ChunkSize => self.at = chunk(line),
            At::Trailers if line.is_empty() => self.at = At::RequestLine,
            At::Trailers => {}
            At::Body(_) | At::Chunk(_) | At::Lost | At::Off => unreachable!("bug: no lines there"),
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Refused> {
        if let Some(value) = value_of(line, CONTENT_LENGTH) {
            let told = self.length.is_some() || self.chunked;
            self.length = digits(value);
            if told || self.length.is_none() {
                return Err(Refused::Length);
            }
        } else if let Some(value) = value_of(line, TRANSFER_ENCODING) {
            if self.length.is_some() {
                return Err(Refused::Length);
            }
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refused::Coding);
            }
            self.chunked = true;
        }
        Ok(())
    }
}

const CONTENT_LENGTH: &[u8] = b"content-length:";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";

fn is_framing(line: &[u8]) -> bool {
    value_of(line, CONTENT_LENGTH).is_some() || value_of(line, TRANSFER_ENCODING).is_some()
}

/// No more than a part of a chunk's size: zeros before it may be any number.
fn is_number(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_hexdigit)
}

/// The value, if the line is the field `name` (lower case, with its colon).
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    // Nearly every other field differs in its first letter or its length.
    if line.first()? | 0x20 != name[0] || *line.get(name.len() - 1)? != b':' {
        return None;
    }
    let (given, value) = line.split_at(name.len());
    given.eq_ignore_ascii_case(name).then(|| trim(value))
}

/// Optional whitespace is blanks and tabs, nothing else (RFC 9110 §5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |n, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

/// What follows a chunk's size line. One that hyper will not take is its to refuse.
fn chunk(line: &[u8]) -> At {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let size = std::str::from_utf8(&line[..digits]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
    match size {
        Some(0) => At::Trailers,
        // Nobody gets to the end of one that has no room for two bytes more.
        Some(size) => At::Chunk(size.saturating_add(LINE_END)),
        None => At::Lost,
    }
}

// === impl Refused ===

impl Refused {
    /// For the client.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BareLineFeed => "a line of the request ends without a carriage return",
            Self::Length => "the request tells its body's length more than once, or not as a number",
            Self::Coding => "the request's Transfer-Encoding is not `chunked`",
            Self::TargetTooLong => "the request's target is too long",
            Self::HeadTooLarge => "the request's head is too large",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `text` in pieces of `n` bytes.
    fn fed(text: &[u8], n: usize) -> (Framing, Result<(), Refused>) {
        let mut framing = Framing::default();
        let result = text.chunks(n).try_for_each(|piece| framing.read(piece));
        (framing, result)
    }

    fn each_way(text: &str, check: impl Fn(&Framing, Result<(), Refused>)) {
        for n in [1, 2, 3, 7, 1 << 20] {
            let (framing, result) = fed(text.as_bytes(), n);
            check(&framing, result);
        }
    }

    #[test]
    fn heads_are_found_behind_bodies_of_all_kinds() {
        let text = "\r\nPOST / HTTP/1.1\r\nContent-LENGTH:\t 5 \r\n\r\na\nb\nc\
                    GET / HTTP/1.1\r\nhost: a\r\n\r\n\
                    POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n3;x=\"y\"\r\n\n\n\n\r\n0\r\nt: u\r\n\r\n\
                    PUT / HTTP/1.1\r\ncontent-length: 0\r\n\r\n";
        each_way(text, |framing, result| {
            assert_eq!((result, framing.heads()), (Ok(()), 4));
            assert!(framing.is_at_rest());
        });
        each_way("GET / HTTP/1.1\r\nhost: a\r\n", |framing, _| assert!(framing.is_in_head()));
        each_way("POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\na", |framing, _| {
            assert!(!framing.is_in_head() && !framing.is_at_rest());
        });
    }

    #[test]
    fn what_two_parsers_may_read_differently_is_refused() {
        let first = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        for (fields, why) in [
            ("a: b\nc: d\r\n", Refused::BareLineFeed),
            ("content-length: 1\r\ncontent-length: 1\r\n", Refused::Length),
            ("content-length: 1\r\ntransfer-encoding: chunked\r\n", Refused::Length),
            ("transfer-encoding: chunked\r\ncontent-length: 1\r\n", Refused::Length),
            ("content-length: +1\r\n", Refused::Length),
            ("content-length:\r\n", Refused::Length),
            ("content-length: 18446744073709551616\r\n", Refused::Length),
            ("transfer-encoding: xchunked\r\n", Refused::Coding),
            ("transfer-encoding: gzip, chunked\r\n", Refused::Coding),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", Refused::Coding),
        ] {
            each_way(&format!("{first}POST / HTTP/1.1\r\n{fields}\r\n"), |framing, result| {
                assert_eq!((result, framing.heads()), (Err(why), 1), "{fields:?}");
            });
        }
        each_way("GET / HTTP/1.1\nhost: a\n\n", |_, result| {
            assert_eq!(result, Err(Refused::BareLineFeed));
        });
        let cut = format!("POST / HTTP/1.1\r\ncontent-length:{}1\r\n", " ".repeat(KEPT));
        assert_eq!(fed(cut.as_bytes(), 50).1, Err(Refused::Length));
    }

    #[test]
    fn a_line_feed_in_trailers_is_pointed_at() {
        let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
        for (trailers, at) in [("0\r\n\n", 3), ("0\r\na: b\n\r\n", 7), ("0\r\na: b\r\n\n", 9)] {
            let mut framing = Framing::default();
            assert_eq!(framing.read(head.as_bytes()), Ok(()));
            assert_eq!(framing.read(trailers.as_bytes()), Err(Refused::BareLineFeed));
            assert_eq!((framing.spoilt(), framing.spoilt()), (Some(at), None), "{trailers:?}");
        }
        each_way("GET / HTTP/1.1\nhost: a\n\n", |framing, _| assert_eq!(framing.spoilt, None));
    }

    #[test]
    fn a_size_with_many_zeros_is_not_taken_for_the_last_one() {
        let chunked = |size: &str| {
            format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{size}\r\nabc\r\n0\r\n\r\n")
        };
        let zeros = chunked(&format!("{}3", "0".repeat(2 * KEPT)));
        assert_eq!(fed(zeros.as_bytes(), usize::MAX).1, Ok(()));
        assert_eq!(fed(zeros.as_bytes(), 50).1, Err(Refused::Length));
        each_way(&chunked("ffffffffffffffff"), |framing, result| {
            assert_eq!((result, framing.is_in_head(), framing.is_at_rest()), (Ok(()), false, false));
        });
        each_way(&chunked(&format!("3;{}", "x".repeat(2 * KEPT))), |framing, result| {
            assert_eq!((result, framing.is_at_rest()), (Ok(()), true));
        });
    }

    #[test]
    fn a_request_line_ends_somewhere() {
        let text = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_TARGET + 100));
        assert_eq!(fed(text.as_bytes(), 1000).1, Err(Refused::TargetTooLong));
        assert_eq!(fed(text.as_bytes(), 1 << 20).1, Ok(()), "a whole one is looked at by the server");
    }

    #[test]
    fn a_head_has_a_size() {
        let text = |length: usize| format!("GET / HTTP/1.1\r\na: {}\r\nb: c\r\n\r\n", "x".repeat(length));
        for n in [1000, 1 << 20] {
            assert_eq!(fed(text(MAX_HEAD - 100).as_bytes(), n).1, Ok(()));
            assert_eq!(fed(text(MAX_HEAD).as_bytes(), n).1, Err(Refused::HeadTooLarge));
        }
    }

    #[test]
    fn http2_is_not_followed() {
        each_way("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\n", |framing, result| {
            assert_eq!(result, Ok(()));
            assert!(framing.is_off() && !framing.is_in_head());
        });
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in "(GET / HTTP/1.1\r\n|a: b\r\n|content-length: 3\r\n|\r\n|\n|xyz|transfer-encoding: chunked\r\n|2\r\n|0\r\n){0,12}", n in 1_usize..9) {
            let (whole, in_pieces) = (fed(text.as_bytes(), usize::MAX), fed(text.as_bytes(), n));
            prop_assert_eq!(whole.1, in_pieces.1);
            prop_assert_eq!(whole.0.at, in_pieces.0.at);
            prop_assert_eq!(whole.0.heads, in_pieces.0.heads);
        }
    }
}

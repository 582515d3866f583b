//! A second reading of HTTP/1.1 requests, by the letter of RFC 9112 and nothing beyond it: what this reads, every
//! server reads the same. Made to be compared with, so it is slow, plain, and shares no code with what it judges.

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its method.
    pub method: Vec<u8>,
    /// Its target, as it was sent.
    pub target: Vec<u8>,
    /// HTTP/1.0 otherwise.
    pub http_11: bool,
    /// Names in lower case, values without the blanks around them.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Without chunks' sizes.
    pub body: Vec<u8>,
    /// Of a chunked body.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why there is no further message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Exactly behind one.
    Clean,
    /// In the middle of one, of which nothing is wrong so far; with its head complete or not.
    Cut {
        /// The end is behind the head.
        head: bool,
    },
    /// The next one can be read in more than one way, or in none.
    Wrong {
        /// Its head is sound: the body is not.
        head: bool,
    },
}

/// All of what is read, and of a message whose body is cut or wrong, its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Complete ones.
    pub messages: Vec<Message>,
    /// Has no (whole) body.
    pub last_head: Option<Message>,
    /// Why there are no more.
    pub end: End,
}

/// Cut, or wrong.
enum Stop {
    Cut,
    Wrong,
}

enum Length {
    Of(u64),
    Chunked,
}

/// Reads a connection's bytes.
pub fn read(mut bytes: &[u8]) -> Reading {
    let mut reading = Reading { messages: Vec::new(), last_head: None, end: End::Clean };
    loop {
        // RFC 9112 §2.2: empty lines before a request are ignored.
        while let Some(rest) = bytes.strip_prefix(b"\r\n") {
            bytes = rest;
        }
        if bytes.is_empty() {
            return reading;
        }
        let (mut message, length) = match head(&mut bytes) {
            Ok(head) => head,
            Err(Stop::Cut) => return Reading { end: End::Cut { head: false }, ..reading },
            Err(Stop::Wrong) => return Reading { end: End::Wrong { head: false }, ..reading },
        };
        match body(&mut bytes, &mut message, length) {
            Ok(()) => reading.messages.push(message),
            Err(stop) => {
                reading.end = match stop {
                    Stop::Cut => End::Cut { head: true },
                    Stop::Wrong => End::Wrong { head: true },
                };
                reading.last_head = Some(message);
                return reading;
            }
        }
    }
}

fn head(bytes: &mut &[u8]) -> Result<(Message, Length), Stop> {
    let request_line = line(bytes)?;
    let mut parts = request_line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Stop::Wrong);
    };
    let http_11 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err(Stop::Wrong),
    };
    let visible = |byte: &u8| *byte > b' ' && *byte != 0x7f;
    if !is_token(method) || target.is_empty() || !target.iter().all(visible) {
        return Err(Stop::Wrong);
    }
    let fields = fields(bytes)?;
    let message = Message {
        method: method.to_vec(),
        target: target.to_vec(),
        http_11,
        fields,
        body: Vec::new(),
        trailers: Vec::new(),
    };
    let lengths: Vec<&[u8]> = message.all("content-length").collect();
    let codings: Vec<&[u8]> = message.all("transfer-encoding").collect();
    let length = match (&lengths[..], &codings[..]) {
        ([], []) => Length::Of(0),
        ([length], []) => Length::Of(number(length, 10).ok_or(Stop::Wrong)?),
        ([], [coding]) if http_11 && coding.eq_ignore_ascii_case(b"chunked") => Length::Chunked,
        _ => return Err(Stop::Wrong),
    };
    Ok((message, length))
}

fn body(bytes: &mut &[u8], message: &mut Message, length: Length) -> Result<(), Stop> {
    match length {
        Length::Of(length) => message.body = take(bytes, length)?.to_vec(),
        Length::Chunked => loop {
            let line = line(bytes)?;
            let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let (size, extension) = line.split_at(digits);
            let size = number(size, 16).ok_or(Stop::Wrong)?;
            let extension = trim(extension);
            // Of an extension, everybody skips everything.
            if !(extension.is_empty() || extension[0] == b';') {
                return Err(Stop::Wrong);
            }
            if size == 0 {
                message.trailers = fields(bytes)?;
                return Ok(());
            }
            message.body.extend_from_slice(take(bytes, size)?);
            match bytes {
                [b'\r', b'\n', rest @ ..] => *bytes = rest,
                [] | [b'\r'] => return Err(Stop::Cut),
                _ => return Err(Stop::Wrong),
            }
        },
    }
    Ok(())
}

/// Lines up to the empty one.
fn fields(bytes: &mut &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Stop> {
    let mut fields = Vec::new();
    loop {
        let line = line(bytes)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Stop::Wrong)?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        // No blank before the colon, and none before the name: that is a folded line (RFC 9112 §5.1, §5.2).
        if !is_token(name) || !value.iter().all(is_text) {
            return Err(Stop::Wrong);
        }
        fields.push((name.to_ascii_lowercase(), value.to_vec()));
    }
}

/// A line without its end. A CR or LF alone is no end, and nothing else either.
fn line<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Stop> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')).ok_or(Stop::Cut)?;
    match &bytes[end..] {
        [b'\r', b'\n', rest @ ..] => {
            let line = &bytes[..end];
            *bytes = rest;
            Ok(line)
        }
        [b'\r'] => Err(Stop::Cut),
        _ => Err(Stop::Wrong),
    }
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Stop> {
    let length = usize::try_from(length).map_err(|_| Stop::Cut)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Stop::Cut)?;
    *bytes = rest;
    Ok(taken)
}

fn number(digits: &[u8], base: u32) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
    if plain { u64::from_str_radix(digits, base).ok() } else { None }
}

fn is_token(name: &[u8]) -> bool {
    let tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(tchar)
}

/// VCHAR, obs-text, blank or tab (RFC 9110 §5.5).
fn is_text(byte: &u8) -> bool {
    *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(begin, |last| last + 1);
    &value[begin..end]
}

// === impl Message ===

impl Message {
    /// The values of all fields of this (lower-case) name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let named = self.fields.iter().filter(move |(given, _)| given == name.as_bytes());
        named.map(|(_, value)| &value[..])
    }
}

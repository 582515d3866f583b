//! One field of a form (`multipart/form-data`, RFC 7578), found while its bytes still come: audio is uploaded so.

use http::HeaderValue;
use memchr::memmem;

use super::Look;

/// Looks for the value of one field.
#[derive(Debug)]
pub struct Finder {
    field: &'static str,
    /// What stands between parts: `CR LF -- BOUNDARY`.
    delimiter: Vec<u8>,
    state: State,
    /// Where what is being read began.
    from: usize,
    /// How far the end of it was looked for.
    searched: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first part, or within one that is of no interest.
    Skipping,
    /// Behind a delimiter, which may have been the last.
    Delimited,
    /// In a part's head.
    Head,
    /// In the value looked for.
    Value,
}

/// RFC 2046 §5.1.1.
const LONGEST_BOUNDARY: usize = 70;

// === impl Finder ===

impl Finder {
    /// For the value of `field` in a form of this content type. `None` when it is none, or names no boundary.
    pub fn new(field: &'static str, content_type: &HeaderValue) -> Option<Self> {
        let (kind, parameters) = content_type.to_str().ok()?.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parameter(parameters, "boundary")?;
        if boundary.is_empty() || boundary.len() > LONGEST_BOUNDARY {
            return None;
        }
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        Some(Self { field, delimiter, state: State::Skipping, from: 0, searched: 0 })
    }

    /// Goes on in `bytes`, which are all that have come, those of the calls before among them.
    pub fn look<'b>(&mut self, bytes: &'b [u8]) -> Look<'b> {
        loop {
            match self.state {
                State::Skipping | State::Value => {
                    let Some(end) = self.delimiter_in(bytes) else { return Look::More };
                    if self.state == State::Value {
                        return Look::Found(&bytes[self.from..end]);
                    }
                    self.state = State::Delimited;
                }
                State::Delimited => {
                    if bytes[self.from..].starts_with(b"--") {
                        return Look::Absent;
                    }
                    let Some(end) = self.search(bytes, b"\r\n") else { return Look::More };
                    // A head may be empty: its end is two line ends in a row, of which this is the first.
                    (self.from, self.searched, self.state) = (end, end, State::Head);
                }
                State::Head => {
                    let Some(end) = self.search(bytes, b"\r\n\r\n") else { return Look::More };
                    let is_it = is_named(&bytes[self.from..end], self.field);
                    self.state = if is_it { State::Value } else { State::Skipping };
                    // The line end before a delimiter may be the last of the head: a value may be empty.
                    (self.from, self.searched) = (end + 4, end + 2);
                }
            }
        }
    }

    /// Where the next delimiter begins; goes on behind it.
    fn delimiter_in(&mut self, bytes: &[u8]) -> Option<usize> {
        // The very first has no line before it.
        let first = &self.delimiter[2..];
        if self.state == State::Skipping && self.searched == 0 && bytes.starts_with(first) {
            (self.from, self.searched) = (first.len(), first.len());
            return Some(0);
        }
        if self.searched == 0 && first.starts_with(bytes) {
            return None;
        }
        let delimiter = std::mem::take(&mut self.delimiter);
        let found = self.search(bytes, &delimiter);
        if let (Some(begin), State::Skipping) = (found, self.state) {
            self.from = begin + delimiter.len();
            self.searched = self.from;
        }
        self.delimiter = delimiter;
        // In an empty value, the line end belongs to the head before it.
        found.map(|begin| begin.max(if self.state == State::Value { self.from } else { 0 }))
    }

    /// Where `what` begins; remembers how far there is none.
    fn search(&mut self, bytes: &[u8], what: &[u8]) -> Option<usize> {
        let found = memmem::find(bytes.get(self.searched..)?, what).map(|at| self.searched + at);
        if found.is_none() {
            self.searched = self.searched.max((bytes.len() + 1).saturating_sub(what.len()));
        }
        found
    }
}

/// Whether a part's head says that it is this field.
fn is_named(head: &[u8], field: &str) -> bool {
    let Ok(head) = std::str::from_utf8(head) else { return false };
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let disposition = lines.find(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"));
    let parameters = disposition.and_then(|(_, value)| value.split_once(';'));
    parameters.and_then(|(_, parameters)| parameter(parameters, "name")).is_some_and(|name| name == field)
}

/// A parameter's value: a token, or between quotes with `\` before what would end it.
fn parameter(mut text: &str, wanted: &str) -> Option<String> {
    loop {
        let (name, rest) = text.split_once('=')?;
        let mut value = String::new();
        let rest = rest.trim_start();
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut chars = quoted.chars();
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => value.push(chars.next()?),
                    other => value.push(other),
                }
            }
            text = chars.as_str().trim_start().strip_prefix(';').unwrap_or_default();
        } else {
            let (token, more) = rest.split_once(';').unwrap_or((rest, ""));
            token.trim().clone_into(&mut value);
            text = more;
        }
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(form: &[u8], step: usize) -> Option<Vec<u8>> {
        let kind = HeaderValue::from_static("multipart/form-data; charset=utf-8; boundary=\"b-1\"");
        let mut finder = Finder::new("model", &kind).unwrap();
        for end in (step..form.len()).step_by(step).chain([form.len()]) {
            match finder.look(&form[..end]) {
                Look::More => {}
                Look::Found(value) => return Some(value.to_vec()),
                Look::Absent | Look::Bad(_) => return None,
            }
        }
        None
    }

    #[track_caller]
    fn found(form: &str) -> Option<String> {
        let all = find(form.as_bytes(), form.len());
        for step in 1..8 {
            assert_eq!(find(form.as_bytes(), step), all, "by {step}");
        }
        all.map(|value| String::from_utf8(value).unwrap())
    }

    fn part(head: &str, value: &str) -> String {
        format!("--b-1\r\nContent-Disposition: form-data; {head}\r\n\r\n{value}\r\n")
    }

    #[test]
    fn the_field_is_found_among_others() {
        let file = part("name=file; filename=\"a; name=\\\"model\\\"\"", "--b-2\r\n\r\nmodel\r\n--b");
        let form = format!("{file}{}--b-1--\r\n", part("name=\"model\"", "whisper-1"));
        assert_eq!(found(&form).as_deref(), Some("whisper-1"));
        assert_eq!(found(&format!("preamble\r\n{form}")).as_deref(), Some("whisper-1"));
        assert_eq!(found(&format!("{file}--b-1--\r\n{}", part("name=model", "late"))), None);
        assert_eq!(found(&format!("{}{form}", part("name=\"model\"", ""))).as_deref(), Some(""));
    }

    #[test]
    fn only_forms_have_fields() {
        for other in [
            "application/json",
            "multipart/form-data",
            "multipart/mixed; boundary=a",
            "multipart/form-data; boundary=",
        ] {
            assert!(Finder::new("model", &HeaderValue::from_static(other)).is_none(), "{other}");
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24), step in 1_usize..9) {
            let form = pieces.concat();
            prop_assert_eq!(find(form.as_bytes(), step), find(form.as_bytes(), form.len().max(1)));
        }
    }

    const PIECES: [&str; 8] =
        ["\r\n", "--b-1", "--", "Content-Disposition: form-data; name=model", "\r\n\r\n", "x", "-", "\r"];
}
